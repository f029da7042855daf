package policy

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"candor.dev/candor/request"
)

// maxStateDir leaves room for "/candord.sock" and a transient suffix in the 108
// bytes of a Unix socket's path.
const maxStateDir = 80

// merge checks what a file says and adds it to the policy.
func (p *Policy) merge(file string, s settings) error {
	refuse := func(key, format string, args ...any) error {
		return fmt.Errorf("config %s: %s: %w", file, key, fmt.Errorf(format, args...))
	}
	if s.StateDir != nil {
		dir := *s.StateDir
		switch {
		case !filepath.IsAbs(dir):
			return refuse("state_dir", "%q is not an absolute path", dir)
		case filepath.Clean(dir) == "/":
			return refuse("state_dir", "%q is the root directory", dir)
		case len(dir) > maxStateDir:
			return refuse("state_dir", "%q is longer than %d bytes: sockets lie in it", dir, maxStateDir)
		}
		p.StateDir = filepath.Clean(dir)
	}
	if s.BinDir != nil {
		if *s.BinDir != "" && !filepath.IsAbs(*s.BinDir) {
			return refuse("bin_dir", "%q is not an absolute path", *s.BinDir)
		}
		if p.BinDir = *s.BinDir; p.BinDir != "" {
			p.BinDir = filepath.Clean(p.BinDir)
		}
	}
	if v := s.ResourceView.Enabled; v != nil {
		p.ResourceView.Enabled = *v
	}
	if v := s.ResourceView.Required; v != nil {
		p.ResourceView.Required = *v
	}
	if v := s.ResourceView.Pressure; v != nil {
		p.ResourceView.Pressure = *v
	}
	for _, r := range []struct {
		key  string
		from *string
		to   *request.Rate
	}{{"egress.max_limit", s.Egress.MaxLimit, &p.Egress.MaxLimit}, {"egress.capacity", s.Egress.Capacity, &p.Egress.Capacity}} {
		if r.from == nil {
			continue
		}
		v, err := request.ParseRate(*r.from)
		if err != nil {
			return refuse(r.key, "%w", err)
		}
		*r.to = v
	}
	if v := s.Egress.Uplink; v != nil {
		if *v != "" {
			if err := request.CheckInterface(*v); err != nil {
				return refuse("egress.uplink", "%w", err)
			}
		}
		p.Egress.Uplink = *v
	}
	if v := s.Metrics.Listen; v != nil {
		listen, err := checkListen(*v)
		if err != nil {
			return refuse("metrics.listen", "%w", err)
		}
		p.Metrics.Listen = listen
	}
	for _, name := range slices.Sorted(maps.Keys(s.Pools)) {
		if err := request.CheckPool(name); err != nil {
			return refuse("pools", "%w", err)
		}
		if other, ok := p.Pools[name]; ok {
			return fmt.Errorf("config %s: pool %s is defined in %s already", file, name, other.File)
		}
		checked, err := s.Pools[name].check()
		if err != nil {
			return fmt.Errorf("config %s: pools.%s.%w", file, name, err)
		}
		checked.Name, checked.File = name, file
		p.Pools[name] = checked
	}
	return nil
}

// checkListen takes an address and a port; "" is neither. A name could come to mean
// another address, and a missing one would mean all.
func checkListen(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, nil
	}
	listen, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf(`%q is not an IP address with a port, such as "127.0.0.1:9464"`, text)
	case listen.Port() == 0:
		return netip.AddrPort{}, fmt.Errorf("%q has no port that could be asked", text)
	case listen.Addr().Is4In6():
		return netip.AddrPort{}, fmt.Errorf("%q is an IPv4 address in IPv6 dress", text)
	}
	return listen, nil
}

// check makes a Pool of what the file says. Its errors begin with the key.
func (s poolSettings) check() (Pool, error) {
	pool := Pool{Kind: s.Kind, Names: s.Names, PCI: s.PCI, Drivers: s.Drivers, Permit: s.Permit, Allow: s.Allow}
	err := s.checkKind()
	if err != nil {
		return Pool{}, err
	}
	if pool.VF, err = s.vfPool(); err != nil {
		return Pool{}, err
	}
	for _, l := range []struct {
		key   string
		globs []string
	}{{"macs", s.MACs}, {"names", s.Names}, {"pci", s.PCI}, {"drivers", s.Drivers}, {"allow", s.Allow}} {
		for _, g := range l.globs {
			if err := checkGlob(g); err != nil {
				return Pool{}, fmt.Errorf("%s: %w", l.key, err)
			}
		}
	}
	for _, g := range s.MACs {
		mac, err := checkMAC(g)
		if err != nil {
			return Pool{}, fmt.Errorf("macs: %w", err)
		}
		pool.MACs = append(pool.MACs, mac)
	}
	for _, word := range s.Permit {
		if err := checkPermit(word); err != nil {
			return Pool{}, fmt.Errorf("permit: %w", err)
		}
	}
	for _, g := range s.Allow {
		if err := checkAllow(g); err != nil {
			return Pool{}, fmt.Errorf("allow: %w", err)
		}
	}
	for _, text := range s.Subnets {
		subnet, err := checkSubnet(text)
		if err != nil {
			return Pool{}, fmt.Errorf("subnets: %w", err)
		}
		if slices.Contains(pool.Subnets, subnet) {
			return Pool{}, fmt.Errorf("subnets: %q is given twice", text)
		}
		pool.Subnets = append(pool.Subnets, subnet)
	}
	for _, text := range s.Gateways {
		gw, err := request.ParseAddr(text)
		if err == nil {
			err = pool.checkGateway(gw)
		}
		if err != nil {
			return Pool{}, fmt.Errorf("gateways: %w", err)
		}
		if slices.Contains(pool.Gateways, gw) {
			return Pool{}, fmt.Errorf("gateways: %q is given twice", text)
		}
		pool.Gateways = append(pool.Gateways, gw)
	}
	for _, r := range s.Routes {
		route, err := request.ParseRoute(r.Dst, r.GW, r.Metric, r.Table)
		if err == nil && route.GW.IsValid() {
			err = pool.checkGateway(route.GW)
		}
		if err != nil {
			return Pool{}, fmt.Errorf("routes: %w", err)
		}
		if slices.ContainsFunc(pool.Routes, route.Collides) {
			return Pool{}, fmt.Errorf("routes: %q is given twice", r.Dst)
		}
		pool.Routes = append(pool.Routes, route)
	}
	if s.MTU != nil {
		lowest := int64(68)
		if slices.ContainsFunc(pool.Subnets, func(n netip.Prefix) bool { return n.Addr().Is6() }) {
			lowest = 1280 // RFC 8200
		}
		if *s.MTU < lowest || *s.MTU > 65535 {
			return Pool{}, fmt.Errorf("mtu: %d must be %d to 65535", *s.MTU, lowest)
		}
		pool.MTU = int(*s.MTU)
	}
	if s.Wait != nil {
		wait, err := checkWait(*s.Wait)
		if err != nil {
			return Pool{}, fmt.Errorf("wait: %w", err)
		}
		pool.Wait = wait
	}
	return pool, nil
}

// checkKind checks that the pool says which devices it is made of, by the keys
// of its kind and by no others.
func (s poolSettings) checkKind() error {
	kinds := []string{KindHostNIC, KindVF}
	switch s.Kind {
	case KindHostNIC:
		for _, k := range []struct {
			key   string
			given bool
		}{
			{"pfs", len(s.PFs) > 0},
			{"numvfs", s.NumVFs != nil},
			{"vlan", s.VLAN != nil},
			{"vlans", len(s.VLANs) > 0},
			{"min_tx_rate", s.MinTxRate != ""},
			{"max_tx_rate", s.MaxTxRate != ""},
		} {
			if k.given {
				return fmt.Errorf("%s: is for kind %q, and this pool is of kind %q", k.key, KindVF, KindHostNIC)
			}
		}
		if len(s.MACs)+len(s.Names)+len(s.PCI)+len(s.Drivers) == 0 {
			return fmt.Errorf("kind: a %s pool needs one of macs, names, pci, drivers: without them it holds no NIC", KindHostNIC)
		}
	case KindVF:
		if len(s.PFs) == 0 {
			return fmt.Errorf("kind: a %s pool needs pfs: without them it holds no NIC", KindVF)
		}
		if s.Wait != nil {
			return fmt.Errorf("wait: is for kind %q, and this pool is of kind %q", KindHostNIC, KindVF)
		}
		if len(s.Names)+len(s.PCI) > 0 {
			return fmt.Errorf("kind: names and pci are for kind %q, and this pool is of kind %q: it has pfs", KindHostNIC, KindVF)
		}
	case "":
		return fmt.Errorf("kind: is missing: one of %s", strings.Join(kinds, ", "))
	default:
		if near := request.Nearest(s.Kind, kinds); near != "" {
			return fmt.Errorf("kind: %q is unknown; did you mean %q?", s.Kind, near)
		}
		return fmt.Errorf("kind: %q is unknown: one of %s", s.Kind, strings.Join(kinds, ", "))
	}
	return nil
}

func checkGlob(g string) error {
	if g == "" {
		return fmt.Errorf("a pattern is empty, and would match nothing")
	}
	if _, err := path.Match(g, ""); err != nil {
		return fmt.Errorf("%q is a malformed pattern", g)
	}
	return nil
}

const meta = `*?[\`

// checkMAC returns a MAC address or a pattern for them as the kernel writes
// addresses, and refuses what could match none.
func checkMAC(g string) (string, error) {
	if !strings.ContainsAny(g, meta) {
		mac, err := net.ParseMAC(g)
		if err != nil || len(mac) != 6 {
			return "", fmt.Errorf(`%q is neither a MAC address nor a pattern such as "52:54:*"`, g)
		}
		return mac.String(), nil
	}
	if i := strings.IndexFunc(g, func(c rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF:*?[]-^", c) }); i >= 0 {
		return "", fmt.Errorf("%q holds %q, which no MAC address does", g, g[i:i+1])
	}
	return strings.ToLower(g), nil
}

// checkAllow refuses a pattern whose engine candor never names, for it would
// silently allow nobody.
func checkAllow(g string) error {
	engine, _, namespaced := strings.Cut(g, ":")
	if strings.ContainsAny(engine, meta) {
		return nil
	}
	engines := []string{"containerd", "kubernetes", "docker", "podman", "crio", "runc"}
	switch i := slices.Index(engines, engine); {
	case i < 0:
		if near := request.Nearest(engine, engines); near != "" {
			return fmt.Errorf("%q names no caller; did you mean %q?", g, near)
		}
		return fmt.Errorf("%q names no caller: they are containerd:NAMESPACE, kubernetes:NAMESPACE, docker, podman, crio, runc", g)
	case i < 2 && !namespaced:
		return fmt.Errorf("%q names no namespace; did you mean %q?", g, g+":*")
	case i >= 2 && namespaced:
		return fmt.Errorf("%q has a namespace, which %s has not; did you mean %q?", g, engine, engine)
	}
	return nil
}

func checkSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf(`%q is not a network such as "192.168.1.0/24"`, text)
	case subnet.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in IPv6 dress", text)
	case subnet != subnet.Masked():
		return netip.Prefix{}, fmt.Errorf("%q is an address in a network; did you mean %q?", text, subnet.Masked())
	case subnet.Addr().IsMulticast() || subnet.Addr().IsLoopback():
		return netip.Prefix{}, fmt.Errorf("%q holds no address of a host", text)
	}
	return subnet, nil
}

// checkGateway takes a gateway that a NIC with an address of the pool's subnets
// can reach: one in them, or an IPv6 link-local one, as routers announce
// themselves.
func (pool Pool) checkGateway(gw netip.Addr) error {
	for _, subnet := range pool.Subnets {
		if subnet.Contains(gw) {
			return request.CheckHost(netip.PrefixFrom(gw, subnet.Bits()))
		}
		if subnet.Addr().Is6() && gw.Is6() && gw.IsLinkLocalUnicast() {
			return nil
		}
	}
	return fmt.Errorf("%q is in none of the pool's subnets, so that no NIC of the pool could reach it", gw)
}
