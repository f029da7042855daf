package request

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// parseIP reads an address with or without a prefix length.
func parseIP(s string) (IP, *Error) {
	host, length, ok := strings.Cut(s, "/")
	addr, err := parseAddr(host)
	if err != nil {
		err.Value = s
		return IP{}, err
	}
	ip := IP{Addr: addr, Bits: -1}
	if !ok {
		return ip, nil
	}
	bits, perr := parseNumber(length)
	if perr != nil || bits < 1 || bits > addr.BitLen() {
		return IP{}, &Error{Value: s, Rule: "must have a prefix length of 1 to " + strconv.Itoa(addr.BitLen())}
	}
	ip.Bits = bits
	return ip, checkHost(netip.PrefixFrom(addr, bits)).as(s)
}

// parseAddr reads the address of one host.
func parseAddr(s string) (netip.Addr, *Error) {
	if s == "" {
		return netip.Addr{}, &Error{Rule: "is empty"}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, &Error{Value: s, Rule: "is not an IP address"}
	}
	rule := ""
	switch {
	case a.Zone() != "":
		rule = "has a zone"
	case a.Is4In6():
		return netip.Addr{}, &Error{Value: s, Rule: "is an IPv4 address in IPv6 dress", Suggestion: a.Unmap().String()}
	case a.IsUnspecified():
		rule = "is the unspecified address"
	case a.IsLoopback():
		rule = "is a loopback address"
	case a.IsMulticast():
		rule = "is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		rule = "is the broadcast address"
	}
	if rule != "" {
		return netip.Addr{}, &Error{Value: s, Rule: rule}
	}
	return a, nil
}

// CheckHost reports, as an [*Error], whether the address of p cannot be a host's
// in the network of p: the network's own address, or its broadcast address.
// Networks of one or two addresses have neither (RFC 3021, RFC 6164).
func CheckHost(p netip.Prefix) error { return asError(checkHost(p)) }

func checkHost(p netip.Prefix) *Error {
	a := p.Addr()
	if p.Bits() >= a.BitLen()-1 {
		return nil
	}
	if a == p.Masked().Addr() {
		return &Error{Value: p.String(), Rule: "is the address of the network, not of a host in it"}
	}
	// IPv6 has no broadcast.
	if a.Is4() && a == lastAddress(p) {
		return &Error{Value: p.String(), Rule: "is the broadcast address of its network"}
	}
	return nil
}

// lastAddress returns the highest address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// ParseAddr reads the address of one host: no zone, not unspecified, loopback,
// multicast, broadcast or IPv4 in IPv6. The error is of type [*Error].
func ParseAddr(s string) (netip.Addr, error) {
	a, err := parseAddr(s)
	return a, asError(err)
}

// parseDestination reads the destination of a route.
func parseDestination(s string) (netip.Prefix, *Error) {
	if s == "" {
		return netip.Prefix{}, &Error{Rule: "is empty"}
	}
	p, err := netip.ParsePrefix(s)
	if err == nil {
		return p, checkDestination(p).as(s)
	}
	if a, err := parseAddr(s); err == nil {
		host := netip.PrefixFrom(a, a.BitLen()).String()
		return netip.Prefix{}, &Error{Value: s, Rule: "has no prefix length", Suggestion: host}
	}
	return netip.Prefix{}, &Error{Value: s, Rule: `is not a network such as "10.1.0.0/16"`}
}

// checkDestination takes only a network's own address.
func checkDestination(p netip.Prefix) *Error {
	switch {
	case p.Addr().Is4In6():
		return &Error{Value: p.String(), Rule: "is an IPv4 network in IPv6 dress"}
	case p.Masked() != p:
		return &Error{
			Value: p.String(), Rule: "is an address in a network, not the network",
			Suggestion: p.Masked().String(),
		}
	case p.Addr().IsLoopback():
		return &Error{Value: p.String(), Rule: "is in the loopback network"}
	}
	return nil
}

// as shows the value as it was written.
func (e *Error) as(s string) *Error {
	if e != nil {
		e.Value = s
	}
	return e
}

func parseMAC(s string) (net.HardwareAddr, *Error) {
	if s == "" {
		return nil, &Error{Rule: "is empty"}
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return nil, &Error{Value: s, Rule: `is not a MAC address such as "52:54:0e:e5:00:f7"`}
	}
	if mac[0]&1 != 0 {
		return nil, &Error{Value: s, Rule: "is a multicast MAC address"}
	}
	if [6]byte(mac) == ([6]byte{}) {
		return nil, &Error{Value: s, Rule: "is the zero MAC address"}
	}
	return mac, nil
}

// CheckInterface reports, as an [*Error], whether the kernel would not take name
// for a network interface, or not as it is.
func CheckInterface(name string) error { return asError(checkInterface(name)) }

// checkInterface follows dev_valid_name() of net/core/dev.c. Beyond that, "%"
// is a template there ("net%d"), "all" and "default" would take the place of
// the sysctls of these names (the kernel answers EINVAL), and what is not
// printable ASCII would fool whoever reads a listing.
func checkInterface(name string) *Error {
	refuse := func(rule string) *Error { return &Error{Value: name, Rule: rule} }
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > 15:
		return refuse("is longer than the 15 bytes of an interface name")
	case name == "." || name == ".." || name == "all" || name == "default":
		return refuse("is no name that the kernel allows for an interface")
	case name == "lo":
		return refuse("is the name of the loopback interface")
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '/' || c == ':' || c == '%' {
			return refuse(`must be printable ASCII without space, "/", ":" and "%"`)
		}
	}
	return nil
}

// CheckPool reports, as an [*Error], whether name cannot be the name of a pool:
// 1 to 63 letters, digits, ".", "_" and "-", the first one a letter or digit.
func CheckPool(name string) error { return asError(checkPool(name)) }

func checkPool(name string) *Error {
	if name == "" {
		return &Error{Rule: "is empty"}
	}
	ok := len(name) <= 63
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && (c == '.' || c == '_' || c == '-'))
	}
	if !ok {
		return &Error{Value: name, Rule: `is no pool's name: 1 to 63 letters, digits, ".", "_" and "-", the first one a letter or digit`}
	}
	return nil
}
