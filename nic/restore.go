package nic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// restore makes a link on the host what the record says. Each part looks before
// it acts, so that a NIC that is right already is left alone.
type restore struct {
	host *Namespace
	link netlink.Link
	rec  *ledger.NIC
	fail func(what string, err error)
}

func (r *restore) run(ctx context.Context) {
	h, rec := r.host.handle, r.rec
	r.fail("detach its XDP program", r.host.detachXDP(r.link))
	r.fail("restore its VF settings", restoreVF(ctx, r.host, rec, false))
	// The MAC before the name: of a virtual NIC that the container gave another
	// one, the transient name is all that we know it by if we are killed here.
	r.mac(ctx)
	r.names()
	attrs := r.link.Attrs()
	if attrs.Alias != rec.Alias {
		r.fail("set its alias", h.LinkSetAlias(r.link, rec.Alias))
	}
	if attrs.MTU != rec.MTU {
		r.fail("set its MTU", h.LinkSetMTU(r.link, rec.MTU))
	}
	if attrs.TxQLen != rec.TxQueueLen {
		r.fail("set its queue length", h.LinkSetTxQLen(r.link, rec.TxQueueLen))
	}
	if rec.GSOMaxSize != 0 && attrs.GSOMaxSize != rec.GSOMaxSize {
		r.fail("set its GSO size", h.LinkSetGSOMaxSize(r.link, int(rec.GSOMaxSize)))
	}
	r.settings()
	// Before it is up: disable_ipv6 and addr_gen_mode say what happens then.
	r.fail("restore its settings", r.host.setSysctls(attrs.Name, rec.Sysctls))
	r.look()
	r.permanentMAC()
	attrs = r.link.Attrs()
	if up := attrs.Flags&net.FlagUp != 0; rec.Up && !up {
		r.fail("bring it up", h.LinkSetUp(r.link))
	} else if !rec.Up && up {
		r.fail("take it down", h.LinkSetDown(r.link))
	}
	r.addresses()
	r.routes()
}

func (r *restore) mac(ctx context.Context) {
	mac, err := net.ParseMAC(r.rec.MAC)
	if err != nil || r.link.Attrs().HardwareAddr.String() == r.rec.MAC {
		return
	}
	set := func() error { return r.host.handle.LinkSetHardwareAddr(r.link, mac) }
	switch vf := r.rec.VF; {
	case vf == nil || vf.Set.MAC == "":
		r.fail("set its MAC", r.quietly(set))
	case !hasNoMAC(mac): // a VF that had none keeps the one it got: none cannot be set
		r.fail("take it down", r.host.handle.LinkSetDown(r.link))
		r.fail("set its MAC", r.host.takeMAC(ctx, r.link.Attrs().Index, mac))
		r.look()
	}
}

// look reads the link anew. Where it cannot the old picture stays, and what
// follows fails with the reason.
func (r *restore) look() {
	if link, err := r.host.linkByIndex(r.link.Attrs().Index); err == nil && link != nil {
		r.link = link
	}
}

// permanentMAC has a VF forget, as its permanent address, the one that a container
// gave it: by that NICs are asked for, and it may be another NIC's. The VF's driver
// takes the current address when the VF comes up.
func (r *restore) permanentMAC() {
	now := r.link.Attrs().PermHWAddr.String()
	if r.rec.ParentDevice == "" || r.rec.Up || now == r.rec.PermanentMAC || now == r.rec.MAC {
		return
	}
	r.fail("reset its permanent MAC", r.host.handle.LinkSetUp(r.link))
	r.fail("take it down again", r.host.handle.LinkSetDown(r.link))
	r.look()
}

// quietly does what some kernels and drivers do only with a device that is down.
// It is not taken down for nothing: that costs it its IPv6 addresses and routes,
// and the reconciler may come by again and again while a name is taken.
func (r *restore) quietly(change func() error) error {
	err := change()
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := r.host.handle.LinkSetDown(r.link); err != nil {
		return err
	}
	return change()
}

// names restores name and altnames. The altnames that are not the host's go
// first: one of them may be the name itself.
func (r *restore) names() {
	h, rec := r.host.handle, r.rec
	for _, name := range r.link.Attrs().AltNames {
		if !slices.Contains(rec.AltNames, name) {
			r.fail("drop altname "+name, h.LinkDelAltName(r.link, name))
		}
	}
	if name := r.link.Attrs().Name; name != rec.Name {
		err := r.quietly(func() error { return h.LinkSetName(r.link, rec.Name) })
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("another interface has it, so it stays %s: rename that one: %w", name, err)
		}
		r.fail("name it "+rec.Name, err)
	}
	for _, name := range rec.AltNames {
		if !slices.Contains(r.link.Attrs().AltNames, name) {
			r.fail("add altname "+name, h.LinkAddAltName(r.link, name))
		}
	}
	r.look()
}

// addresses adds what is missing, in the order that says which ones are
// secondary.
func (r *restore) addresses() {
	index := r.link.Attrs().Index
	now := r.listed()
	for _, have := range now {
		// A rename while it had addresses made labels of its own.
		if i := slices.IndexFunc(r.rec.Addresses, have.is); i >= 0 && have.Label != r.rec.Addresses[i].Label {
			r.fail("take off "+have.Prefix.String(), r.host.deleteAddress(index, have.Address))
			now = nil
		}
	}
	if now == nil {
		now = r.listed() // secondary ones go with their primary
	}
	for _, want := range asAdded(r.rec.Addresses) {
		there := slices.ContainsFunc(now, func(a address) bool { return a.is(want) })
		if !there {
			r.fail("add "+want.Prefix.String(), r.host.returnAddress(index, want, metricOf(want, r.rec.Routes)))
		}
	}
}

func (r *restore) listed() []address {
	list, err := r.host.addresses(r.link.Attrs().Index)
	r.fail("look at its addresses", err)
	return list
}

// routes adds what is missing, those first that others go through.
func (r *restore) routes() {
	if !r.rec.Up || len(r.rec.Routes) == 0 {
		return
	}
	index := r.link.Attrs().Index
	listed, err := r.host.routes(index)
	r.fail("look at its routes", err)
	var now []ledger.Route
	for _, l := range listed {
		now = append(now, recordRoute(l))
	}
	missing := slices.DeleteFunc(slices.Clone(r.rec.Routes), func(want ledger.Route) bool { return slices.Contains(now, want) })
	slices.SortStableFunc(missing, func(a, b ledger.Route) int {
		if a.Gateway.IsValid() != b.Gateway.IsValid() {
			if a.Gateway.IsValid() {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.Destination.Bits(), a.Destination.Bits())
	})
	for _, want := range missing {
		err := r.host.addRoute(index, want)
		if !errors.Is(err, unix.EEXIST) {
			r.fail("add the route to "+want.Destination.String(), err)
		}
	}
}
