package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
)

// ExhaustedError says that a pool has no VF left for a container.
type ExhaustedError struct {
	Pool string
	// VFs is how many the pool has.
	VFs int
	// Held is how many of them each container holds, by its id.
	Held map[string]int
	// Unusable says of each that nobody holds why it cannot be given.
	Unusable []string
}

func (e *ExhaustedError) Error() string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(e.Held)) {
		parts = append(parts, fmt.Sprintf("%d held by container %s", e.Held[id], id))
	}
	parts = append(parts, e.Unusable...)
	return fmt.Sprintf("pool %s is exhausted: of its %d VFs %s (see 'candor list')", e.Pool, e.VFs, strings.Join(parts, ", "))
}

// createVFs makes the VFs of the PFs that have none, for the pools that say so, and
// waits for those that another makes. It takes seconds, and so has a lock for each PF
// and not the allocator's, for which every container waits.
func (n *Node) createVFs(ctx context.Context, host *nic.Namespace, grants []policy.Grant) error {
	for _, g := range grants {
		if g.VF == nil || g.Pool.VF.NumVFs == 0 {
			continue
		}
		pfs, err := nic.PFs(host, vfSelector(g.Pool))
		if err != nil {
			return fmt.Errorf("pool %s: %w", g.Pool.Name, err)
		}
		for _, pf := range pfs {
			if err := n.createVFsOf(ctx, host, pf, g.Pool.VF.NumVFs); err != nil {
				return fmt.Errorf("pool %s: %w", g.Pool.Name, err)
			}
		}
	}
	return nil
}

func (n *Node) createVFsOf(ctx context.Context, host *nic.Namespace, pf string, count int) error {
	release, err := n.store.LockDevice(ctx, pf)
	if err != nil {
		return err
	}
	defer release()
	return nic.CreateVFs(ctx, host, pf, count)
}

func vfSelector(pool policy.Pool) nic.VFSelector {
	s := nic.VFSelector{Drivers: pool.Drivers}
	for _, pf := range pool.VF.PFs {
		selector := nic.PFSelector{Device: pf.Device}
		for _, r := range pf.VFs {
			selector.VFs = append(selector.VFs, nic.Range{First: r.First, Last: r.Last})
		}
		s.PFs = append(s.PFs, selector)
	}
	return s
}

// chooseVF finds a VF of the grant's pool that nobody has, and takes down how it is
// and what its PF says of it.
func (n *Node) chooseVF(host *nic.Namespace, g policy.Grant, r *ledger.Record) (ledger.NIC, error) {
	fail := func(err error) (ledger.NIC, error) {
		return ledger.NIC{}, fmt.Errorf("pool %s: %w", g.Pool.Name, err)
	}
	vfs, err := nic.VFs(host, vfSelector(g.Pool))
	if err != nil {
		return fail(err)
	}
	records, unread := n.store.List()
	records = append(records, r)
	if mac := g.MAC.String(); mac != "" {
		if err := ledger.Concerning(unread, mac); err != nil {
			return fail(&HeldError{fmt.Errorf("mac %s may be another container's: %w", mac, err)})
		}
		if holder := n.holderOf(records, func(held *ledger.NIC) bool { return hasMAC(held, mac) }); holder != nil {
			return fail(&HeldError{fmt.Errorf("mac %s is that of a nic %s: ask for another", mac, heldBy(holder))})
		}
	}
	exhausted := &ExhaustedError{Pool: g.Pool.Name, VFs: len(vfs), Held: map[string]int{}}
	heldOf := map[string]int{}
	free := slices.DeleteFunc(slices.Clone(vfs), func(vf nic.VF) bool {
		holder := n.holderOf(records, isVF(vf))
		if holder != nil {
			exhausted.Held[holder.ID]++
			heldOf[vf.PF]++
		}
		return holder != nil
	})
	// The PF with the most to spare first; of those the VF that has the MAC.
	slices.SortStableFunc(free, func(a, b nic.VF) int {
		if byMAC := rank(g, b) - rank(g, a); byMAC != 0 {
			return byMAC
		}
		return heldOf[a.PF] - heldOf[b.PF]
	})
	for _, vf := range free {
		chosen, err := takeDown(host, g, vf, unread)
		var unusable *unusableError
		if errors.As(err, &unusable) {
			exhausted.Unusable = append(exhausted.Unusable, fmt.Sprintf("VF %d of %s: %s", vf.Index, vf.PFName, unusable.reason))
			continue
		}
		if err != nil {
			return fail(err)
		}
		return chosen, nil
	}
	return ledger.NIC{}, exhausted
}

// rank prefers the VF that has the MAC already which is asked for.
func rank(g policy.Grant, vf nic.VF) int {
	if vf.Link != nil && len(g.MAC) > 0 && vf.Link.Attrs().HardwareAddr.String() == g.MAC.String() {
		return 1
	}
	return 0
}

func hasMAC(held *ledger.NIC, mac string) bool {
	return held.MAC == mac || held.PermanentMAC == mac || held.VF != nil && held.VF.Set.MAC == mac
}

// unusableError says why a VF that nobody holds cannot be given: another one may.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return e.reason }

// spareVF takes down how a VF is that nobody holds, or says by an [unusableError]
// why it is not to be had.
func spareVF(host *nic.Namespace, vf nic.VF, unread error) (ledger.NIC, error) {
	if vf.Unusable != "" {
		return ledger.NIC{}, &unusableError{vf.Unusable}
	}
	if err := ledger.Concerning(unread, vf.Address); err != nil {
		return ledger.NIC{}, &unusableError{fmt.Sprintf("another container may hold it: %v", err)}
	}
	chosen, err := nic.Snapshot(host, vf.Link)
	var refused *nic.RefusedError
	switch {
	case errors.As(err, &refused):
		return ledger.NIC{}, &unusableError{refused.Reason}
	case err != nil:
		return ledger.NIC{}, err
	case len(chosen.Addresses) > 0:
		// Somebody on the host uses it.
		return ledger.NIC{}, &unusableError{fmt.Sprintf("%s has the address %s", chosen.Name, chosen.Addresses[0].Prefix)}
	}
	return chosen, nil
}

// takeDown makes the record of a VF that nobody holds, with what its PF is to be
// told.
func takeDown(host *nic.Namespace, g policy.Grant, vf nic.VF, unread error) (ledger.NIC, error) {
	chosen, err := spareVF(host, vf, unread)
	if err != nil {
		return ledger.NIC{}, err
	}
	if len(g.MAC) > 0 {
		taken, err := nic.MACTaken(host, vf, g.MAC)
		if err != nil {
			return ledger.NIC{}, err
		}
		if taken != "" {
			return ledger.NIC{}, &HeldError{fmt.Errorf("mac %s is that of %s already: ask for another", g.MAC, taken)}
		}
	}
	if chosen.VF, err = nic.PlanVF(host, vf, vfSettings(g)); err != nil {
		return ledger.NIC{}, fmt.Errorf("VF %d of %s: %w", vf.Index, vf.PFName, err)
	}
	return chosen, nil
}

// vfSettings are the settings of a grant as a PF is told them.
func vfSettings(g policy.Grant) ledger.VFSettings {
	s := ledger.VFSettings{MAC: g.MAC.String(), SpoofCheck: g.VF.SpoofChk, Trust: g.VF.Trust, LinkState: g.VF.LinkState}
	if id := g.VF.VLAN; id != nil {
		s.VLAN = &ledger.VLAN{ID: *id, QoS: g.VF.QoS, Protocol: cmp.Or(g.VF.Proto, "802.1q")}
	}
	if g.VF.MinTxRate != 0 || g.VF.MaxTxRate != 0 {
		s.Rate = &ledger.VFRate{Min: megabits(g.VF.MinTxRate), Max: megabits(g.VF.MaxTxRate)}
	}
	return s
}

// megabits rounds up: hardware counts in Mbit/s, and 0 would be no limit.
func megabits(r request.Rate) uint32 { return uint32((r + 1e6 - 1) / 1e6) }
