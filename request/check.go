package request

import (
	"net/netip"
	"strconv"
)

// checkNIC checks what the fields of one NIC mean to each other.
func checkNIC(n *NIC) *Error {
	if n.Pool == "" {
		return &Error{Field: "pool", Rule: "is missing: a NIC comes from a pool of the node"}
	}
	var has4, has6 bool
	for i, ip := range n.IPs {
		has4, has6 = has4 || ip.Addr.Is4(), has6 || ip.Addr.Is6()
		for _, other := range n.IPs[:i] {
			if other.Addr == ip.Addr {
				return &Error{Field: "ips", Value: ip.Addr.String(), Rule: "is asked for twice"}
			}
		}
	}
	// Without addresses, the families are those that the NIC has on the host.
	served := func(a netip.Addr) bool { return len(n.IPs) == 0 || a.Is4() && has4 || a.Is6() && has6 }

	for i, gw := range n.Gateway {
		if !served(gw) {
			return &Error{Field: "gateway", Value: gw.String(), Rule: mismatch("gateway", gw)}
		}
		for _, other := range n.Gateway[:i] {
			if other.Is4() == gw.Is4() {
				return &Error{Field: "gateway", Value: gw.String(), Rule: "is a second gateway for " + family(gw)}
			}
		}
		for _, ip := range n.IPs {
			if ip.Addr == gw {
				return &Error{Field: "gateway", Value: gw.String(), Rule: "is the NIC's own address"}
			}
			if ip.Bits < 0 {
				continue
			}
			if net := netip.PrefixFrom(ip.Addr, ip.Bits); net.Contains(gw) {
				if err := checkHost(netip.PrefixFrom(gw, ip.Bits)).as(gw.String()); err != nil {
					return err.in("gateway")
				}
			}
		}
	}
	for i, r := range n.Routes {
		if !served(r.Dst.Addr()) {
			return &Error{Field: "routes", Value: r.Dst.String(), Rule: mismatch("route", r.Dst.Addr())}
		}
		for _, other := range n.Routes[:i] {
			if r.Collides(other) {
				return &Error{Field: "routes", Value: r.Dst.String(), Rule: "is asked for twice"}
			}
		}
		for _, ip := range n.IPs {
			if ip.Addr == r.GW {
				return &Error{Field: "routes", Value: r.GW.String(), Rule: "is the NIC's own address, not a gateway"}
			}
		}
	}
	// RFC 8200: the kernel takes IPv6 off an interface with a smaller MTU.
	if n.MTU != 0 && n.MTU < 1280 && has6 {
		return &Error{Field: "mtu", Value: strconv.Itoa(n.MTU), Rule: "must be at least 1280 for IPv6"}
	}
	return checkVF(n)
}

func checkVF(n *NIC) *Error {
	if n.VLAN == nil || *n.VLAN == 0 {
		if n.QoS != nil && *n.QoS != 0 {
			return &Error{Field: "qos", Value: strconv.Itoa(*n.QoS), Rule: "needs a vlan: it is the priority in the VLAN tag"}
		}
		if n.Proto != "" {
			return &Error{Field: "proto", Value: n.Proto, Rule: "needs a vlan: it is the protocol of the VLAN tag"}
		}
	}
	if n.MaxTxRate != 0 && n.MinTxRate > n.MaxTxRate {
		return &Error{Field: "min-tx-rate", Value: n.MinTxRate.String(), Rule: "is more than max-tx-rate, " + n.MaxTxRate.String()}
	}
	return nil
}

// checkList checks what the NICs of one container mean to each other.
func checkList(list []NIC) *Error {
	interfaces, macs := make(map[string]int), make(map[string]int)
	addresses, defaults := make(map[netip.Addr]int), make(map[string]int)
	taken := func(i int, field, value string, first int) *Error {
		at := "[" + strconv.Itoa(i) + "]." + field
		return &Error{Field: at, Value: value, Rule: "is asked for by NIC [" + strconv.Itoa(first) + "] too"}
	}
	for i, n := range list {
		if first, ok := interfaces[n.Interface]; ok {
			return taken(i, "interface", n.Interface, first)
		}
		if n.Interface != "" {
			interfaces[n.Interface] = i
		}
		mac := n.MAC.String()
		if first, ok := macs[mac]; ok {
			return taken(i, "mac", mac, first)
		}
		if mac != "" {
			macs[mac] = i
		}
		// The routing table of a NIC is chosen by the source address, so
		// that one address on two NICs has no right answer.
		for _, ip := range n.IPs {
			if first, ok := addresses[ip.Addr]; ok {
				return taken(i, "ips", ip.Addr.String(), first)
			}
			addresses[ip.Addr] = i
		}
		if !n.DefaultRoute {
			continue
		}
		for _, f := range families(n) {
			if first, ok := defaults[f]; ok {
				return taken(i, "default-route", f, first)
			}
			defaults[f] = i
		}
	}
	return nil
}

// families returns the families that a NIC's default route is for; both where
// the request leaves that open.
func families(n NIC) []string {
	addrs := n.Gateway
	if len(addrs) == 0 {
		for _, ip := range n.IPs {
			addrs = append(addrs, ip.Addr)
		}
	}
	var four, six bool
	for _, a := range addrs {
		four, six = four || a.Is4(), six || a.Is6()
	}
	switch {
	case four && !six:
		return []string{"IPv4"}
	case six && !four:
		return []string{"IPv6"}
	}
	return []string{"IPv4", "IPv6"}
}

// nameInterfaces gives net0, net1, ... to the NICs that have no name.
func nameInterfaces(list []NIC) {
	taken := make(map[string]bool)
	for _, n := range list {
		taken[n.Interface] = true
	}
	next := 0
	for i := range list {
		for list[i].Interface == "" {
			if name := "net" + strconv.Itoa(next); !taken[name] {
				list[i].Interface = name
			}
			next++
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func mismatch(what string, a netip.Addr) string {
	if a.Is4() {
		return "is an IPv4 " + what + " for an IPv6-only NIC"
	}
	return "is an IPv6 " + what + " for an IPv4-only NIC"
}
