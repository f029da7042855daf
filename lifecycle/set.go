package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
)

// SetLimit gives a running container another egress limit than it asked for, within
// what the policy grants whoever started it. What waits to be sent stays in its
// queue, and no connection breaks. A limit that is pending is that of the network to
// come. After an error the container has the limit that it had.
//
// Only a limit can be changed: one that a container did not ask for at its create is a
// [*RefusedError], since nothing looked at its capabilities then.
func (n *Node) SetLimit(ctx context.Context, key string, limit request.Rate, p *policy.Policy) (err error) {
	lock, err := n.store.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	r, err := lock.Read()
	if err != nil {
		return err
	}
	asked := fmt.Sprintf("container %s: %s=%s", r.ID, request.KeyEgressLimit, limit)
	switch {
	case !n.Alive(r):
		return fmt.Errorf("%s: it does not run any more", asked)
	case r.State == ledger.Intent:
		return fmt.Errorf("%s: it is being attached: try again", asked)
	case r.Egress == nil:
		return &RefusedError{asked + ": it was started without a limit, and only one that is there can be changed: start it with one"}
	}
	if err := p.GrantLimit(r.Caller, limit); err != nil {
		return fmt.Errorf("container %s: %w", r.ID, err)
	}
	before := r.Egress.LimitBits
	if before == uint64(limit) {
		return nil
	}
	if err := n.changeLimit(lock, r, limit); err != nil {
		var foreign *egress.ForeignError // stands in the way of both
		if undo := n.changeLimit(lock, r, request.Rate(before)); !errors.As(undo, &foreign) {
			err = errors.Join(err, undo)
		}
		return fmt.Errorf("container %s: %w", r.ID, err)
	}
	n.Log.Info("limit changed", "container", r.ID, "from", request.Rate(before).String(), "to", limit.String())
	return nil
}

// changeLimit writes the limit down before it is set: where this is killed in
// between, `candor check` says so and the next SetLimit goes on.
func (n *Node) changeLimit(lock *ledger.Lock, r *ledger.Record, limit request.Rate) error {
	r.Egress.LimitBits = uint64(limit)
	if r.State == ledger.Pending {
		return lock.Write(r)
	}
	target, err := initNetns(r.Owner)
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer target.Close()
	if err := n.shape(lock, r, target, hintNoNetwork); err != nil {
		return err
	}
	return lock.Write(r)
}
