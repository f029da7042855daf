package nic

import (
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// Check compares a NIC that a container was given with its record, and names all
// that differs: where it is, its index, name, transient name, MAC and whether it
// is up. MTU, addresses and routes in the container are not in the record, so
// that they are nobody's to judge. inside is nil where the container's namespace
// is gone. It changes nothing.
func Check(host, inside *Namespace, rec *ledger.NIC) ([]ledger.Difference, error) {
	var places []*Namespace
	if inside != nil {
		places = append(places, inside)
	}
	ns, link, err := locateNow(host, places, rec)
	if err != nil {
		return nil, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	var found []ledger.Difference
	differs := func(expected, actual string) {
		found = append(found, ledger.Difference{Object: "nic " + labelOf(rec), Expected: expected, Actual: actual})
	}
	place := fmt.Sprintf("in the container as %s (index %d)", rec.Interface, rec.InnerIndex)
	switch {
	case link == nil:
		differs(place, "neither there nor on the host")
		return found, nil
	case ns == host:
		differs(place, "on the host as "+link.Attrs().Name)
		return found, nil
	}
	attrs := link.Attrs()
	if attrs.Index != rec.InnerIndex {
		differs(fmt.Sprintf("index %d in the container", rec.InnerIndex), fmt.Sprint(attrs.Index))
	}
	if attrs.Name != rec.Interface {
		differs("called "+rec.Interface+" in the container", "called "+attrs.Name)
	}
	if !hasName(link, rec.TransientName) && keepsAltNames() {
		differs("altname "+rec.TransientName, "without it")
	}
	if mac := attrs.HardwareAddr.String(); rec.Kind == kindHostNIC && mac != rec.MAC {
		differs("with the MAC "+rec.MAC, "with "+mac)
	}
	if attrs.Flags&net.FlagUp == 0 {
		differs("up", "down")
	}
	return found, nil
}

// keepsAltNames reports whether the kernel has altnames (Linux 5.5). One without
// them does not say so to those who only look.
func keepsAltNames() bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	var major, minor int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); n < 2 {
		return true
	}
	return major > 5 || major == 5 && minor >= 5
}

// Stranded is an interface that has a name under which a NIC moves.
type Stranded struct {
	TransientName string
	// Name is the interface's name, which may be the transient one.
	Name string
	MAC  string
}

// InTransit lists the interfaces of a namespace that have such a name. On the
// host that is one which is being moved, by a record that names it, or one which
// was left half way.
func InTransit(ns *Namespace) ([]Stranded, error) {
	links, err := ns.links()
	if err != nil {
		return nil, err
	}
	var list []Stranded
	for _, link := range links {
		if name := transientNameOf(link); name != "" {
			list = append(list, Stranded{TransientName: name, Name: link.Attrs().Name, MAC: link.Attrs().HardwareAddr.String()})
		}
	}
	return list, nil
}

func transientNameOf(link netlink.Link) string {
	names := append([]string{link.Attrs().Name}, link.Attrs().AltNames...)
	if i := slices.IndexFunc(names, isTransientName); i >= 0 {
		return names[i]
	}
	return ""
}
