package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
)

// lookInterval is how often is looked for a NIC of which no notification came, and
// whether the context has ended, which has no descriptor to poll.
const lookInterval = 250 * time.Millisecond

// runOnceItIsThere attaches, and does so again when a NIC that was not on the host
// has appeared, for as long as the NIC's pool waits. No lock is held meanwhile: a
// container with other NICs is not held up.
func (a *attachment) runOnceItIsThere(ctx context.Context) error {
	began := time.Now()
	for {
		err := a.run(ctx)
		g, missing := a.missing(err)
		if missing == nil || g.Pool.Wait == 0 || time.Since(began) > g.Pool.Wait {
			return err
		}
		if err := a.await(ctx, g, began.Add(g.Pool.Wait)); err != nil {
			return err
		}
	}
}

// missing returns the grant whose NIC is not on the host, as the error says.
func (a *attachment) missing(err error) (policy.Grant, *nic.NotFoundError) {
	var missing *nic.NotFoundError
	if errors.As(err, &missing) {
		for _, g := range a.asked {
			if g.MAC.String() == missing.MAC {
				return g, missing
			}
		}
	}
	return policy.Grant{}, nil
}

// await returns when the NIC is on the host. It ends with an error when it has not
// come in time, or with the container's init.
func (a *attachment) await(ctx context.Context, g policy.Grant, until time.Time) (err error) {
	pidfd, err := a.record.Owner.OpenPidfd()
	if errors.Is(err, os.ErrProcessDone) {
		return a.diedWaiting(g)
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	watch, err := a.host.Watch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()
	a.node.Log.Info("waits for a nic", "container", a.record.ID, "caller", a.record.Caller, "nic", g.MAC.String(), "pool", g.Pool.Name)
	for {
		_, err := nic.Find(a.host, selector(g))
		var missing *nic.NotFoundError
		if !errors.As(err, &missing) {
			return nil // if it is no good, the next attempt says why
		}
		left := time.Until(until)
		if left <= 0 {
			return fmt.Errorf("pool %s: %w, and did not come within %s", g.Pool.Name, missing, g.Pool.Wait)
		}
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}, {Fd: int32(watch.Fd()), Events: unix.POLLIN}}
		// Rounded up: 0 would not wait.
		if _, err := unix.Poll(fds, int(min(left, lookInterval).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for nic %s: %w", g.MAC, err)
		}
		if fds[0].Revents != 0 {
			return a.diedWaiting(g)
		}
		if err := watch.Drain(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for nic %s: %w", g.MAC, context.Cause(ctx))
		}
	}
}

func (a *attachment) diedWaiting(g policy.Grant) error {
	return fmt.Errorf("the container's init %d died while nic %s was waited for", a.record.Owner.PID, g.MAC)
}

func selector(g policy.Grant) nic.Selector {
	return nic.Selector{MAC: g.MAC, MACs: g.Pool.MACs, Names: g.Pool.Names, PCI: g.Pool.PCI, Drivers: g.Pool.Drivers}
}
