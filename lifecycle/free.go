package lifecycle

import (
	"fmt"
	"slices"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
)

// FreeNICs counts, for each pool of the policy, the NICs that a container could
// be given now. A pool of a kind that has no way of counting is left out.
func (n *Node) FreeNICs(p *policy.Policy) (map[string]int, error) {
	host, err := nic.Current()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	records, listErr := n.store.List()
	// A NIC that a record names is on the host for some moments yet, or again.
	held := func(mac string) bool {
		return ledger.Concerning(listErr, mac) != nil || slices.ContainsFunc(records, func(r *ledger.Record) bool {
			return r.BootID == n.bootID && slices.ContainsFunc(r.NICs, func(x ledger.NIC) bool { return x.MAC == mac || x.PermanentMAC == mac })
		})
	}
	free := map[string]int{}
	for name, pool := range p.Pools {
		count := freeCounter(pool.Kind)
		if count == nil {
			continue
		}
		if free[name], err = count(host, pool, held); err != nil {
			return nil, fmt.Errorf("count the free nics of pool %s: %w", name, err)
		}
	}
	return free, nil
}

// countFree counts the free NICs of one kind of pool; held says whether a
// container has the NIC with that address.
type countFree func(host *nic.Namespace, pool policy.Pool, held func(mac string) bool) (int, error)

// freeCounter returns how the NICs of a kind are counted, nil where there is no
// counting them.
func freeCounter(kind string) countFree {
	if kind == policy.KindHostNIC {
		return freeHostNICs
	}
	return nil
}

func freeHostNICs(host *nic.Namespace, pool policy.Pool, held func(mac string) bool) (int, error) {
	links, err := nic.Spare(host, nic.Selector{MACs: pool.MACs, Names: pool.Names, PCI: pool.PCI, Drivers: pool.Drivers})
	if err != nil {
		return 0, err
	}
	free := 0
	for _, link := range links {
		attrs := link.Attrs()
		if !held(attrs.HardwareAddr.String()) && (len(attrs.PermHWAddr) == 0 || !held(attrs.PermHWAddr.String())) {
			free++
		}
	}
	return free, nil
}
