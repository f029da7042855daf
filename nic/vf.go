package nic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// VFSelector says which VFs of the host may be given to a container.
type VFSelector struct {
	// PFs: a VF has to be of one of them.
	PFs []PFSelector
	// Drivers are globs ([path.Match]) for the VF's driver; none is any.
	Drivers []string
}

// PFSelector says which PFs are meant, and which of their VFs.
type PFSelector struct {
	// Device is a glob for the name or an altname of the PF's interface, or for
	// its PCI address, or the PCI ids of a model, as in "8086:10c9".
	Device string
	// VFs are the numbers of the VFs; none is all of them.
	VFs []Range
}

// Range is a range of numbers, both ends included.
type Range struct{ First, Last int }

func (s PFSelector) has(index int) bool {
	return len(s.VFs) == 0 || slices.ContainsFunc(s.VFs, func(r Range) bool { return r.First <= index && index <= r.Last })
}

// VF is a virtual function of the host.
type VF struct {
	// PF is the PCI address of its physical function, PFName the name of that
	// one's interface, Index the VF's number there.
	PF, PFName string
	Index      int
	// Address is the VF's own PCI address.
	Address string
	// Link is the VF's interface, nil where the host has none of it: it is in a
	// container, or has a driver that makes none, as vfio-pci.
	Link netlink.Link
	// Unusable is why it can be given to nobody now; "" where nothing is known.
	Unusable string
}

// VFs lists the VFs that a selector means, by PF and number. That there are none
// is an error: a [NoVFError] which says what was looked for.
func VFs(host *Namespace, s VFSelector) ([]VF, error) { return sysPCI.find(host, s) }

// NoVFError says that a selector means no VF of this node.
type NoVFError struct {
	// Reason says what there is, and what is missing.
	Reason string
}

func (e *NoVFError) Error() string { return e.Reason }

func (b pciBus) find(host *Namespace, s VFSelector) ([]VF, error) {
	links, err := host.links()
	if err != nil {
		return nil, err
	}
	pfs, err := b.meant(links, s)
	if err != nil {
		return nil, err
	}
	var all []VF
	for _, pf := range pfs {
		vfs, err := b.vfs(pf.address)
		if err != nil {
			return nil, err
		}
		for index, address := range vfs {
			driver := b.driver(address)
			if !pf.has(index) || len(s.Drivers) > 0 && !matchAny(s.Drivers, []string{driver}) {
				continue
			}
			vf := VF{PF: pf.address, PFName: pf.name(), Index: index, Address: address, Link: linkOf(links, address)}
			switch {
			case pf.link != nil && pf.link.Attrs().Flags&net.FlagUp == 0:
				vf.Unusable = fmt.Sprintf("its PF %s is down", vf.PFName)
			case vf.Link == nil && driver == "":
				vf.Unusable = "it has no driver"
			case vf.Link == nil:
				vf.Unusable = fmt.Sprintf("it has no interface on the host (driver %s)", driver)
			}
			all = append(all, vf)
		}
	}
	if len(all) == 0 {
		return nil, &NoVFError{Reason: b.whyNone(pfs)}
	}
	slices.SortFunc(all, func(x, y VF) int {
		if c := strings.Compare(x.PF, y.PF); c != 0 {
			return c
		}
		return x.Index - y.Index
	})
	return all, nil
}

// physical is a PF that a selector means.
type physical struct {
	address string
	link    netlink.Link // nil where the host has no interface of it
	by      []PFSelector
}

func (p physical) has(index int) bool {
	return slices.ContainsFunc(p.by, func(s PFSelector) bool { return s.has(index) })
}

func (p physical) name() string {
	if p.link == nil {
		return p.address
	}
	return p.link.Attrs().Name
}

// meant returns the PFs that a selector means.
func (b pciBus) meant(links []netlink.Link, s VFSelector) ([]physical, error) {
	addresses, err := b.pfs()
	if err != nil {
		return nil, err
	}
	var found []physical
	for _, address := range addresses {
		model, err := b.model(address)
		if err != nil {
			return nil, err
		}
		p := physical{address: address, link: pfLinkOf(links, address)}
		values := []string{address, model}
		if p.link != nil {
			values = append(append(values, p.name()), p.link.Attrs().AltNames...)
		}
		for _, sel := range s.PFs {
			if matchAny([]string{sel.Device}, values) {
				p.by = append(p.by, sel)
			}
		}
		if len(p.by) > 0 {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		var asked []string
		for _, sel := range s.PFs {
			asked = append(asked, sel.Device)
		}
		return nil, &NoVFError{Reason: fmt.Sprintf("no PF of this node is %s: it has %s", strings.Join(asked, ", "), orNone(b.names(links, addresses)))}
	}
	return found, nil
}

func (b pciBus) names(links []netlink.Link, addresses []string) []string {
	var names []string
	for _, a := range addresses {
		names = append(names, physical{address: a, link: pfLinkOf(links, a)}.name())
	}
	return names
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (b pciBus) whyNone(pfs []physical) string {
	var parts []string
	for _, pf := range pfs {
		n, err := b.number(pf.address, "sriov_numvfs")
		switch {
		case err != nil:
			parts = append(parts, fmt.Sprintf("%s does not say how many it has", pf.name()))
		case n == 0:
			parts = append(parts, fmt.Sprintf("%s has none: write a number into %s, or give the pool numvfs", pf.name(), b.path(pf.address, "sriov_numvfs")))
		default:
			parts = append(parts, fmt.Sprintf("none of the %d of %s has a number and a driver of the pool's", n, pf.name()))
		}
	}
	return "there are no VFs: " + strings.Join(parts, "; ")
}

// linkOf returns the interface of a PCI device, nil where there is none among the
// links, or several.
func linkOf(links []netlink.Link, address string) netlink.Link {
	var found []netlink.Link
	for _, l := range links {
		if a := l.Attrs(); kindOf(l) == "" && a.ParentDevBus == "pci" && a.ParentDev == address {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// pfLinkOf returns the interface of a PF's device. In switchdev mode there is one
// for each of its VFs as well (sriov-network-device-plugin#383): the PF's own is the
// one that lists the VFs.
func pfLinkOf(links []netlink.Link, device string) netlink.Link {
	var found []netlink.Link
	for _, l := range links {
		if l.Attrs().ParentDev == device {
			found = append(found, l)
		}
	}
	if len(found) > 1 {
		found = slices.DeleteFunc(found, func(l netlink.Link) bool { return len(l.Attrs().Vfs) == 0 })
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// vfWait is how long the interfaces of new VFs may take to appear: udev and the
// drivers do their part one VF after the other.
const vfWait = 10 * time.Second

// PFs returns the PCI addresses of the PFs that a selector means.
func PFs(host *Namespace, s VFSelector) ([]string, error) {
	links, err := host.links()
	if err != nil {
		return nil, err
	}
	pfs, err := sysPCI.meant(links, s)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, len(pfs))
	for i, pf := range pfs {
		addresses[i] = pf.address
	}
	return addresses, nil
}

// CreateVFs makes count VFs of a PF that has none, and waits for their interfaces.
// Where it has some it does nothing: another number would take them all away
// first, whoever has them (sriov-network-device-plugin#276). The caller holds a
// lock on the PF.
func CreateVFs(ctx context.Context, host *Namespace, pf string, count int) error {
	return sysPCI.createVFs(ctx, host, pf, count)
}

func (b pciBus) createVFs(ctx context.Context, host *Namespace, pf string, count int) error {
	fail := func(err error) error { return fmt.Errorf("make %d VFs of %s: %w", count, pf, err) }
	now, err := b.number(pf, "sriov_numvfs")
	if err != nil {
		return fail(err)
	}
	if now != 0 {
		return nil
	}
	most, err := b.number(pf, "sriov_totalvfs")
	if err != nil {
		return fail(err)
	}
	if count > most {
		return fail(fmt.Errorf("it can have %d", most))
	}
	if err := os.WriteFile(b.path(pf, "sriov_numvfs"), []byte(strconv.Itoa(count)), 0); err != nil {
		return fail(err)
	}
	for end := time.Now().Add(vfWait); ; {
		missing, err := b.withoutInterface(host, pf)
		if err != nil {
			return fail(err)
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fail(fmt.Errorf("%d of them have no interface after %s", missing, vfWait))
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return fail(err)
		}
	}
}

func (b pciBus) withoutInterface(host *Namespace, pf string) (missing int, err error) {
	vfs, err := b.vfs(pf)
	if err != nil {
		return 0, err
	}
	links, err := host.links()
	if err != nil {
		return 0, err
	}
	if len(vfs) == 0 {
		return 0, errors.New("the driver made none")
	}
	for _, address := range vfs {
		if linkOf(links, address) == nil {
			missing++
		}
	}
	return missing, nil
}
