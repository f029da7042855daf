package nic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// metricV6 is the kernel's metric for IPv6 routes that ask for none
// (IP6_RT_PRIO_USER); of connected ones it is 256 (IP6_RT_PRIO_ADDRCONF).
const (
	metricV6          = 1024
	metricConnectedV6 = 256
)

// routes lists the routes through a link in all tables, those with several next
// hops included.
//
// The kernel does the choosing (strict checking, Linux 4.20): a node that speaks
// BGP has a million routes of which this NIC has three.
func (n *Namespace) routes(index int) ([]netlink.Route, error) {
	var handle *netlink.Handle
	err := n.Do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	defer handle.Close()
	_ = handle.SetStrictCheck(true) // without it we only get more to sort out
	var list []netlink.Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			filter := &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_UNSPEC}
			return handle.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.LinkIndex == index || slices.ContainsFunc(r.MultiPath, func(h *netlink.NexthopInfo) bool { return h.LinkIndex == index }) {
				list = append(list, r)
			}
		}
	}
	return list, nil
}

// kept reports whether a route is one to put back. The kernel makes those of the
// local table by itself, and routers announce theirs again.
func kept(r netlink.Route) bool {
	if r.Table == unix.RT_TABLE_LOCAL || r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_REDIRECT {
		return false
	}
	switch r.Type {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return false
	}
	return true
}

// connected reports whether the kernel makes the route by itself with one of the
// addresses, or with IPv6 as such. Others with the kernel's mark are an
// administrator's all the same: NetworkManager sets such routes with a metric of
// its own beside addresses that make none (IFA_F_NOPREFIXROUTE).
func connected(r netlink.Route, addresses []ledger.Address) bool {
	if r.Protocol != unix.RTPROT_KERNEL {
		return false
	}
	dst := prefixOf(r.Dst)
	if dst.Addr().IsLinkLocalUnicast() && dst.Addr().Is6() && r.Priority == metricConnectedV6 {
		return true
	}
	plain := r.Priority == 0 || (dst.Addr().Is6() && r.Priority == metricConnectedV6)
	return plain && slices.ContainsFunc(addresses, func(a ledger.Address) bool {
		return a.Flags&unix.IFA_F_NOPREFIXROUTE == 0 && subnetOf(a) == dst
	})
}

// subnetOf is the destination of the connected route of an address.
func subnetOf(a ledger.Address) netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// metricOf is the metric of an address's connected route, 0 for the kernel's
// default.
func metricOf(a ledger.Address, routes []ledger.Route) int {
	if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return 0
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_KERNEL && r.Destination == subnetOf(a) && r.Table == unix.RT_TABLE_MAIN {
			return r.Metric
		}
	}
	return 0
}

func recordRoute(r netlink.Route) ledger.Route {
	rec := ledger.Route{
		Destination: prefixOf(r.Dst),
		Table:       r.Table,
		Metric:      r.Priority,
		Scope:       int(r.Scope),
		Protocol:    int(r.Protocol),
		Type:        r.Type,
		OnLink:      r.Flags&int(netlink.FLAG_ONLINK) != 0,
		MTU:         r.MTU,
	}
	rec.Gateway, _ = netip.AddrFromSlice(r.Gw)
	if via, ok := r.Via.(*netlink.Via); ok {
		rec.Gateway, _ = netip.AddrFromSlice(via.Addr)
	}
	rec.Source, _ = netip.AddrFromSlice(r.Src)
	return rec
}

// restorable reports whether the ledger's form of a route says all of it.
func restorable(r netlink.Route) bool {
	rest := r
	rest.LinkIndex, rest.Dst, rest.Gw, rest.Src, rest.Via = 0, nil, nil, nil, nil
	rest.Table, rest.Priority, rest.Scope, rest.Protocol = 0, 0, 0, 0
	rest.Type, rest.Flags, rest.Family, rest.MTU = 0, 0, 0, 0
	return reflect.DeepEqual(rest, netlink.Route{})
}

// addRoute adds a route through the link.
func (n *Namespace) addRoute(index int, r ledger.Route) error {
	route := &netlink.Route{
		LinkIndex: index,
		Dst:       ipNet(r.Destination),
		Table:     r.Table,
		Priority:  r.Metric,
		Scope:     netlink.Scope(r.Scope),
		Protocol:  netlink.RouteProtocol(r.Protocol),
		Type:      r.Type,
		MTU:       r.MTU,
		Src:       ip(r.Source),
	}
	if r.OnLink {
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	if r.Gateway.IsValid() && r.Gateway.Is6() && r.Destination.Addr().Is4() {
		route.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: ip(r.Gateway)}
	} else {
		route.Gw = ip(r.Gateway)
	}
	return n.handle.RouteAdd(route)
}

func ip(a netip.Addr) net.IP {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if size == 32 {
		a = a.Unmap() // IPv4's default comes with 16 bytes
	}
	return netip.PrefixFrom(a, bits)
}
