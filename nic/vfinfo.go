package nic

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pfOf returns the interface of a PF's device.
func (n *Namespace) pfOf(device string) (netlink.Link, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	pf := pfLinkOf(links, device)
	if pf == nil {
		return nil, fmt.Errorf("the PF %s has no interface on the host: its VFs' settings cannot be reached", device)
	}
	return pf, nil
}

// vfInfo returns a PF's interface and what it says of one of its VFs.
func (n *Namespace) vfInfo(device string, index int) (netlink.Link, netlink.VfInfo, error) {
	pf, err := n.pfOf(device)
	if err != nil {
		return nil, netlink.VfInfo{}, err
	}
	info, err := n.infoOf(pf, index)
	return pf, info, err
}

// infoOf returns what a PF says now of one of its VFs.
func (n *Namespace) infoOf(pf netlink.Link, index int) (netlink.VfInfo, error) {
	vfs, err := n.vfsOf(pf)
	if err != nil {
		return netlink.VfInfo{}, err
	}
	// A driver may list fewer than there are (sriov-cni#106).
	for _, info := range vfs {
		if info.ID == index {
			return info, nil
		}
	}
	return netlink.VfInfo{}, fmt.Errorf("the PF %s does not list its VF %d", pf.Attrs().Name, index)
}

// vfsOf returns what a PF says now of its VFs, each with its number. The netlink
// package takes their place in the list for that, and the kernel leaves out the VFs
// of which a driver can say nothing just then (rtnl_fill_vfinfo), as while they are
// reset: those behind would pass for others.
func (n *Namespace) vfsOf(pf netlink.Link) ([]netlink.VfInfo, error) {
	message, err := n.linkMessage(pf.Attrs().Index, nl.RTEXT_FILTER_VF)
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkDeserialize(nil, message)
	if err != nil {
		return nil, fmt.Errorf("the VFs of %s: %w", pf.Attrs().Name, err)
	}
	numbers, err := vfNumbers(message[unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, fmt.Errorf("the VFs of %s: %w", pf.Attrs().Name, err)
	}
	vfs := link.Attrs().Vfs
	if len(vfs) != len(numbers) {
		return nil, fmt.Errorf("the VFs of %s: %d of %d have a number", pf.Attrs().Name, len(numbers), len(vfs))
	}
	for i := range vfs {
		vfs[i].ID = numbers[i]
	}
	return vfs, nil
}

// vfNumbers returns the numbers of the VFs in a link's attributes, in their order.
func vfNumbers(attributes []byte) (numbers []int, err error) {
	attrs, err := nl.ParseRouteAttr(attributes)
	if err != nil {
		return nil, err
	}
	for _, list := range attrs {
		if list.Attr.Type != unix.IFLA_VFINFO_LIST {
			continue
		}
		infos, err := nl.ParseRouteAttr(list.Value)
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			settings, err := nl.ParseRouteAttr(info.Value)
			if err != nil {
				return nil, err
			}
			for _, s := range settings {
				// struct ifla_vf_mac begins with the number (linux/if_link.h).
				if s.Attr.Type == nl.IFLA_VF_MAC && len(s.Value) >= 4 {
					numbers = append(numbers, int(nl.NativeEndian().Uint32(s.Value)))
				}
			}
		}
	}
	return numbers, nil
}
