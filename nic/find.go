package nic

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Selector says which NIC of the host is meant, and which ones may be at all.
type Selector struct {
	// MAC is the address of the NIC asked for: its permanent one, or the
	// current one where no NIC has it as permanent. A request without one
	// is refused.
	MAC net.HardwareAddr
	// MACs, Names, PCI and Drivers are globs ([path.Match]). The NIC has to
	// match at least one of them all; with none given no NIC does.
	MACs, Names, PCI, Drivers []string
}

// kindless is what the netlink package calls a link without a kind: hardware.
const kindless = "device"

// kindOf is the rtnl kind of a link, "" for hardware.
func kindOf(link netlink.Link) string {
	if link.Type() == kindless {
		return ""
	}
	return link.Type()
}

// Find returns the NIC of the host that the selector means. Its errors are a
// [NotFoundError], an [AmbiguousError] or a [RefusedError] for what the request
// got wrong. Whether the host can spare the NIC is [Snapshot]'s question.
func Find(host *Namespace, s Selector) (netlink.Link, error) {
	if len(s.MAC) == 0 {
		return nil, &RefusedError{Reason: "the request selects no nic: it has to give a mac"}
	}
	links, err := host.links()
	if err != nil {
		return nil, err
	}
	link, err := choose(links, s.MAC.String())
	if err != nil {
		return nil, err
	}
	ok, err := allowed(host, link, s)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &RefusedError{NIC: label(s.MAC.String(), link.Attrs().Name), Reason: "it is none of the pool's"}
	}
	return link, nil
}

// choose finds the link with an address. The permanent address decides where
// there is one: bridges, bonds, vlans and macvlans take over the current address
// of the NIC below them (hostnic-cni met its own bridge this way), and a bonded
// NIC carries that of another.
func choose(links []netlink.Link, mac string) (netlink.Link, error) {
	var permanent, current []netlink.Link
	for _, l := range links {
		attrs := l.Attrs()
		if attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		if attrs.PermHWAddr.String() == mac {
			permanent = append(permanent, l)
		}
		if attrs.HardwareAddr.String() == mac {
			current = append(current, l)
		}
	}
	for _, candidates := range [][]netlink.Link{permanent, current} {
		if len(candidates) == 0 {
			continue
		}
		devices := slices.DeleteFunc(slices.Clone(candidates), func(l netlink.Link) bool {
			return onTop(l, candidates)
		})
		if len(devices) == 0 {
			devices = candidates
		}
		if len(devices) == 1 {
			return devices[0], nil
		}
		var names []string
		for _, l := range devices {
			names = append(names, l.Attrs().Name)
		}
		slices.Sort(names)
		return nil, &AmbiguousError{MAC: mac, Names: names}
	}
	return nil, &NotFoundError{MAC: mac}
}

// onTop reports whether a link is of a kind that borrows its address from
// another, or sits on one of the other candidates.
func onTop(l netlink.Link, others []netlink.Link) bool {
	if refusedKind(l) != "" {
		return true
	}
	attrs := l.Attrs()
	if kindOf(l) != "macvlan" || attrs.NetNsID >= 0 {
		return false
	}
	return slices.ContainsFunc(others, func(o netlink.Link) bool { return o.Attrs().Index == attrs.ParentIndex })
}

// allowed reports whether the link matches one of the selector's globs.
func allowed(host *Namespace, link netlink.Link, s Selector) (bool, error) {
	attrs := link.Attrs()
	macs := []string{attrs.PermHWAddr.String(), attrs.HardwareAddr.String()}
	if matchAny(lower(s.MACs), macs) || matchAny(s.Names, append([]string{attrs.Name}, attrs.AltNames...)) {
		return true, nil
	}
	if len(s.PCI) == 0 && len(s.Drivers) == 0 {
		return false, nil
	}
	buses := []string{}
	if attrs.ParentDevBus == "pci" {
		buses = append(buses, attrs.ParentDev)
	}
	driver, bus, err := driverOf(host, attrs.Name)
	if err != nil {
		return false, err
	}
	// Of a virtio NIC the parent is "virtio2"; the driver knows the PCI
	// address below it.
	return matchAny(s.PCI, append(buses, bus)) || matchAny(s.Drivers, []string{driver}), nil
}

func lower(globs []string) []string {
	out := make([]string, len(globs))
	for i, g := range globs {
		out[i] = strings.ToLower(g)
	}
	return out
}

// matchAny reports whether a non-empty value matches one of the globs. A
// malformed glob matches nothing; policy refuses it at load.
func matchAny(globs, values []string) bool {
	for _, g := range globs {
		for _, v := range values {
			if ok, err := path.Match(g, v); err == nil && ok && v != "" {
				return true
			}
		}
	}
	return false
}

// driverOf asks a link's driver for its name and bus address (ETHTOOL_GDRVINFO).
// sysfs would answer for the network namespace in which it was mounted, whatever
// the thread's is.
func driverOf(ns *Namespace, name string) (driver, bus string, err error) {
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // a device without a driver's name matches none
		}
		if err != nil {
			return err
		}
		driver = unix.ByteSliceToString(info.Driver[:])
		bus = unix.ByteSliceToString(info.Bus_info[:])
		return nil
	})
	if err != nil {
		return "", "", fmt.Errorf("ask the driver of %s: %w", name, err)
	}
	return driver, bus, nil
}
