package lifecycle

import (
	"fmt"
	"strings"

	"candor.dev/candor/ledger"
	"candor.dev/candor/request"
)

// tell notes in the journal what a container was given or gave back, so that an
// operator can see later who had which NIC.
func (n *Node) tell(what string, r *ledger.Record) {
	if len(r.NICs) == 0 && r.Egress == nil {
		return // a view is nothing that the node lacks meanwhile
	}
	attrs := []any{"container", r.ID, "caller", r.Caller}
	var nics []string
	for i := range r.NICs {
		nics = append(nics, fmt.Sprintf("%s(%s)=%s", r.NICs[i].Name, r.NICs[i].MAC, r.NICs[i].Interface))
	}
	if len(nics) > 0 {
		attrs = append(attrs, "nics", strings.Join(nics, ","))
	}
	if r.Egress != nil {
		attrs = append(attrs, "egress-limit", request.Rate(r.Egress.LimitBits).String())
	}
	n.Log.Info(what, attrs...)
}

// tellRefused notes what a PF did not take of requests that put up with it.
func (n *Node) tellRefused(r *ledger.Record) {
	for i := range r.NICs {
		if vf := r.NICs[i].VF; vf != nil && len(vf.Refused) > 0 {
			n.Log.Warn("attached without all that was asked for", "container", r.ID, "nic", r.NICs[i].Interface, "refused", strings.Join(vf.Refused, "; "))
		}
	}
}
