package nic

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
)

// kindHostNIC is what the ledger calls the NICs of this file's kind of pool.
const kindHostNIC = "hostnic"

// Snapshot takes down all that [GiveBack] needs to put the NIC back as it is
// now, and a name to move it under; Pool and Interface are the caller's to fill
// in. It changes nothing. A NIC that the host cannot spare is a [RefusedError].
func Snapshot(host *Namespace, link netlink.Link) (ledger.NIC, error) {
	// The link may have changed since it was found.
	index := link.Attrs().Index
	link, err := host.linkByIndex(index)
	if err != nil {
		return ledger.NIC{}, fmt.Errorf("look at interface %d: %w", index, err)
	}
	if link == nil {
		return ledger.NIC{}, fmt.Errorf("look at interface %d: it is gone", index)
	}
	attrs := link.Attrs()
	rec, err := snapshot(host, link)
	if err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) {
			return ledger.NIC{}, err
		}
		return ledger.NIC{}, fmt.Errorf("take down how nic %s is: %w", label(attrs.HardwareAddr.String(), attrs.Name), err)
	}
	return rec, nil
}

func snapshot(host *Namespace, link netlink.Link) (ledger.NIC, error) {
	attrs := link.Attrs()
	all, err := host.addresses(attrs.Index)
	if err != nil {
		return ledger.NIC{}, err
	}
	routes, err := host.routes(attrs.Index)
	if err != nil {
		return ledger.NIC{}, err
	}
	reason, err := refusalOf(host, link, all, routes)
	if err != nil {
		return ledger.NIC{}, err
	}
	if reason != "" {
		return ledger.NIC{}, &RefusedError{NIC: label(attrs.HardwareAddr.String(), attrs.Name), Reason: reason}
	}
	rec := ledger.NIC{
		Kind:         kindHostNIC,
		Name:         attrs.Name,
		Index:        attrs.Index,
		ParentDevice: attrs.ParentDev,
		ParentBus:    attrs.ParentDevBus,
		Type:         kindOf(link),
		MAC:          attrs.HardwareAddr.String(),
		AltNames:     attrs.AltNames,
		Alias:        attrs.Alias,
		MTU:          attrs.MTU,
		TxQueueLen:   attrs.TxQLen,
		GSOMaxSize:   attrs.GSOMaxSize,
		Up:           attrs.Flags&net.FlagUp != 0,
	}
	if len(attrs.PermHWAddr) > 0 {
		rec.PermanentMAC = attrs.PermHWAddr.String()
	}
	if rec.TransientName, err = TransientName(); err != nil {
		return ledger.NIC{}, err
	}
	for _, a := range all {
		if !a.kernels(attrs.HardwareAddr) {
			rec.Addresses = append(rec.Addresses, a.Address)
		}
	}
	for _, r := range routes {
		if kept(r) && !connected(r, rec.Addresses) {
			rec.Routes = append(rec.Routes, recordRoute(r))
		}
	}
	if rec.Link, err = host.linkSettings(link); err != nil {
		return ledger.NIC{}, err
	}
	if rec.Sysctls, err = host.sysctls(attrs.Name); err != nil {
		return ledger.NIC{}, err
	}
	return rec, nil
}
