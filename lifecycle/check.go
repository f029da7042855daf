package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/request"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
)

// attachTime is what an attach and its undoing take at most: after it a runtime
// has killed the hook.
const attachTime = 10 * time.Second

// Difference is one thing of the node's that is not as the ledger says.
type Difference struct {
	// Container and Key are those of the record, "" where there is none.
	Container string `json:"container,omitempty"`
	Key       string `json:"key,omitempty"`
	ledger.Difference
}

// String says it in one line.
func (d Difference) String() string {
	return cmp.Or(d.Container, "node") + ": " + d.Difference.String()
}

// Check compares the ledger with the kernel, and names all that differs. With
// keys it looks at these records alone; without, at all of them, and at what is
// there without a record. It changes nothing. What could not be looked at is in
// the error, beside the rest.
//
// What differs is looked at once more after poststop's grace: on a node where
// containers come and go, things are on their way.
func (n *Node) Check(ctx context.Context, keys ...string) ([]Difference, error) {
	first, err := n.check(keys)
	if err == nil && len(first) == 0 {
		return nil, nil
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(poststopGrace):
	}
	second, err := n.check(keys)
	return slices.DeleteFunc(second, func(d Difference) bool { return !slices.Contains(first, d) }), err
}

func (n *Node) check(keys []string) ([]Difference, error) {
	// Before the ledger is read: a record comes before its pin and its move,
	// and goes after them.
	strays, err := n.lookAround()
	if err != nil {
		return nil, err
	}
	records, listErr := n.store.List()
	unreadable, err := unreadableRecords(listErr)
	if err != nil {
		return nil, err
	}
	all := len(keys) == 0
	var found []Difference
	var errs []error
	for _, r := range records {
		if !all && !slices.Contains(keys, r.Key) {
			continue
		}
		differences, err := n.checkRecord(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", r.ID, err))
		}
		for _, d := range differences {
			found = append(found, Difference{Container: r.ID, Key: r.Key, Difference: d})
		}
	}
	if all {
		found = append(append(found, unreadable...), n.unrecorded(strays, records, listErr)...)
	}
	return found, errors.Join(errs...)
}

// unreadableRecords names the records that [ledger.Store.List] could not read. A
// ledger that is not there yet has none; any other error comes back.
func unreadableRecords(listErr error) ([]Difference, error) {
	if listErr == nil || errors.Is(listErr, fs.ErrNotExist) {
		return nil, nil
	}
	each := []error{listErr}
	if joined, ok := listErr.(interface{ Unwrap() []error }); ok {
		each = joined.Unwrap()
	}
	var found []Difference
	for _, err := range each {
		var damaged *ledger.UnreadableError
		var newer *ledger.VersionError
		d := ledger.Difference{Expected: "one that can be read"}
		switch {
		case errors.As(err, &damaged):
			d.Object, d.Actual = "record "+damaged.Path, fmt.Sprintf("damaged (%v): see what it names, then remove it", damaged.Err)
		case errors.As(err, &newer):
			d.Object, d.Actual = "record "+newer.Path, fmt.Sprintf("of format %d: use the candor that wrote it", newer.Version)
		default:
			return nil, err
		}
		found = append(found, Difference{Difference: d})
	}
	return found, nil
}

// checkRecord compares one record. Of a container that is dead only that is
// said: what it holds is about to be given back, or was not.
func (n *Node) checkRecord(r *ledger.Record) ([]ledger.Difference, error) {
	switch {
	case r.BootID != n.bootID:
		return []ledger.Difference{{Object: "record", Expected: "erased, since it is of another boot", Actual: "still there: candor gc"}}, nil
	case !r.Owner.Alive():
		return []ledger.Difference{{
			Object: "record", Expected: fmt.Sprintf("erased, since the init (pid %d) is dead", r.Owner.PID),
			Actual: fmt.Sprintf("still there (%s): not given back yet: candor gc", Holdings(r)),
		}}, nil
	case r.State == ledger.Intent && time.Since(r.Created) < attachTime:
		return nil, nil // on its way
	case r.State == ledger.Intent:
		return []ledger.Difference{{
			Object: "attach", Expected: "done or undone", Actual: "cut short: delete the container, and it is undone",
		}}, nil
	}
	found, err := n.checkNetwork(r)
	if err != nil || r.View == nil {
		return found, err
	}
	view, err := n.checkView(r)
	return append(found, view...), err
}

func (n *Node) checkNetwork(r *ledger.Record) ([]ledger.Difference, error) {
	if len(r.NICs) == 0 && r.Egress == nil {
		return nil, nil
	}
	found, err := n.checkPins(r)
	if err != nil {
		return nil, err
	}
	inside, err := n.recordedNamespace(r)
	if err != nil {
		found = append(found, ledger.Difference{Object: "network namespace", Expected: inode(r.Netns), Actual: "gone"})
	} else {
		defer inside.Close()
	}
	nics, err := n.checkNICs(r, inside)
	if err != nil {
		return nil, err
	}
	found = append(found, nics...)
	if r.Egress == nil || inside == nil {
		return found, nil
	}
	limit, err := checkLimit(r, inside)
	return append(found, limit...), err
}

func (n *Node) checkPins(r *ledger.Record) ([]ledger.Difference, error) {
	var found []ledger.Difference
	for _, pin := range []struct {
		name, object string
		want         ledger.Namespace
	}{
		{r.Key, "pin of the container's network namespace", r.Netns},
		{hostPin(r.Key), "pin of the host's network namespace", r.HostNetns},
	} {
		if pin.name == hostPin(r.Key) && r.HostIsPid1s {
			continue
		}
		ns, err := n.openPin(pin.name)
		d := ledger.Difference{Object: pin.object, Expected: inode(pin.want), Actual: "missing"}
		if err == nil {
			d.Actual = inode(ns.ID())
			err = ns.Close()
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return nil, err
		}
		if d.Actual != d.Expected {
			found = append(found, d)
		}
	}
	return found, nil
}

// checkNICs looks at each NIC. inside is nil where the container's namespace is gone.
func (n *Node) checkNICs(r *ledger.Record, inside *nic.Namespace) ([]ledger.Difference, error) {
	if len(r.NICs) == 0 {
		return nil, nil
	}
	host, err := n.hostNamespace(r)
	if err != nil {
		return []ledger.Difference{{Object: "network namespace of the host", Expected: inode(r.HostNetns), Actual: "gone"}}, nil //nolint:nilerr // that is the difference
	}
	defer host.Close()
	var found []ledger.Difference
	for i := range r.NICs {
		differences, err := nic.Check(host, inside, &r.NICs[i])
		if err != nil {
			return nil, err
		}
		found = append(found, differences...)
	}
	return found, nil
}

// checkLimit compares the limit on each device that has it, and finds those that
// came since and have none.
func checkLimit(r *ledger.Record, inside *nic.Namespace) ([]ledger.Difference, error) {
	var found []ledger.Difference
	for _, d := range r.Egress.Devices {
		differences, err := egress.Check(inside, d, r.Egress.LimitBits)
		if err != nil {
			return nil, err
		}
		found = append(found, differences...)
	}
	if r.State == ledger.Pending {
		return found, nil // the network comes before the start
	}
	links, err := egress.Devices(inside)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if shapedAt(r, link.Attrs().Index) == nil {
			found = append(found, ledger.Difference{
				Object: "egress limit of " + link.Attrs().Name, Expected: request.Rate(r.Egress.LimitBits).String() + "bit/s, as on each device",
				Actual: "none: the device came later",
			})
		}
	}
	return found, nil
}

func (n *Node) checkView(r *ledger.Record) ([]ledger.Difference, error) {
	if len(r.View.Files) == 0 && time.Since(r.Created) > attachTime {
		return []ledger.Difference{{Object: "resource view", Expected: "bound", Actual: "not bound: its hook was cut short"}}, nil
	}
	device, mounted, err := resview.Mounted(n.StateDir)
	if err != nil {
		return nil, err
	}
	if !mounted {
		device = 0
	}
	found, err := resview.Check(r.Owner, *r.View, device)
	if !r.Owner.Alive() {
		return nil, nil //nolint:nilerr // the mounts went with it
	}
	return found, err
}

// surroundings are what the node has that should have a record.
type surroundings struct {
	pins      []string
	inTransit []nic.Stranded
}

func (n *Node) lookAround() (surroundings, error) {
	var s surroundings
	var err error
	if s.pins, err = statedir.Pins(n.StateDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	host, err := nic.Current()
	if err != nil {
		return s, err
	}
	defer host.Close()
	s.inTransit, err = nic.InTransit(host)
	return s, err
}

// unrecorded returns what no record names. One that cannot be read may name it.
func (n *Node) unrecorded(s surroundings, records []*ledger.Record, listErr error) []Difference {
	var found []Difference
	add := func(object, actual string) {
		found = append(found, Difference{Difference: ledger.Difference{Object: object, Expected: "named by a record", Actual: actual}})
	}
	for _, name := range s.pins {
		if !n.store.Has(strings.TrimSuffix(name, hostPin(""))) {
			add("pin "+name, "without one: candord drops it")
		}
	}
	for _, link := range s.inTransit {
		named := slices.ContainsFunc(records, func(r *ledger.Record) bool {
			return slices.ContainsFunc(r.NICs, func(held ledger.NIC) bool { return held.TransientName == link.TransientName })
		})
		damaged := !errors.Is(listErr, fs.ErrNotExist) && ledger.Concerning(listErr, link.TransientName) != nil
		if !named && !damaged {
			add(fmt.Sprintf("interface %s (%s)", link.Name, link.MAC), "stranded there under the name of a nic on its way ("+link.TransientName+")")
		}
	}
	return found
}
