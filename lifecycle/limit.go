package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"candor.dev/candor/counters"
	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/request"
)

// What to do for a container without a network device: at create, when nobody
// comes back later, and before the start.
const (
	hintNotLate   = "one that its engine makes after create would stay without the limit, so run it under io.containerd.candor.v1 or candor-runc"
	hintNoNetwork = "give it one, by candor.dev/nic or a network of the engine's (ctr run --cni)"
)

// shape puts the record's limit on every device in the container's network
// namespace. Where there is none yet the record becomes pending, if somebody
// comes back later: the engine brings the network after create, and [Node.Late]
// shapes it before start. Otherwise hint says what to do.
func (n *Node) shape(lock *ledger.Lock, r *ledger.Record, target *nic.Namespace, hint string) error {
	links, err := egress.Devices(target)
	if err != nil {
		return fmt.Errorf("list the container's network devices: %w", err)
	}
	if len(links) == 0 {
		if hint != "" {
			return &RefusedError{fmt.Sprintf("%s=%s: the container has no network device to limit: %s", request.KeyEgressLimit, request.Rate(r.Egress.LimitBits), hint)}
		}
		r.State = ledger.Pending
		return nil
	}
	devices := make([]ledger.ShapedDevice, 0, len(links))
	for _, link := range links {
		attrs := link.Attrs()
		device := ledger.ShapedDevice{Name: attrs.Name, Index: attrs.Index, GSOMaxSizeBefore: attrs.GSOMaxSize}
		if known := shapedAt(r, attrs.Index); known != nil {
			device = *known // of what it had before, only the record knows
		}
		devices = append(devices, device)
	}
	r.Egress.Devices = devices
	if err := lock.Write(r); err != nil {
		return err
	}
	for i, link := range links {
		shaped, err := egress.Shape(target, link, r.Egress.LimitBits)
		if err != nil {
			return fmt.Errorf("limit %s to %s: %w", link.Attrs().Name, request.Rate(r.Egress.LimitBits), err)
		}
		shaped.GSOMaxSizeBefore = r.Egress.Devices[i].GSOMaxSizeBefore
		r.Egress.Devices[i] = shaped
	}
	r.State = ledger.Attached
	return nil
}

// shapedAt returns the record's entry of the device with that index, or nil.
func shapedAt(r *ledger.Record, index int) *ledger.ShapedDevice {
	for i := range r.Egress.Devices {
		if r.Egress.Devices[i].Index == index {
			return &r.Egress.Devices[i]
		}
	}
	return nil
}

// Late shapes what the engine brought after create, before the user's process
// starts: the network of a container whose record is pending, and one that came
// to a container beside the NICs that it was given. It is one stat(2) for a
// container without a record and a look at the record for one without a limit.
// A container that asked for a limit and still has no network is an error: it
// would run without its limit later.
func (n *Node) Late(ctx context.Context, id, bundle string) (err error) {
	defer func() { n.failed(counters.Limit, err) }()
	key := ledger.Key(id, bundle)
	r, err := n.store.Read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.Egress == nil || r.State == ledger.Intent {
		return nil
	}
	lock, err := n.store.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if r, err = lock.Read(); err != nil || r.Egress == nil || r.State == ledger.Intent {
		return err
	}
	target, err := initNetns(r.Owner)
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer target.Close()
	if r.State == ledger.Attached {
		if all, err := allShaped(r, target); all || err != nil {
			return err
		}
	}
	if err := n.shape(lock, r, target, hintNoNetwork); err != nil {
		return err
	}
	return lock.Write(r)
}

// allShaped reports whether no device has come since the limit was set.
func allShaped(r *ledger.Record, target *nic.Namespace) (bool, error) {
	links, err := egress.Devices(target)
	if err != nil {
		return false, fmt.Errorf("list the container's network devices: %w", err)
	}
	for _, link := range links {
		if shapedAt(r, link.Attrs().Index) == nil {
			return false, nil
		}
	}
	return true, nil
}

// unshape takes candor's qdiscs off devices that stay in a namespace that
// lives on, such as the veth of a pod. Those of NICs went with their move.
func unshape(r *ledger.Record, inside []*nic.Namespace) error {
	if r.Egress == nil {
		return nil
	}
	var errs []error
	for _, ns := range inside {
		if ns.ID() != r.Netns {
			continue
		}
		for _, d := range r.Egress.Devices {
			if err := egress.Unshape(ns, d, d.GSOMaxSizeBefore); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, fmt.Errorf("take the limit off %s: %w", d.Name, err))
			}
		}
		break
	}
	return errors.Join(errs...)
}
