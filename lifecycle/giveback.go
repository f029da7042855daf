package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/statedir"
)

// ErrAlive is returned for a container whose init still runs: nothing is taken
// from it.
var ErrAlive = errors.New("the container still runs")

// GiveBack gives back all that a dead container holds and erases its record. It
// is idempotent: with no record there is nothing to do. It returns [ErrAlive]
// while the recorded init runs, which is how a late poststop of an old
// container finds the new one under the same key.
func (n *Node) GiveBack(ctx context.Context, key string) (err error) {
	lock, err := n.store.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	r, err := lock.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return n.dropPins(key)
	}
	if err != nil {
		return err
	}
	if n.Alive(r) {
		return fmt.Errorf("container %s (pid %d): %w", r.ID, r.Owner.PID, ErrAlive)
	}
	start := time.Now()
	if err := n.giveBack(ctx, lock, r); err != nil {
		n.failed(counters.GiveBack, err)
		return err
	}
	if r.BootID == n.bootID {
		n.gaveBack(r, time.Since(start))
	}
	return nil
}

// giveBack is the one way back, for poststop, a failed attach and the
// reconciler. It goes on past errors; the record stays while anything that it
// names is not back, so that the reconciler tries again.
func (n *Node) giveBack(ctx context.Context, lock *ledger.Lock, r *ledger.Record) error {
	if r.BootID != n.bootID {
		return lock.Erase() // the kernel that it describes is gone
	}
	if err := n.giveBackDevices(ctx, r); err != nil {
		return fmt.Errorf("give back what container %s holds: %w", r.ID, err)
	}
	if err := n.dropPins(r.Key); err != nil {
		return err
	}
	if err := lock.Erase(); err != nil {
		return err
	}
	n.tell("gave back", r)
	return nil
}

func (n *Node) giveBackDevices(ctx context.Context, r *ledger.Record) (err error) {
	if len(r.NICs) == 0 && r.Egress == nil {
		return nil
	}
	inside := n.insideNamespaces(r)
	defer func() {
		for _, ns := range inside {
			err = errors.Join(err, ns.Close())
		}
	}()
	errs := []error{unshape(r, inside)}
	if len(r.NICs) == 0 {
		return errors.Join(errs...)
	}
	host, err := n.hostNamespace(r)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer host.Close()
	for i := len(r.NICs) - 1; i >= 0; i-- {
		err := nic.GiveBack(ctx, host, inside, &r.NICs[i])
		var lost *nic.LostError
		if errors.As(err, &lost) {
			// A virtual device that died with its namespace, or a card
			// that was pulled: there is nothing left to hold a record for.
			n.failed(counters.GiveBack, err)
			n.Log.Error("nic is lost", "container", r.ID, "nic", r.NICs[i].Name, "mac", r.NICs[i].MAC, "error", err)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// insideNamespaces opens the places where a container's NICs may be: the pinned
// namespace, if it is the recorded one, and the init's own where it still
// lives, as after an attach that failed.
func (n *Node) insideNamespaces(r *ledger.Record) []*nic.Namespace {
	var inside []*nic.Namespace
	if ns, err := n.openPin(r.Key); err == nil {
		if ns.ID() == r.Netns {
			inside = append(inside, ns)
		} else {
			n.Log.Warn("pin is not the recorded network namespace", "container", r.ID, "close", ns.Close())
		}
	}
	if len(inside) == 0 {
		if ns, err := initNetns(r.Owner); err == nil {
			inside = append(inside, ns)
		}
	}
	return inside
}

func (n *Node) dropPins(key string) error {
	return statedir.Unpin(n.StateDir, key, hostPin(key))
}
