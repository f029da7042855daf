package nic

import (
	"errors"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Spare lists the NICs of the host that a container could be given: those that
// [Find] returns for their own address and the selector's globs, and that
// [Snapshot] does not refuse. Who holds one is the ledger's to say. It changes
// nothing.
func Spare(host *Namespace, s Selector) ([]netlink.Link, error) {
	links, err := host.links()
	if err != nil {
		return nil, err
	}
	var spare []netlink.Link
	for _, link := range links {
		ok, err := isSpare(host, link, links, s)
		if errors.Is(err, unix.ENODEV) {
			continue // it went while we looked
		}
		if err != nil {
			return nil, err
		}
		if ok {
			spare = append(spare, link)
		}
	}
	return spare, nil
}

func isSpare(host *Namespace, link netlink.Link, all []netlink.Link, s Selector) (bool, error) {
	attrs := link.Attrs()
	mac := attrs.PermHWAddr
	if len(mac) == 0 {
		mac = attrs.HardwareAddr
	}
	if attrs.Flags&net.FlagLoopback != 0 || len(mac) == 0 {
		return false, nil
	}
	if found, err := choose(all, mac.String()); err != nil || found.Attrs().Index != attrs.Index {
		return false, nil //nolint:nilerr // by its address it cannot be asked for
	}
	if ok, err := allowed(host, link, s); err != nil || !ok {
		return false, err
	}
	addresses, err := host.addresses(attrs.Index)
	if err != nil {
		return false, err
	}
	routes, err := host.routes(attrs.Index)
	if err != nil {
		return false, err
	}
	reason, err := refusalOf(host, link, addresses, routes)
	return reason == "", err
}
