package lifecycle

import (
	"errors"
	"fmt"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
)

// NICStatus is a NIC of a container as it is there now.
type NICStatus struct {
	// Pool is the pool that it is from.
	Pool string
	nic.Status
}

// NetworkStatus looks into the container's network namespace, for each NIC that
// the record names. Those that are not there are left out of the list, and named
// by the error.
func (n *Node) NetworkStatus(r *ledger.Record) (list []NICStatus, err error) {
	if !n.Alive(r) {
		return nil, fmt.Errorf("container %s does not run", r.ID)
	}
	inside, err := n.recordedNamespace(r)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", r.ID, err)
	}
	defer inside.Close()
	var errs []error
	for i := range r.NICs {
		status, err := nic.StatusOf(inside, &r.NICs[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", r.ID, err))
			continue
		}
		list = append(list, NICStatus{Pool: r.NICs[i].Pool, Status: status})
	}
	return list, errors.Join(errs...)
}
