package lifecycle

import (
	"context"
	"errors"
	"os"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"golang.org/x/sys/unix"
)

// RefusedError says that a container is not fit for what it asked for.
type RefusedError struct {
	Reason string
}

func (e *RefusedError) Error() string { return e.Reason }

// HeldError says that a NIC is another container's.
type HeldError struct {
	Err error
}

func (e *HeldError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HeldError) Unwrap() error { return e.Err }

// LimitError says that it is the limit which a container cannot be given.
type LimitError struct {
	Err error
}

func (e *LimitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Err }

// limited makes a LimitError of an error, and nil of nil.
func limited(err error) error {
	if err == nil {
		return nil
	}
	return &LimitError{err}
}

// ReasonOf says in one word why something failed. Of several reasons, as where
// undoing failed too, it is the one that an operator can do most about.
func ReasonOf(err error) counters.Reason {
	switch {
	case is[*request.Error](err):
		return counters.Request
	case is[*policy.DeniedError](err):
		return counters.Denied
	case is[*policy.BrokenError](err):
		return counters.Policy
	case is[*nic.NotFoundError](err):
		return counters.NotFound
	case is[*nic.AmbiguousError](err):
		return counters.Ambiguous
	case is[*nic.RefusedError](err), is[*RefusedError](err):
		return counters.Refused
	case is[*HeldError](err):
		return counters.Held
	case is[*nic.NoVFError](err):
		return counters.NotFound
	case is[*ExhaustedError](err):
		return counters.Exhausted
	case is[*nic.SettingError](err):
		return counters.Driver
	case is[*nic.LostError](err):
		return counters.Lost
	case is[*egress.ForeignError](err):
		return counters.ForeignQdisc
	case is[*ledger.VersionError](err), is[*ledger.UnreadableError](err):
		return counters.Record
	case errors.Is(err, daemon.ErrNotRunning), errors.Is(err, daemon.ErrNoView):
		return counters.Daemon
	case errors.Is(err, unix.ENOSPC):
		return counters.NoSpace
	case errors.Is(err, os.ErrProcessDone):
		return counters.Died
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return counters.Timeout
	}
	return counters.Other
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// CountFailure counts a failure of one who has no [Node]: a front door that
// refuses, a hook that cannot read what it is called with. Where it is the limit
// that failed, that is counted.
func CountFailure(stateDir string, operation counters.Operation, err error) error {
	if is[*LimitError](err) {
		operation = counters.Limit
	}
	return counters.Failed(stateDir, operation, ReasonOf(err))
}

// failed counts a failure. That it cannot be counted is no failure of its own.
func (n *Node) failed(operation counters.Operation, err error) {
	if err == nil {
		return
	}
	if err := CountFailure(n.StateDir, operation, err); err != nil {
		n.Log.Warn("a failure is missing in the metrics", "error", err)
	}
}

// gaveBack counts how long it took to give back devices. A view is nothing that
// the node lacks meanwhile, and its container's end is not made to wait for this.
func (n *Node) gaveBack(r *ledger.Record, took time.Duration) {
	if len(r.NICs) == 0 && r.Egress == nil {
		return
	}
	if err := counters.GaveBack(n.StateDir, took); err != nil {
		n.Log.Warn("a give-back is missing in the metrics", "error", err)
	}
}
