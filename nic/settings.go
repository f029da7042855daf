package nic

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// travellingFlags are the flags that a move leaves as they are, and that a user
// sets. Promiscuity and the like that others than the user asked for (a bridge,
// a capture) are counted apart, and do not show here.
const travellingFlags = unix.IFF_NOARP | unix.IFF_PROMISC | unix.IFF_ALLMULTI | unix.IFF_MULTICAST

// linkSettings takes down what a container with CAP_NET_ADMIN could leave behind
// on the link.
func (n *Namespace) linkSettings(link netlink.Link) (*ledger.LinkSettings, error) {
	attrs := link.Attrs()
	broadcast, err := n.broadcast(attrs.Index)
	if err != nil {
		return nil, err
	}
	offloads, err := n.offloads(attrs.Name)
	if err != nil {
		return nil, err
	}
	return &ledger.LinkSettings{
		Flags:     attrs.RawFlags & travellingFlags,
		Broadcast: broadcast.String(),
		Group:     attrs.Group, GSOMaxSegs: attrs.GSOMaxSegs, GROMaxSize: attrs.GROMaxSize,
		GSOIPv4MaxSize: attrs.GSOIPv4MaxSize, GROIPv4MaxSize: attrs.GROIPv4MaxSize,
		Offloads: offloads.wanted(),
	}, nil
}

// settings restores them. Each kernel has its own set of sizes, 0 where it has
// none.
func (r *restore) settings() {
	want := r.rec.Link
	if want == nil {
		return
	}
	h, attrs := r.host.handle, r.link.Attrs()
	if attrs.RawFlags&travellingFlags != want.Flags {
		r.fail("set its flags", r.host.setFlags(attrs.Index, want.Flags, travellingFlags))
	}
	if now, err := r.host.broadcast(attrs.Index); err != nil {
		r.fail("look at its broadcast address", err)
	} else if mac, err := net.ParseMAC(want.Broadcast); err == nil && now.String() != want.Broadcast {
		r.fail("set its broadcast address", r.host.setBroadcast(attrs.Index, mac))
	}
	if attrs.Group != want.Group {
		r.fail("set its group", h.LinkSetGroup(r.link, int(want.Group)))
	}
	for _, size := range []struct {
		what      string
		now, want uint32
		set       func(netlink.Link, int) error
	}{
		{"GSO segments", attrs.GSOMaxSegs, want.GSOMaxSegs, h.LinkSetGSOMaxSegs},
		{"GRO size", attrs.GROMaxSize, want.GROMaxSize, h.LinkSetGROMaxSize},
		{"GSO size of IPv4", attrs.GSOIPv4MaxSize, want.GSOIPv4MaxSize, h.LinkSetGSOIPv4MaxSize},
		{"GRO size of IPv4", attrs.GROIPv4MaxSize, want.GROIPv4MaxSize, h.LinkSetGROIPv4MaxSize},
	} {
		if size.want != 0 && size.now != size.want {
			r.fail("set its "+size.what, size.set(r.link, int(size.want)))
		}
	}
	r.fail("restore its offloads", r.host.setOffloads(attrs.Name, want.Offloads))
}

// broadcast asks for the link's broadcast address, which the netlink package
// does not read.
func (n *Namespace) broadcast(index int) (net.HardwareAddr, error) {
	message, err := n.linkMessage(index, 0)
	if err != nil {
		return nil, err
	}
	attrs, err := nl.ParseRouteAttr(message[unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, fmt.Errorf("look at interface %d: %w", index, err)
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_BROADCAST {
			return net.HardwareAddr(a.Value), nil
		}
	}
	return nil, nil
}

func (n *Namespace) setBroadcast(index int, mac net.HardwareAddr) error {
	req := n.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_BROADCAST, mac))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// setFlags sets those flags of a link that change names.
func (n *Namespace) setFlags(index int, flags, change uint32) error {
	req := n.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, change
	req.AddData(msg)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
