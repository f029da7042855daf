package lifecycle

import (
	"errors"
	"fmt"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
)

// FreeNICs counts, for each pool of the policy, the NICs that a container could
// be given now. A vf pool whose PFs are not there, or have no VFs, has none.
func (n *Node) FreeNICs(p *policy.Policy) (map[string]int, error) {
	host, err := nic.Current()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	// A NIC that a record names is on the host for some moments yet, or again.
	records, unread := n.store.List()
	free := map[string]int{}
	for name, pool := range p.Pools {
		count := n.freeHostNICs
		if pool.Kind == policy.KindVF {
			count = n.freeVFs
		}
		if free[name], err = count(host, pool, records, unread); err != nil {
			return nil, fmt.Errorf("count the free nics of pool %s: %w", name, err)
		}
	}
	return free, nil
}

func (n *Node) freeHostNICs(host *nic.Namespace, pool policy.Pool, records []*ledger.Record, unread error) (free int, err error) {
	links, err := nic.Spare(host, nic.Selector{MACs: pool.MACs, Names: pool.Names, PCI: pool.PCI, Drivers: pool.Drivers})
	if err != nil {
		return 0, err
	}
	for _, link := range links {
		held := false
		for _, mac := range []string{link.Attrs().HardwareAddr.String(), link.Attrs().PermHWAddr.String()} {
			held = held || mac != "" && (ledger.Concerning(unread, mac) != nil || n.holderOf(records, isNIC(mac)) != nil)
		}
		if !held {
			free++
		}
	}
	return free, nil
}

func (n *Node) freeVFs(host *nic.Namespace, pool policy.Pool, records []*ledger.Record, unread error) (free int, err error) {
	vfs, err := nic.VFs(host, vfSelector(pool))
	if is[*nic.NoVFError](err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, vf := range vfs {
		if n.holderOf(records, isVF(vf)) != nil {
			continue
		}
		_, err := spareVF(host, vf, unread)
		var unusable *unusableError
		if err != nil && !errors.As(err, &unusable) {
			return 0, err
		}
		if err == nil {
			free++
		}
	}
	return free, nil
}

func isNIC(mac string) func(*ledger.NIC) bool {
	return func(held *ledger.NIC) bool { return held.MAC == mac || held.PermanentMAC == mac }
}

func isVF(vf nic.VF) func(*ledger.NIC) bool {
	return func(held *ledger.NIC) bool { return held.ParentDevice == vf.Address }
}
