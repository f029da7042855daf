package lifecycle

import (
	"errors"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
)

// Traffic is what went through a NIC that a container holds, since the NIC's driver
// counts.
type Traffic struct {
	Pool string
	// Device is the NIC's name on the host.
	Device string
	nic.Counters
}

// Traffic returns the counters of all attached NICs, as the containers' kernel has
// them. The counters of a NIC that is not where its record says are missing.
func (n *Node) Traffic() ([]Traffic, error) {
	records, _ := n.store.List() // what cannot be read is told by others
	var all []Traffic
	var errs []error
	for _, r := range records {
		if r.State == ledger.Intent || len(r.NICs) == 0 || !n.Alive(r) {
			continue
		}
		for _, ns := range n.insideNamespaces(r) {
			for i := range r.NICs {
				counters, found, err := ns.CountersOf(&r.NICs[i])
				errs = append(errs, err)
				if found {
					all = append(all, Traffic{Pool: r.NICs[i].Pool, Device: r.NICs[i].Name, Counters: counters})
				}
			}
			errs = append(errs, ns.Close())
		}
	}
	return all, errors.Join(errs...)
}
