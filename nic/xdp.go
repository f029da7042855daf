package nic

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// detachXDP takes off a program that a container left on the NIC: programs
// survive a move, and this one would go on reading and writing the host's
// packets. A NIC that had one of the host's is never given away.
func (n *Namespace) detachXDP(link netlink.Link) error {
	xdp := link.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return nil
	}
	// A program is taken off in the mode in which it was put on.
	modes := []uint32{}
	switch xdp.AttachMode {
	case nl.XDP_ATTACHED_SKB:
		modes = append(modes, unix.XDP_FLAGS_SKB_MODE)
	case nl.XDP_ATTACHED_DRV:
		modes = append(modes, unix.XDP_FLAGS_DRV_MODE)
	case nl.XDP_ATTACHED_HW:
		modes = append(modes, unix.XDP_FLAGS_HW_MODE)
	default: // several at once
		modes = append(modes, unix.XDP_FLAGS_SKB_MODE, unix.XDP_FLAGS_DRV_MODE)
	}
	var errs []error
	for _, mode := range modes {
		errs = append(errs, n.setXDP(link.Attrs().Index, -1, mode))
	}
	return errors.Join(errs...)
}

// setXDP attaches the program of a descriptor, or detaches with -1.
func (n *Namespace) setXDP(index, fd int, mode uint32) error {
	req := n.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	attr := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	attr.AddRtAttr(nl.IFLA_XDP_FD, nl.Uint32Attr(uint32(int32(fd))))
	attr.AddRtAttr(nl.IFLA_XDP_FLAGS, nl.Uint32Attr(mode))
	req.AddData(attr)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
