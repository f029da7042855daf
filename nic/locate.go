package nic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
)

// returnWait is how long hardware may take to come back by itself: the kernel
// clears away a dead namespace in a queue of its own.
const returnWait = 2 * time.Second

// match says whether a link is the NIC of a record.
type match func(*ledger.NIC, netlink.Link) bool

// isIt reports whether a link that stands where the record says is the NIC: an
// index may be another device's by now. Hardware is known by its place and
// permanent address, a virtual device by its MAC, or by the transient name where
// the container changed the MAC. A container with CAP_NET_ADMIN can put another
// one in a virtual device's place; it cannot forge a card's.
func isIt(rec *ledger.NIC, link netlink.Link) bool {
	if kindOf(link) != rec.Type {
		return false
	}
	if rec.ParentDevice != "" || rec.PermanentMAC != "" {
		return sameHardware(rec, link)
	}
	return link.Attrs().HardwareAddr.String() == rec.MAC || hasName(link, rec.TransientName)
}

func sameHardware(rec *ledger.NIC, link netlink.Link) bool {
	return samePlace(rec, link) && link.Attrs().PermHWAddr.String() == rec.PermanentMAC
}

// samePlace reports whether a link is of the record's hardware, whatever its
// permanent address. A VF's is none before it was up for the first time, and from
// then on the current one whenever it is reset (igbvf, ixgbevf, iavf), so that a
// container can change it. Of several ports in one place, or of another card in
// the place of one that was pulled, it does not tell: it takes the index or the
// transient name beside it.
func samePlace(rec *ledger.NIC, link netlink.Link) bool {
	attrs := link.Attrs()
	return kindOf(link) == rec.Type && attrs.ParentDev == rec.ParentDevice && attrs.ParentDevBus == rec.ParentBus
}

func hasName(link netlink.Link, name string) bool {
	return link.Attrs().Name == name || slices.Contains(link.Attrs().AltNames, name)
}

// locate finds the NIC wherever it is: nil, nil, nil where it is nowhere. What
// cannot be mistaken is looked for everywhere before the MAC alone counts.
func locate(ctx context.Context, host *Namespace, inside []*Namespace, rec *ledger.NIC) (*Namespace, netlink.Link, error) {
	deadline := time.Now().Add(returnWait)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		ns, link, err := locateNow(host, inside, rec)
		virtual := rec.ParentDevice == ""
		if link != nil || err != nil || virtual || time.Now().After(deadline) {
			return ns, link, err
		}
		if sleep(ctx, wait) != nil {
			return nil, nil, nil
		}
	}
}

func locateNow(host *Namespace, inside []*Namespace, rec *ledger.NIC) (*Namespace, netlink.Link, error) {
	var errs []error
	look := func(ns *Namespace, find func(*Namespace, *ledger.NIC) (netlink.Link, error)) netlink.Link {
		link, err := find(ns, rec)
		if err != nil {
			errs = append(errs, fmt.Errorf("look for it: %w", err))
		}
		return link
	}
	everywhere := append(slices.Clone(inside), host)
	for _, try := range []struct {
		places []*Namespace
		find   func(*Namespace, *ledger.NIC) (netlink.Link, error)
	}{
		{inside, byIndexInside(isIt)},
		{everywhere, byTransientName(isIt)},
		{everywhere, byHardware},
		{[]*Namespace{host}, byIndexOnHost(isIt)},
		{inside, byIndexInside(isAtItsPlace)},
		{everywhere, byTransientName(isAtItsPlace)},
		{[]*Namespace{host}, byIndexOnHost(isAtItsPlace)},
	} {
		for _, ns := range try.places {
			if link := look(ns, try.find); link != nil {
				return ns, link, nil
			}
		}
	}
	for _, ns := range inside {
		// Before it was inside, a device with its MAC there is another one.
		if rec.InnerIndex == 0 {
			break
		}
		if link := look(ns, byMAC); link != nil {
			return ns, link, nil
		}
	}
	if link := look(host, byMAC); link != nil {
		return host, link, nil
	}
	return nil, nil, errors.Join(errs...)
}

// isAtItsPlace is isIt for hardware whose permanent address has changed.
func isAtItsPlace(rec *ledger.NIC, link netlink.Link) bool {
	return rec.ParentDevice != "" && samePlace(rec, link)
}

func byIndexInside(is match) func(*Namespace, *ledger.NIC) (netlink.Link, error) {
	return func(ns *Namespace, rec *ledger.NIC) (netlink.Link, error) {
		return byIndex(ns, rec, rec.InnerIndex, is)
	}
}

func byIndexOnHost(is match) func(*Namespace, *ledger.NIC) (netlink.Link, error) {
	return func(ns *Namespace, rec *ledger.NIC) (netlink.Link, error) { return byIndex(ns, rec, rec.Index, is) }
}

func byIndex(ns *Namespace, rec *ledger.NIC, index int, is match) (netlink.Link, error) {
	if index == 0 {
		return nil, nil
	}
	link, err := ns.linkByIndex(index)
	if err != nil || link == nil || !is(rec, link) {
		return nil, err
	}
	return link, nil
}

func byTransientName(is match) func(*Namespace, *ledger.NIC) (netlink.Link, error) {
	return func(ns *Namespace, rec *ledger.NIC) (netlink.Link, error) {
		if rec.TransientName == "" {
			return nil, nil
		}
		// A container can give the name to another device, but not a card's place.
		link, err := ns.linkByName(rec.TransientName)
		if err != nil || link == nil || !is(rec, link) {
			return nil, err
		}
		return link, nil
	}
}

// byHardware needs a permanent address: a VF that never had one may have been made
// anew meanwhile, in the same place, for somebody else.
func byHardware(ns *Namespace, rec *ledger.NIC) (netlink.Link, error) {
	if rec.ParentDevice == "" || rec.PermanentMAC == "" {
		return nil, nil
	}
	return only(ns, func(link netlink.Link) bool { return sameHardware(rec, link) })
}

func byMAC(ns *Namespace, rec *ledger.NIC) (netlink.Link, error) {
	if rec.ParentDevice != "" {
		return nil, nil // hardware has been looked for by what it is
	}
	return only(ns, func(link netlink.Link) bool { return isIt(rec, link) })
}

// only returns the one link that fits; several are as bad as none.
func only(ns *Namespace, fits func(netlink.Link) bool) (netlink.Link, error) {
	links, err := ns.links()
	if err != nil {
		return nil, err
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool { return !fits(l) })
	if len(links) != 1 {
		return nil, nil
	}
	return links[0], nil
}
