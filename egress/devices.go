package egress

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// Devices returns the devices of a network namespace through which packets
// leave it, in the order of their indices: veth, macvlan, ipvlan, NICs, up or
// down. Not among them are the loopback, the fallback devices of tunnels, and
// devices on top of another one of the same namespace, whose packets pass
// that one too.
func Devices(ns Namespace) ([]netlink.Link, error) {
	c, err := dial(ns)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	defer c.close()
	links, err := dump(c.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []netlink.Link
	for _, link := range links {
		if carriesEgress(link.Attrs()) {
			out = append(out, link)
		}
	}
	return out, nil
}

func carriesEgress(base *netlink.LinkAttrs) bool {
	switch {
	case base.Flags&net.FlagLoopback != 0:
		return false
	case fallbackTunnel(base.Name):
		return false
	// IFLA_LINK without IFLA_LINK_NETNSID: a VLAN on a device of this
	// namespace, or a veth whose other end is here too. The veth of a
	// container has the id of the namespace where its peer is.
	case base.ParentIndex != 0 && base.ParentIndex != base.Index && base.NetNsID < 0:
		return false
	}
	return true
}

// fallbackTunnel reports whether a device is one that the kernel's tunnel
// modules put into every new namespace (net.core.fb_tunnels_only_for_init_net
// is 0 on most machines). Nothing leaves through them, and they cannot be
// removed.
func fallbackTunnel(name string) bool {
	switch name {
	case "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0",
		"ip6tnl0", "ip6gre0", "ip6gretap0", "ip6_vti0":
		return true
	}
	return false
}
