package nic

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// ifaProto is IFA_PROTO, which says who made an address (Linux 5.18), and the
// values are the kernel's own (IFAPROT_*); the unix package has neither.
const (
	ifaProto        = 0xb
	protoRouter     = 2 // from a router's announcement
	protoLinkLocal  = 3 // IPv6 link-local, made when the interface went up
	forever         = math.MaxUint32
	rememberedFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_DEPRECATED |
		unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN
)

// address is an address with what the ledger does not need to know.
type address struct {
	ledger.Address
	proto uint8
	// flags are all of the kernel's, Address.Flags only what an
	// administrator can set.
	flags uint32
}

// addresses lists a link's addresses, IPv4 first, in the kernel's order, which
// says which ones are secondary.
//
// The netlink package's list lacks the protocol, without which a link-local
// address set by hand cannot be told from one that the kernel made.
func (n *Namespace) addresses(index int) ([]address, error) {
	msgs, err := dump(func() ([][]byte, error) {
		req := n.request(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var list []address
	for _, m := range msgs {
		msg := nl.DeserializeIfAddrmsg(m)
		if int(msg.Index) != index || (msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6) {
			continue
		}
		a, err := parseAddress(msg, m[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		list = append(list, a)
	}
	return list, nil
}

func parseAddress(msg *nl.IfAddrmsg, b []byte) (address, error) {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return address{}, err
	}
	a := address{flags: uint32(msg.Flags)}
	a.Scope = int(msg.Scope)
	var local, remote netip.Addr
	for _, attr := range attrs {
		switch attr.Attr.Type {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(attr.Value)
		case unix.IFA_ADDRESS:
			remote, _ = netip.AddrFromSlice(attr.Value)
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(attr.Value)
		case unix.IFA_LABEL:
			a.Label = unix.ByteSliceToString(attr.Value)
		case unix.IFA_FLAGS:
			a.flags = nl.NativeEndian().Uint32(attr.Value)
		case ifaProto:
			a.proto = attr.Value[0]
		case unix.IFA_CACHEINFO:
			life := nl.DeserializeIfaCacheInfo(attr.Value)
			a.ValidSeconds, a.PreferredSeconds = seconds(life.Valid), seconds(life.Prefered)
		}
	}
	// Without a peer IPv4 gives both attributes and IPv6 only IFA_ADDRESS.
	bits := int(msg.Prefixlen)
	if !local.IsValid() {
		local = remote
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	if local != remote {
		a.Prefix = netip.PrefixFrom(local, local.BitLen())
		a.Peer = netip.PrefixFrom(remote, bits)
	}
	a.Flags = int(a.flags & rememberedFlags)
	return a, nil
}

func seconds(life uint32) int {
	if life == forever {
		return 0
	}
	return int(life)
}

// kernels reports whether the kernel made the address by itself, and will again:
// from a router's announcement, or link-local at going up.
func (a *address) kernels(mac net.HardwareAddr) bool {
	if !a.Prefix.Addr().Is6() {
		return false
	}
	switch a.proto {
	case protoRouter, protoLinkLocal:
		return true
	case 0:
		// Before 5.18: temporary addresses are never anybody's own, and a
		// link-local one with the hardware's identifier is as good as new.
		return a.flags&unix.IFA_F_TEMPORARY != 0 || a.Prefix.Addr() == linkLocal(mac)
	}
	return false
}

// is reports whether it is the same address, whatever its label and flags.
func (a *address) is(b ledger.Address) bool { return a.Prefix == b.Prefix && a.Peer == b.Peer }

// linkLocal is the address that IPv6 gives an interface (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	if len(mac) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// setAddress adds an address. metric is that of the connected route that the
// kernel makes with it, 0 for its default; the netlink package cannot set it,
// and systemd-networkd does on every cloud image.
func (n *Namespace) setAddress(index int, a ledger.Address, metric int) error {
	err := n.putAddress(index, a, metric, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func (n *Namespace) putAddress(index int, a ledger.Address, metric, mode int) error {
	req := n.request(unix.RTM_NEWADDR, mode|unix.NLM_F_ACK)
	family := unix.AF_INET
	if a.Prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Scope, msg.Prefixlen = uint32(index), uint8(a.Scope), uint8(a.Prefix.Bits())
	remote := a.Prefix.Addr()
	if a.Peer.IsValid() {
		msg.Prefixlen, remote = uint8(a.Peer.Bits()), a.Peer.Addr()
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, remote.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(uint32(a.Flags)&^unix.IFA_F_DEPRECATED)))
	if a.Broadcast.IsValid() {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.AsSlice()))
	}
	if a.Label != "" {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	if metric > 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_RT_PRIORITY, nl.Uint32Attr(uint32(metric))))
	}
	life := nl.IfaCacheInfo{}
	life.Valid, life.Prefered = forever, forever
	if a.ValidSeconds > 0 {
		life.Valid = uint32(a.ValidSeconds)
	}
	if a.PreferredSeconds > 0 || a.Flags&unix.IFA_F_DEPRECATED != 0 {
		life.Prefered = uint32(a.PreferredSeconds)
	}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// asAdded is the order in which to add addresses so that the kernel lists them as
// given: IPv4 appends, IPv6 puts the newest first, and which one is first decides
// with what address the node speaks.
func asAdded(list []ledger.Address) []ledger.Address {
	var v4, v6 []ledger.Address
	for _, a := range list {
		if a.Prefix.Addr().Is6() {
			v6 = append(v6, a)
		} else {
			v4 = append(v4, a)
		}
	}
	slices.Reverse(v6)
	return append(v4, v6...)
}

// deleteAddress takes an address off. One that is not there is no error.
func (n *Namespace) deleteAddress(index int, a ledger.Address) error {
	err := n.handle.AddrDel(nil, &netlink.Addr{LinkIndex: index, IPNet: ipNet(a.Prefix), Peer: peerNet(a), Label: a.Label})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func peerNet(a ledger.Address) *net.IPNet {
	if !a.Peer.IsValid() {
		return nil
	}
	return ipNet(a.Peer)
}

// returnAddress puts an address of the host back. An IPv6 one is added without
// duplicate address detection, so that routes may name it as their source at
// once (a tentative one is refused), and gets its own flags afterwards.
func (n *Namespace) returnAddress(index int, a ledger.Address, metric int) error {
	if !a.Prefix.Addr().Is6() || a.Flags&unix.IFA_F_NODAD != 0 {
		return n.setAddress(index, a, metric)
	}
	quick := a
	quick.Flags |= unix.IFA_F_NODAD
	err := n.putAddress(index, quick, metric, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.putAddress(index, a, metric, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// broadcastOf is the last address of an IPv4 subnet that has one (RFC 3021).
func broadcastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := range b {
		host := min(max(32-p.Bits()-8*(3-i), 0), 8)
		b[i] |= byte(1<<host - 1)
	}
	return netip.AddrFrom4(b)
}
