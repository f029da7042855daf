package nic

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where the node's own traffic would go: documentation addresses (RFC 5737, RFC
// 3849), which no interface has. Asking the kernel for a route sends nothing.
var (
	somewhereV4 = net.IPv4(192, 0, 2, 1)
	somewhereV6 = net.ParseIP("2001:db8::1")
)

// refusedKind says why a link of its kind is never given away, or "". Kinds that
// are accepted are hardware with Ethernet addresses, veth and macvlan; the
// latter two die with a namespace that nobody pins.
func refusedKind(link netlink.Link) string {
	switch kind := kindOf(link); kind {
	case "veth", "macvlan":
		return ""
	case "":
		if encap := link.Attrs().EncapType; encap != "ether" {
			return fmt.Sprintf("its link type is %s, not ether", encap)
		}
		return ""
	default:
		return fmt.Sprintf("it is a virtual interface of kind %s", kind)
	}
}

// situation is what surrounds a link on the host.
type situation struct {
	link      netlink.Link
	links     []netlink.Link
	addresses []netip.Addr
	routes    []netlink.Route
	// sources are the addresses with which the node itself speaks to the
	// world.
	sources []netip.Addr
}

// refusal says why the host cannot spare the link, or "".
func (s *situation) refusal() string {
	attrs := s.link.Attrs()
	if attrs.Flags&net.FlagLoopback != 0 {
		return "it is a loopback interface"
	}
	if reason := refusedKind(s.link); reason != "" {
		return reason
	}
	if attrs.MasterIndex != 0 {
		return fmt.Sprintf("it belongs to %s", s.nameOf(attrs.MasterIndex))
	}
	if attrs.Xdp != nil && attrs.Xdp.Attached {
		return "an XDP program is attached to it"
	}
	if upper := s.upper(); upper != "" {
		return fmt.Sprintf("%s sits on top of it", upper)
	}
	for _, r := range s.routes {
		if isDefault(r) && (r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_DEFAULT) {
			return "it carries the host's default route"
		}
	}
	for _, a := range s.addresses {
		if slices.Contains(s.sources, a) {
			return fmt.Sprintf("it has the node's own address %s", a)
		}
	}
	for _, r := range s.routes {
		if len(r.MultiPath) > 0 {
			return fmt.Sprintf("it is a part of the multipath route to %s", r.Dst)
		}
		if kept(r) && !restorable(r) {
			return fmt.Sprintf("its route to %s has attributes that could not be put back", r.Dst)
		}
	}
	return ""
}

func (s *situation) nameOf(index int) string {
	for _, l := range s.links {
		if l.Attrs().Index == index {
			return l.Attrs().Name
		}
	}
	return fmt.Sprintf("interface %d", index)
}

// upper is the name of an interface that sits on the link, such as a vlan or
// macvlan, or "". A link whose parent is in another namespace has that
// namespace's id; a veth's "parent" is its peer.
func (s *situation) upper() string {
	attrs := s.link.Attrs()
	for _, l := range s.links {
		a := l.Attrs()
		if a.ParentIndex == attrs.Index && a.Index != attrs.Index && a.NetNsID < 0 && kindOf(l) != "veth" {
			return a.Name
		}
	}
	return ""
}

// isDefault reports whether a route is a default route, or one half of it as
// VPNs install them.
func isDefault(r netlink.Route) bool {
	if r.Type != unix.RTN_UNICAST {
		return false
	}
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 || (ones == 1 && r.Dst.IP.To4() != nil)
}

// refusalOf says why the host cannot spare a link with these addresses and routes,
// or "".
func refusalOf(host *Namespace, link netlink.Link, addresses []address, routes []netlink.Route) (string, error) {
	var addrs []netip.Addr
	for _, a := range addresses {
		addrs = append(addrs, a.Prefix.Addr())
	}
	around, err := survey(host, link, addrs, routes)
	if err != nil {
		return "", err
	}
	return around.refusal(), nil
}

// survey gathers what refusal has to know.
func survey(host *Namespace, link netlink.Link, addresses []netip.Addr, routes []netlink.Route) (*situation, error) {
	s := &situation{link: link, addresses: addresses, routes: routes}
	var err error
	if s.links, err = host.links(); err != nil {
		return nil, err
	}
	for _, to := range []net.IP{somewhereV4, somewhereV6} {
		// An error is the kernel's way to say that there is no route.
		found, err := host.handle.RouteGet(to)
		if err != nil {
			continue
		}
		for _, r := range found {
			if a, ok := netip.AddrFromSlice(r.Src); ok {
				s.sources = append(s.sources, a)
			}
		}
	}
	return s, nil
}
