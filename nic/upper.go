package nic

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// removeUppers deletes what a container put upon the NIC, now that the NIC is on
// the host again. A macvlan or ipvlan stays on it when it moves away; in a
// namespace that lives on, since another container shares it, it would hear and
// speak on the host's wire, and on that of whoever gets the NIC next.
//
// It comes after the move: before, another one could be made at any moment.
func removeUppers(host *Namespace, home netlink.Link, ns *Namespace) error {
	id, err := ns.handle.GetNetNsIdByFd(int(host.file.Fd()))
	if err != nil {
		return fmt.Errorf("ask for the host's id: %w", err)
	}
	if id < 0 {
		return nil // nothing there has ever pointed to the host
	}
	links, err := ns.links()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		attrs := l.Attrs()
		// The "parent" of a veth is its peer.
		if attrs.ParentIndex != home.Attrs().Index || attrs.NetNsID != id || kindOf(l) == "veth" {
			continue
		}
		if err := ns.handle.LinkDel(l); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", attrs.Name, err))
		}
	}
	return errors.Join(errs...)
}
