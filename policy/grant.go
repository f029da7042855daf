package policy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"candor.dev/candor/request"
)

// Grant is a NIC that a container gets, with the pool's defaults filled in.
type Grant struct {
	Pool Pool
	// Interface is the NIC's name in the container.
	Interface string
	// MAC selects the NIC among those of a hostnic pool. In a vf pool it is what
	// the VF gets; nil leaves it as it is.
	MAC net.HardwareAddr
	// Addresses the NIC gets; with none, KeepAddresses is set: it keeps
	// those that it had on the host.
	Addresses     []netip.Prefix
	KeepAddresses bool
	// Gateways holds at most one of each family.
	Gateways []netip.Addr
	// DefaultRoute gives Gateways the metric of an engine's own route.
	DefaultRoute bool
	Routes       []request.Route
	// MTU in bytes; 0 leaves it as it is.
	MTU int
	// Promisc and AllMulti are nil where they are left as they are.
	Promisc, AllMulti *bool
	// VF is nil for a NIC of a hostnic pool.
	VF *VF
}

// Unusable puts in front of the error of a policy that could not be loaded what
// cannot be granted for it, and to whom.
func Unusable(caller string, r request.Request, err error) error {
	if r.Asked() == "" {
		return err
	}
	return fmt.Errorf("%s for caller %s: %w", r.Asked(), plain(caller), err)
}

// GrantNIC decides whether the caller gets a NIC, and which one. The error, a
// [*DeniedError], is one line with the pool, the caller and the file to look at.
func (p *Policy) GrantNIC(caller string, n request.NIC) (Grant, error) {
	pool, err := p.pool(caller, n.Pool)
	if err == nil {
		err = pool.checkRequest(n)
	}
	var g Grant
	if err == nil {
		g, err = pool.grant(n)
	}
	if err != nil {
		file := pool.File
		if file == "" {
			file = p.Path
		}
		return Grant{}, &DeniedError{fmt.Errorf("pool %s for caller %s: %w (policy %s)", plain(n.Pool), plain(caller), err, file)}
	}
	return g, nil
}

// GrantLimit decides whether the caller may ask for an egress limit of r. The
// error, a [*DeniedError], is one line with the caller and the file to look at.
func (p *Policy) GrantLimit(caller string, r request.Rate) error {
	switch {
	case caller == "":
		return &DeniedError{fmt.Errorf("egress limit %s: %w (policy %s)", r, errNoCaller, p.Path)}
	case p.Egress.MaxLimit != 0 && r > p.Egress.MaxLimit:
		return &DeniedError{fmt.Errorf("egress limit %s for caller %s: the node's max_limit is %s (policy %s)",
			r, plain(caller), p.Egress.MaxLimit, p.Path)}
	}
	return nil
}

var errNoCaller = errors.New("nobody says who asks (--caller is missing), and without a caller nothing is granted")

// pool returns the pool that the caller may use. Of those that it may not use,
// it learns no more than it asked for by name.
func (p *Policy) pool(caller, name string) (Pool, error) {
	if caller == "" {
		return Pool{}, errNoCaller
	}
	if p.Missing {
		return Pool{}, errors.New("there is no policy, and without one nothing is granted")
	}
	pool, ok := p.Pools[name]
	if !ok {
		return Pool{}, p.unknownPool(caller, name)
	}
	if !pool.allows(caller) {
		return pool, errors.New("the caller is not allowed to use the pool")
	}
	return pool, nil
}

func (p *Policy) unknownPool(caller, name string) error {
	var usable []string
	for _, pool := range p.Pools {
		if pool.allows(caller) {
			usable = append(usable, pool.Name)
		}
	}
	slices.Sort(usable)
	if len(usable) == 0 {
		return errors.New("there is no such pool, and the caller may use none of those that there are")
	}
	if near := request.Nearest(name, usable); near != "" {
		return fmt.Errorf("there is no such pool; did you mean %q?", near)
	}
	return fmt.Errorf("there is no such pool; the caller may use %s", strings.Join(usable, ", "))
}

func (pool Pool) allows(caller string) bool { return matches(pool.Allow, caller) }

func matches(globs []string, text string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, text)
		return err == nil && ok
	})
}

// checkRequest refuses what makes no sense for a NIC of the pool's kind, and what
// the pool does not permit.
func (pool Pool) checkRequest(n request.NIC) error {
	// The grammar has no zones; in another request's error one would be text
	// that nobody has looked at.
	for _, ip := range n.IPs {
		if ip.Addr.Zone() != "" {
			return errors.New("an address with a zone means nothing in a container")
		}
	}
	if pool.Kind == KindVF {
		if err := pool.checkPermits(n); err != nil {
			return err
		}
		return pool.checkAssigned(n.MAC)
	}
	for _, f := range []struct {
		name  string
		asked bool
	}{
		{"vlan", n.VLAN != nil},
		{"qos", n.QoS != nil},
		{"proto", n.Proto != ""},
		{"spoofchk", n.SpoofChk != nil},
		{"trust", n.Trust != nil},
		{"link-state", n.LinkState != ""},
		{"min-tx-rate", n.MinTxRate != 0},
		{"max-tx-rate", n.MaxTxRate != 0},
		{"best-effort", n.BestEffort},
	} {
		if f.asked {
			return fmt.Errorf("%q can be asked only of a %s pool, and this one is of kind %s", f.name, KindVF, pool.Kind)
		}
	}
	if len(n.MAC) == 0 {
		return fmt.Errorf("no selector: a request to a %s pool says by \"mac\" which NIC it wants", pool.Kind)
	}
	return pool.checkPermits(n)
}

func (pool Pool) grant(n request.NIC) (Grant, error) {
	g := Grant{
		Pool: pool, Interface: n.Interface, MAC: n.MAC, KeepAddresses: len(n.IPs) == 0 && pool.Kind == KindHostNIC,
		Gateways: n.Gateway, DefaultRoute: n.DefaultRoute, Routes: n.Routes, MTU: n.MTU, Promisc: n.Promisc, AllMulti: n.AllMulti,
	}
	if pool.Kind == KindVF {
		var err error
		if g.VF, err = pool.grantVF(n); err != nil {
			return Grant{}, err
		}
	}
	for _, ip := range n.IPs {
		a, err := pool.address(ip)
		if err != nil {
			return Grant{}, err
		}
		g.Addresses = append(g.Addresses, a)
	}
	if g.MTU == 0 {
		g.MTU = pool.MTU
	}
	g = g.WithDefaults(g.Addresses)
	// Of a NIC that keeps its addresses it is not known yet.
	if g.DefaultRoute && len(g.Gateways) == 0 && !g.KeepAddresses {
		return Grant{}, errors.New(`"default-route" needs a gateway: neither the request nor the pool gives one for these addresses`)
	}
	return g, nil
}

// WithDefaults returns the grant with the pool's gateways and routes for a NIC
// with the given addresses, each where the request asked for none. [GrantNIC]
// has done that for the addresses that were asked for; it is left to do for a
// NIC that keeps those of the host, which only then are known.
func (g Grant) WithDefaults(addresses []netip.Prefix) Grant {
	if len(g.Gateways) == 0 {
		g.Gateways = g.Pool.gatewaysFor(addresses)
	}
	if len(g.Routes) == 0 {
		g.Routes = g.Pool.routesFor(addresses)
	}
	return g
}

// address checks an address against the pool's subnets and returns it with its
// prefix length.
func (pool Pool) address(ip request.IP) (netip.Prefix, error) {
	if len(pool.Subnets) == 0 {
		return netip.Prefix{}, fmt.Errorf("address %s: the pool has no subnets, so that no address can be asked for", ip)
	}
	subnet, ok := pool.subnetOf(ip.Addr)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("address %s is outside the pool's subnets (%s)", ip, join(pool.Subnets))
	}
	bits := ip.Bits
	switch {
	case bits < 0 && subnet.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("address %s has no prefix length, and the pool's subnet %s gives none", ip, subnet)
	case bits < 0:
		bits = subnet.Bits()
	case !slices.ContainsFunc(pool.Subnets, func(s netip.Prefix) bool { return s.Contains(ip.Addr) && s.Bits() <= bits }):
		// It would make addresses outside the pool neighbours of the NIC.
		return netip.Prefix{}, fmt.Errorf("address %s reaches beyond the pool's subnet %s", ip, subnet)
	}
	a := netip.PrefixFrom(ip.Addr, bits)
	if err := request.CheckHost(a); err != nil {
		return netip.Prefix{}, fmt.Errorf("address %w", err)
	}
	routers := slices.Clone(pool.Gateways)
	for _, r := range pool.Routes {
		routers = append(routers, r.GW)
	}
	if slices.Contains(routers, ip.Addr) {
		return netip.Prefix{}, fmt.Errorf("address %s is a gateway of the pool", ip)
	}
	return a, nil
}

// subnetOf returns the pool's narrowest subnet that holds the address.
func (pool Pool) subnetOf(a netip.Addr) (best netip.Prefix, ok bool) {
	for _, s := range pool.Subnets {
		if s.Contains(a) && (!ok || s.Bits() > best.Bits()) {
			best, ok = s, true
		}
	}
	return best, ok
}

// reaches reports whether a NIC with the address reaches a router of the pool
// on the wire: its prefix holds the router, or they share a subnet, or the
// router is known by its IPv6 link-local address, as in any subnet.
func (pool Pool) reaches(address netip.Prefix, router netip.Addr) bool {
	a := address.Addr()
	subnet, ok := pool.subnetOf(a)
	if router.Is6() && router.IsLinkLocalUnicast() {
		return ok && a.Is6()
	}
	// A subnet of all addresses is a permission, and no wire.
	return address.Contains(router) || ok && subnet.Bits() > 0 && subnet.Contains(router)
}

// gatewaysFor returns the first gateway of each family that is reached from the
// addresses.
func (pool Pool) gatewaysFor(addresses []netip.Prefix) (out []netip.Addr) {
	var has4, has6 bool
	for _, gw := range pool.Gateways {
		if gw.Is4() && has4 || gw.Is6() && has6 {
			continue
		}
		if slices.ContainsFunc(addresses, func(a netip.Prefix) bool { return pool.reaches(a, gw) }) {
			out = append(out, gw)
			has4, has6 = has4 || gw.Is4(), has6 || gw.Is6()
		}
	}
	return out
}

// routesFor returns the pool's routes that can be used from the addresses.
func (pool Pool) routesFor(addresses []netip.Prefix) (out []request.Route) {
	for _, r := range pool.Routes {
		if slices.ContainsFunc(addresses, func(a netip.Prefix) bool {
			return a.Addr().Is4() == r.Dst.Addr().Is4() && (!r.GW.IsValid() || pool.reaches(a, r.GW))
		}) {
			out = append(out, r)
		}
	}
	return out
}

func join(subnets []netip.Prefix) string {
	texts := make([]string, len(subnets))
	for i, s := range subnets {
		texts[i] = s.String()
	}
	return strings.Join(texts, ", ")
}

// plain keeps an error one line, whatever the caller is called.
func plain(s string) string {
	if s == "" {
		return "(none)"
	}
	if quoted := strconv.QuoteToASCII(s); quoted != `"`+s+`"` || strings.Contains(s, " ") {
		return quoted
	}
	return s
}
