package lifecycle

import (
	"errors"
	"io/fs"

	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
)

// LimitStatus is a limit on one device of a container, and what went through it.
type LimitStatus struct {
	// Container is the container's id, Key that of its record.
	Container string `json:"container"`
	Key       string `json:"key"`
	// Device is its name in the container.
	Device string `json:"device"`
	// LimitBits is in bits per second.
	LimitBits uint64 `json:"limit_bits"`
	egress.Stats
}

// Limits returns the limits of all running containers. A limit that is not where its
// record says is missing, and named by the error.
func (n *Node) Limits() ([]LimitStatus, error) {
	records, err := n.store.List()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody holds anything
	}
	errs := []error{err}
	var all []LimitStatus
	for _, r := range records {
		if r.Egress == nil || r.State != ledger.Attached || !n.Alive(r) {
			continue
		}
		for _, ns := range n.insideNamespaces(r) {
			for _, d := range r.Egress.Devices {
				stats, err := egress.ReadStats(ns, d)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				all = append(all, LimitStatus{Container: r.ID, Key: r.Key, Device: d.Name, LimitBits: r.Egress.LimitBits, Stats: stats})
			}
			errs = append(errs, ns.Close())
		}
	}
	return all, errors.Join(errs...)
}
