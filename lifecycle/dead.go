package lifecycle

import (
	"fmt"
	"strings"

	"candor.dev/candor/ledger"
)

// Dead returns the records of containers that run no more. Records that cannot
// be read are told in the error, beside the others.
func (n *Node) Dead() ([]*ledger.Record, error) {
	records, err := n.store.List()
	var dead []*ledger.Record
	for _, r := range records {
		if !n.Alive(r) {
			dead = append(dead, r)
		}
	}
	return dead, err
}

// Holdings says in a few words what a record holds.
func Holdings(r *ledger.Record) string {
	var parts []string
	for _, nic := range r.NICs {
		parts = append(parts, fmt.Sprintf("nic %s (%s)", nic.Name, nic.MAC))
	}
	if r.Egress != nil {
		parts = append(parts, "egress limit")
	}
	if r.View != nil {
		parts = append(parts, "resource view")
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
