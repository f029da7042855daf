package nic

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
)

// GiveBack puts the NIC of the record back on the host, as the record says it
// was: what its PF has for it where it is a VF, name, index where it is free,
// altnames, alias, MAC, MTU, queue length, GSO size, settings, up or down, addresses,
// routes. It starts from whatever a cut-short attach, the
// container, the kernel or an earlier GiveBack has left, wherever the NIC is: in
// one of the inside namespaces, none of which needs to exist any more, or on the
// host already. Doing it again changes nothing.
//
// It goes on past errors and returns them all. Where the host's name is taken
// meanwhile, the NIC keeps the one it came under, is up and has its addresses. A
// [LostError] means that there is no NIC any more.
func GiveBack(ctx context.Context, host *Namespace, inside []*Namespace, rec *ledger.NIC) error {
	var errs []error
	fail := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("give back nic %s: %s: %w", labelOf(rec), what, err))
		}
	}
	var places []*Namespace
	for _, ns := range inside {
		if ns != nil && ns.ID() != host.ID() {
			places = append(places, ns)
			fail("clean up in the container", removeRules(ns, rec))
		}
	}
	ns, link, err := locate(ctx, host, places, rec)
	switch {
	case err != nil:
		fail("find it", err)
		return errors.Join(errs...)
	case link == nil:
		fail("restore its VF settings", restoreVF(ctx, host, rec, true))
		return errors.Join(append(errs, &LostError{NIC: labelOf(rec)})...)
	}
	if ns != host {
		link, err = bringHome(ctx, host, ns, link, rec)
		fail("move it to the host", err)
		if link == nil {
			return errors.Join(errs...)
		}
	}
	for _, place := range places {
		fail("take off what the container put on it", removeUppers(host, link, place))
	}
	r := restore{host: host, link: link, rec: rec, fail: fail}
	r.run(ctx)
	return errors.Join(errs...)
}

// bringHome moves the NIC from a container's namespace to the host, under the
// transient name. The link it returns is the one on the host, nil where the move
// failed; an error beside a link was no obstacle.
func bringHome(ctx context.Context, host, ns *Namespace, link netlink.Link, rec *ledger.NIC) (netlink.Link, error) {
	attrs := link.Attrs()
	tellMACEarly(host, rec)
	errs := []error{ns.handle.LinkSetDown(link)}
	// Before the altnames: of a virtual NIC that the container gave another MAC,
	// the transient name is all that we know it by if we are killed below.
	if mac, err := net.ParseMAC(rec.MAC); err == nil && rec.ParentDevice == "" && attrs.HardwareAddr.String() != rec.MAC {
		errs = append(errs, ns.handle.LinkSetHardwareAddr(link, mac))
	}
	// The host's IPv6 looks at the flags when the NIC arrives: one without ARP
	// would have no detection of duplicates for good.
	if want := rec.Link; want != nil && attrs.RawFlags&travellingFlags != want.Flags {
		errs = append(errs, ns.setFlags(attrs.Index, want.Flags, travellingFlags))
	}
	// Altnames travel with the device, and one that the host has would stop
	// the move. The container may have added any; the host's are in the record.
	for _, name := range attrs.AltNames {
		if err := ns.handle.LinkDelAltName(link, name); err != nil {
			errs = append(errs, fmt.Errorf("drop altname %s: %w", name, err))
		}
	}
	// Renamed here and not only with the move: the host's udev shall not see
	// an eth0 come and go.
	if attrs.Name != rec.TransientName {
		errs = append(errs, ns.handle.LinkSetName(link, rec.TransientName))
	}
	if err := ns.move(ctx, attrs.Index, host, rec.TransientName, rec.Index); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	home, err := host.linkByName(rec.TransientName)
	if err == nil && home == nil {
		err = errors.New("it did not arrive")
	}
	return home, errors.Join(append(errs, err)...)
}
