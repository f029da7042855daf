package nic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

const (
	// metricLast is the metric of a default route that any other one beats.
	metricLast = 4096
	// maxNICs bounds how far behind metricLast a default route may come.
	maxNICs = 64
	// tableBase plus the NIC's index in the container is its own routing
	// table; rulePriority is that of the rules that lead there, before main's
	// (32766).
	tableBase    = 10000
	rulePriority = 20000
)

// tableOf is the NIC's own routing table in the container. The record is enough
// to know it, so giving back finds the rules without having listed them.
func tableOf(rec *ledger.NIC) int { return tableBase + rec.InnerIndex }

// familyOf is "IPv4" or "IPv6".
func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// checkRoutes finds what is wrong with gateways and routes without asking the
// kernel.
func checkRoutes(cfg Config, addresses []ledger.Address) error {
	seen := map[string]netip.Addr{}
	has := func(a netip.Addr) bool {
		return slices.ContainsFunc(addresses, func(x ledger.Address) bool { return x.Prefix.Addr().Is4() == a.Is4() })
	}
	if cfg.DefaultRoute && len(cfg.Gateways) == 0 {
		return errors.New("default-route is asked for, and neither request nor pool has a gateway")
	}
	for _, gw := range cfg.Gateways {
		family := familyOf(gw)
		switch {
		case !gw.IsValid() || gw.IsUnspecified() || gw.IsMulticast():
			return fmt.Errorf("gateway %s is not an address of a router", gw)
		case seen[family].IsValid():
			return fmt.Errorf("gateways %s and %s are both %s: a nic has one for each family", seen[family], gw, family)
		case !has(gw):
			return fmt.Errorf("gateway %s: the nic has no %s address", gw, family)
		}
		seen[family] = gw
	}
	for _, r := range cfg.Routes {
		switch {
		case !r.Destination.IsValid():
			return errors.New("a route has no destination")
		case r.Destination.Bits() == 0 && r.Table == 0:
			return fmt.Errorf("route to %s: a default route is asked for by gateway and default-route", r.Destination)
		case r.Table < 0 || r.Table >= tableBase:
			return fmt.Errorf("route to %s: table %d is one of candor's own", r.Destination, r.Table)
		case r.Gateway.IsValid() && r.Gateway.Is4() != r.Destination.Addr().Is4():
			return fmt.Errorf("route to %s: its gateway %s is of the other family", r.Destination, r.Gateway)
		case !has(r.Destination.Addr()):
			return fmt.Errorf("route to %s: the nic has no %s address", r.Destination, familyOf(r.Destination.Addr()))
		}
	}
	return nil
}

// defaultRoute names the interface of the namespace's default route in the
// gateway's family, or is "".
func (n *Namespace) defaultRoute(gw netip.Addr) (string, error) {
	family := unix.AF_INET6
	if gw.Is4() {
		family = unix.AF_INET
	}
	routes, err := dump(func() ([]netlink.Route, error) { return n.handle.RouteList(nil, family) })
	if err != nil {
		return "", fmt.Errorf("list the container's routes: %w", err)
	}
	for _, r := range routes {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 || r.Type != unix.RTN_UNICAST {
			continue
		}
		index := r.LinkIndex
		if len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		link, err := n.linkByIndex(index)
		if err != nil {
			return "", err
		}
		if link != nil {
			return link.Attrs().Name, nil
		}
	}
	return "", nil
}

// addRoutes adds the asked-for routes to their tables, and with a gateway those of
// the main one also to the NIC's own: what is sent from one of the NIC's addresses has to leave
// through the NIC, or the network behind it drops it as spoofed.
func (a *attach) addRoutes(context.Context) error {
	for _, gw := range a.cfg.Gateways {
		if err := a.addTable(gw); err != nil {
			return err
		}
		if err := a.addDefault(gw); err != nil {
			return fmt.Errorf("default route by %s: %w", gw, err)
		}
	}
	for _, r := range a.cfg.Routes {
		if err := a.addRoute(a.route(r)); err != nil {
			return fmt.Errorf("to %s%s: %w", r.Destination, inTable(r.Table), err)
		}
	}
	return nil
}

// inTable says where a route is, if that is not the main table.
func inTable(table int) string {
	if table == 0 {
		return ""
	}
	return fmt.Sprintf(" in table %d", table)
}

// addDefault adds the default route to the main table. Of several NICs with a
// gateway each but the first comes a little further behind.
func (a *attach) addDefault(gw netip.Addr) error {
	for r := a.defaultVia(gw); ; r.Metric++ {
		err := a.addRoute(r)
		if !errors.Is(err, unix.EEXIST) || a.cfg.DefaultRoute || r.Metric == metricLast+maxNICs {
			return err
		}
	}
}

func (a *attach) addRoute(r ledger.Route) error {
	if err := a.target.addRoute(a.link.Attrs().Index, r); err != nil {
		return err
	}
	a.given.Routes = append(a.given.Routes, r)
	return nil
}

func (a *attach) defaultVia(gw netip.Addr) ledger.Route {
	r := ledger.Route{
		Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		Gateway:     gw, OnLink: a.outside(gw), Metric: metricLast, Protocol: unix.RTPROT_STATIC,
	}
	if gw.Is6() {
		r.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if a.cfg.DefaultRoute {
		r.Metric = 0 // the kernel makes 1024 of it in IPv6
	}
	return r
}

func (a *attach) route(r Route) ledger.Route {
	to := ledger.Route{
		Destination: r.Destination.Masked(), Gateway: r.Gateway, Metric: r.Metric, Table: r.Table, Protocol: unix.RTPROT_STATIC,
	}
	if r.Gateway.IsValid() {
		to.OnLink = a.outside(r.Gateway)
	} else if r.Destination.Addr().Is4() {
		to.Scope = unix.RT_SCOPE_LINK
	}
	return to
}

// outside reports whether none of the NIC's subnets has the gateway, as in
// clouds that give each machine a /32.
func (a *attach) outside(gw netip.Addr) bool {
	if gw.Is6() && gw.IsLinkLocalUnicast() {
		return false
	}
	return !slices.ContainsFunc(a.addresses, func(addr ledger.Address) bool { return subnetOf(addr).Contains(gw) })
}

// addTable fills the NIC's own table for the gateway's family and leads there
// what comes from the NIC's addresses. The NIC's subnets are in it so that
// neighbours are reached directly.
func (a *attach) addTable(gw netip.Addr) error {
	table := tableOf(a.rec)
	var routes []ledger.Route
	for _, addr := range a.addresses {
		p := addr.Prefix
		if p.Addr().Is4() != gw.Is4() {
			continue
		}
		if subnet := subnetOf(addr); !subnet.IsSingleIP() {
			r := ledger.Route{Destination: subnet, Protocol: unix.RTPROT_STATIC}
			if gw.Is4() {
				r.Scope, r.Source = unix.RT_SCOPE_LINK, p.Addr()
			}
			routes = append(routes, r)
		}
		rule := netlink.NewRule()
		rule.Src = ipNet(netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		rule.Table, rule.Priority = table, rulePriority
		// A rule that is there was left by another NIC of this index.
		if err := a.target.handle.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("rule for %s: %w", p.Addr(), err)
		}
		a.given.Sources = append(a.given.Sources, p.Addr())
	}
	for _, r := range a.cfg.Routes {
		if r.Table == 0 && r.Destination.Addr().Is4() == gw.Is4() {
			routes = append(routes, a.route(r))
		}
	}
	last := a.defaultVia(gw)
	last.Metric = 0
	for _, r := range append(routes, last) {
		r.Table = table
		// Two addresses may share a subnet, and a route may name one.
		if err := a.addRoute(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("to %s%s: %w", r.Destination, inTable(table), err)
		}
	}
	return nil
}

// removeRules takes away the rules of addTable: unlike the routes they do not go
// with the NIC, and a pod's namespace may live on.
func removeRules(ns *Namespace, rec *ledger.NIC) error {
	if rec.InnerIndex == 0 {
		return nil
	}
	rules, err := rulesOf(ns, rec)
	errs := []error{err}
	for _, rule := range rules {
		if err := ns.handle.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove rule for %s: %w", rule.Src, err))
		}
	}
	return errors.Join(errs...)
}

// rulesOf lists the rules of addTable that are there, also with an error.
func rulesOf(ns *Namespace, rec *ledger.NIC) (found []netlink.Rule, err error) {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := dump(func() ([]netlink.Rule, error) { return ns.handle.RuleList(family) })
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("list rules: %w", err))
			continue
		}
		for _, rule := range rules {
			if rule.Table == tableOf(rec) && rule.Priority == rulePriority {
				found = append(found, rule)
			}
		}
	}
	return found, errors.Join(errs...)
}
