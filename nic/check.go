package nic

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// Check compares a NIC that a container was given with its record, and names all
// that differs: where it is, its index, name, transient name, MAC, MTU, what of
// the addresses and routes that it was given is missing, whether it is up, and what
// its PF has for it. What the container has added is its own. inside is nil where the
// container's namespace is gone. It changes nothing.
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
	if want, mac := macInside(rec), attrs.HardwareAddr.String(); want != "" && mac != want {
		differs("with the MAC "+want, "with "+mac)
	}
	if err := checkPFHas(host, rec, differs); err != nil {
		return nil, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	if given := rec.Given; given != nil {
		if attrs.MTU != given.MTU {
			differs(fmt.Sprintf("with an MTU of %d", given.MTU), fmt.Sprintf("with %d", attrs.MTU))
		}
		checkFlag("promisc", given.Promisc, attrs.RawFlags&unix.IFF_PROMISC != 0, differs)
		checkFlag("allmulti", given.AllMulti, attrs.RawFlags&unix.IFF_ALLMULTI != 0, differs)
	}
	if attrs.Flags&net.FlagUp == 0 {
		differs("up", "down") // and so without routes
		return found, nil
	}
	if err := checkGiven(inside, link, rec, differs); err != nil {
		return nil, fmt.Errorf("look at nic %s: %w", labelOf(rec), err)
	}
	return found, nil
}

// macInside is the MAC that a NIC was given for the container, "" where it is not
// known: a VF that nobody gave one may draw another whenever it is reset.
func macInside(rec *ledger.NIC) string {
	switch vf := rec.VF; {
	case vf == nil:
		return rec.MAC
	case wasRefused(vf, "mac"):
		return ""
	default:
		return vf.Set.MAC
	}
}

func checkFlag(name string, given *bool, is bool, differs func(expected, actual string)) {
	onOff := map[bool]string{true: "on", false: "off"}
	if given != nil && *given != is {
		differs("with "+name+" "+onOff[*given], onOff[is])
	}
}

// checkGiven compares addresses, routes and rules in the container with those given.
func checkGiven(inside *Namespace, link netlink.Link, rec *ledger.NIC, differs func(expected, actual string)) error {
	given := rec.Given
	if given == nil {
		return nil
	}
	addresses, err := inside.addresses(link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, want := range given.Addresses {
		if !slices.ContainsFunc(addresses, func(a address) bool { return a.Prefix == want }) {
			differs("with the address "+want.String(), "without it")
		}
	}
	routes, err := inside.routes(link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, want := range given.Routes {
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return asGiven(recordRoute(r), want) }) {
			differs("with the route to "+wayOf(want), "without it")
		}
	}
	if len(given.Sources) == 0 {
		return nil
	}
	rules, err := rulesOf(inside, rec)
	if err != nil {
		return err
	}
	for _, want := range given.Sources {
		if !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Src != nil && r.Src.IP.Equal(want.AsSlice()) }) {
			differs(fmt.Sprintf("with a rule for what is sent from %s", want), "without it")
		}
	}
	return nil
}

// asGiven reports whether a route of the kernel's is one that was added. The kernel
// writes table and metric also where it was left the choice.
func asGiven(now, want ledger.Route) bool {
	if want.Table == 0 {
		want.Table = unix.RT_TABLE_MAIN
	}
	if want.Metric == 0 && want.Destination.Addr().Is6() {
		want.Metric = metricV6
	}
	return now.Destination == want.Destination && now.Gateway == want.Gateway && now.Table == want.Table && now.Metric == want.Metric
}

func wayOf(r ledger.Route) string {
	way := r.Destination.String()
	if r.Gateway.IsValid() {
		way += " via " + r.Gateway.String()
	}
	return way + inTable(r.Table)
}

// checkPFHas compares what a VF's PF shows with what it was told.
func checkPFHas(host *Namespace, rec *ledger.NIC, differs func(expected, actual string)) error {
	vf := rec.VF
	if vf == nil || vf.Set.Empty() {
		return nil
	}
	pf, now, err := host.vfInfo(vf.PF, vf.Index)
	if err != nil {
		differs("known to its PF", err.Error())
		return nil
	}
	for _, s := range host.vfSettings(vf.Index, vf.Set) {
		if s.is(now) || wasRefused(vf, s.name) {
			continue
		}
		told, err := json.Marshal(vf.Set)
		if err != nil {
			return err
		}
		shows, err := json.Marshal(shown(vf.Set, now))
		if err != nil {
			return err
		}
		differs(fmt.Sprintf("VF %d of %s with %s", vf.Index, pf.Attrs().Name, told), "with "+string(shows))
		return nil
	}
	return nil
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
