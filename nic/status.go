package nic

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// Status is how a NIC is in its container now, whatever became of it since it was
// attached.
type Status struct {
	// Interface is its name there.
	Interface string
	MAC       string
	MTU       int
	Up        bool
	// Addresses are those that somebody gave it; IPv6's own link-local ones are
	// left out.
	Addresses []netip.Prefix
	// Gateways are those of its default routes in the main table, the preferred
	// one of each family first.
	Gateways []netip.Addr
	// Default says that what has no other route leaves through it, in one family
	// at least.
	Default bool
	// PCI is the address of the PCI device, "" where there is none. Of a virtio
	// NIC it is that of the device below it.
	PCI string
}

// StatusOf looks at the NIC of a record in the container's namespace. A
// [LostError] says that it is not there.
func StatusOf(inside *Namespace, rec *ledger.NIC) (Status, error) {
	// The container's stands for the host's namespace, too: it is looked for there
	// and nowhere else.
	ns, link, err := locateNow(inside, []*Namespace{inside}, rec)
	if err == nil && ns == nil {
		return Status{}, &LostError{NIC: labelOf(rec)}
	}
	if err != nil {
		return Status{}, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	attrs := link.Attrs()
	s := Status{
		Interface: attrs.Name, MAC: attrs.HardwareAddr.String(), MTU: attrs.MTU, Up: attrs.Flags&net.FlagUp != 0,
	}
	addresses, err := inside.addresses(attrs.Index)
	if err != nil {
		return Status{}, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	for _, a := range addresses {
		if !a.kernels(attrs.HardwareAddr) {
			s.Addresses = append(s.Addresses, a.Prefix)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		gateways, preferred, err := inside.defaultsThrough(attrs.Index, family)
		if err != nil {
			return Status{}, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
		}
		s.Gateways, s.Default = append(s.Gateways, gateways...), s.Default || preferred
	}
	if s.PCI, err = pciOf(inside, attrs); err != nil {
		return Status{}, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	return s, nil
}

// defaultsThrough returns the gateways of the default routes through a link, and
// whether the route that the kernel takes is among them.
func (n *Namespace) defaultsThrough(index, family int) (gateways []netip.Addr, preferred bool, err error) {
	routes, err := dump(func() ([]netlink.Route, error) { return n.handle.RouteList(nil, family) })
	if err != nil {
		return nil, false, fmt.Errorf("list routes: %w", err)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool {
		ones := 0
		if r.Dst != nil {
			ones, _ = r.Dst.Mask.Size()
		}
		return ones > 0 || r.Type != unix.RTN_UNICAST
	})
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
	for i, r := range routes {
		if r.LinkIndex != index {
			continue
		}
		preferred = preferred || i == 0
		if gw := recordRoute(r).Gateway; gw.IsValid() {
			gateways = append(gateways, gw)
		}
	}
	return gateways, preferred, nil
}

// pciOf finds a link's PCI address: of hardware the parent, else what the driver
// says, which of virtio is the device below.
func pciOf(ns *Namespace, attrs *netlink.LinkAttrs) (string, error) {
	switch attrs.ParentDevBus {
	case "":
		return "", nil // virtual, or a kernel that does not say
	case "pci":
		return attrs.ParentDev, nil
	}
	_, bus, err := driverOf(ns, attrs.Name)
	if err != nil || !isPCIAddress(bus) {
		return "", err
	}
	return bus, nil
}

// isPCIAddress reports whether a driver's bus address is of the form 0000:3b:02.1.
func isPCIAddress(bus string) bool {
	var domain, number, device, function uint
	n, err := fmt.Sscanf(bus, "%x:%x:%x.%x", &domain, &number, &device, &function)
	return err == nil && n == 4
}
