package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
)

// undoTimeout is what giving back may take after an attach that ran out of its
// own time: together they stay below the hook's timeout.
const undoTimeout = 3 * time.Second

// AttachNetwork gives the container the NICs and the egress limit that its
// annotations ask for and the policy grants to the caller. It waits for NICs that
// are not there yet where their pool says so ([policy.Policy.WaitFor]). Where it returns an
// error the node is as it was before. Asked again for the same container, it
// finds the work done and does nothing.
func (n *Node) AttachNetwork(ctx context.Context, c Container, p *policy.Policy, caller string) (err error) {
	defer func() { n.failed(counters.Attach, err) }()
	req, err := request.Parse(c.Spec.Annotations)
	if err != nil {
		return err
	}
	if len(req.NICs) == 0 && req.EgressLimit == 0 {
		return nil
	}
	if req.EgressLimit != 0 && c.Spec.HasCapability("CAP_NET_ADMIN") {
		return limited(&RefusedError{fmt.Sprintf("%segress-limit=%s: the container has CAP_NET_ADMIN and could undo a limit on its own device: drop the capability or the limit", request.Prefix, req.EgressLimit)})
	}
	if c.Spec.PodMember() {
		return nil // the pod's network is the sandbox's
	}
	grants, err := grant(p, caller, req)
	if err != nil {
		return err
	}
	owner, err := ledger.FindProcess(c.PID)
	if err != nil {
		return fmt.Errorf("find the container's init %d: %w", c.PID, err)
	}
	host, err := nic.Current()
	if err != nil {
		return err
	}
	defer host.Close()
	target, err := initNetns(owner)
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer target.Close()
	shared, err := isHostNetns(owner, target, host)
	if err != nil {
		return err
	}
	if shared {
		return &RefusedError{"the container has the host's network namespace: it can be given neither NIC nor limit; run it with a network namespace of its own"}
	}
	if err := n.createVFs(ctx, host, grants); err != nil {
		return err
	}

	a := attachment{node: n, host: host, target: target, asked: grants}
	if !c.Late {
		a.hint = hintNotLate
	}
	a.record = &ledger.Record{
		Key: ledger.Key(c.ID, c.Bundle), ID: c.ID, Bundle: c.Bundle, Caller: caller, State: ledger.Intent,
		Created: time.Now().UTC(), BootID: n.bootID, Owner: owner, Netns: target.ID(), HostNetns: host.ID(), HostIsPid1s: isPid1s(host.ID()),
		SandboxID: c.Spec.Sandbox(),
	}
	if req.EgressLimit != 0 {
		a.record.Egress = &ledger.Egress{LimitBits: uint64(req.EgressLimit)}
	}
	return a.runOnceItIsThere(ctx)
}

func grant(p *policy.Policy, caller string, req request.Request) ([]policy.Grant, error) {
	var grants []policy.Grant
	for _, r := range req.NICs {
		g, err := p.GrantNIC(caller, r)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	if req.EgressLimit != 0 {
		if err := p.GrantLimit(caller, req.EgressLimit); err != nil {
			return nil, limited(err)
		}
	}
	return grants, nil
}

// attachment is one AttachNetwork under way: all NICs and the limit of a
// container are one transaction.
type attachment struct {
	node         *Node
	host, target *nic.Namespace
	asked        []policy.Grant
	grants       []policy.Grant // what was asked for, with what the NICs have on the host
	hint         string         // see shape
	record       *ledger.Record
	lock         *ledger.Lock
}

func (a *attachment) run(ctx context.Context) (err error) {
	done, err := a.reserve(ctx)
	if err != nil || done {
		return err
	}
	defer func() { err = errors.Join(err, a.lock.Unlock()) }()
	defer func() {
		if err == nil {
			return
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		undone := a.node.giveBack(undo, a.lock, a.record)
		a.node.failed(counters.GiveBack, undone)
		err = errors.Join(err, undone)
	}()
	if err := a.pin(); err != nil {
		return err
	}
	for i := range a.record.NICs {
		if err := nic.Attach(ctx, a.host, a.target, &a.record.NICs[i], nicConfig(a.grants[i]), a.save); err != nil {
			return err
		}
	}
	// Not before the limit is in place: shape writes the record on its way.
	if a.record.Egress == nil {
		a.record.State = ledger.Attached
	} else if err := a.node.shape(a.lock, a.record, a.target, a.hint); err != nil {
		return limited(err)
	}
	if !a.record.Owner.Alive() {
		return fmt.Errorf("the container's init %d died while its network was attached", a.record.Owner.PID)
	}
	if err := a.save(); err != nil {
		return err
	}
	a.node.tell("attached", a.record)
	a.node.tellRefused(a.record)
	return nil
}

func (a *attachment) save() error { return a.lock.Write(a.record) }

// reserve chooses the NICs and writes the intent, under the allocator's lock: a
// second container that asks for the same NIC meets the record. It reports
// done when this very container has been attached already. On success it holds
// the record's lock.
func (a *attachment) reserve(ctx context.Context) (done bool, err error) {
	release, err := a.node.store.LockAllocator(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	lock, err := a.node.store.Lock(ctx, a.record.Key)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil || done {
			err = errors.Join(err, lock.Unlock())
		}
	}()
	if done, err := a.node.takeOver(ctx, lock, a.record); done || err != nil {
		return done, err
	}
	if err := a.node.checkShared(a.record); err != nil {
		return false, limited(err)
	}
	a.grants, a.record.NICs = slices.Clone(a.asked), nil
	for i, g := range a.grants {
		chosen, err := a.node.choose(a.host, g, a.record)
		if err != nil {
			return false, err
		}
		if g.KeepAddresses {
			a.grants[i] = g.WithDefaults(nic.KeptAddresses(chosen))
		}
		a.record.NICs = append(a.record.NICs, chosen)
	}
	if err := lock.Write(a.record); err != nil {
		return false, err
	}
	a.lock = lock
	return false, nil
}

// takeOver looks at the record that stands under the new one's key. One of a
// dead container (the same id again after a kill -9) is given back first; one
// of this very init means that the work was done already, unless only the view
// stands in it, which the new record then takes along, or an attempt that was
// cut short, which is given back.
func (n *Node) takeOver(ctx context.Context, lock *ledger.Lock, next *ledger.Record) (done bool, err error) {
	old, err := lock.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if old.Owner == next.Owner && old.BootID == next.BootID {
		next.View = old.View
		if old.State != ledger.Intent {
			return len(old.NICs) > 0 || old.Egress != nil, nil
		}
		// A hook before us was killed half way: begin anew.
		return false, n.giveBack(ctx, lock, old)
	}
	if n.Alive(old) {
		return false, fmt.Errorf("container %s: another one with this id and bundle runs (pid %d)", next.ID, old.Owner.PID)
	}
	return false, n.giveBack(ctx, lock, old)
}

// checkShared refuses a second limit in a network namespace that containers share
// (docker run --network container:ID): the later one would replace the first
// one's, and take it off when it ends.
func (n *Node) checkShared(r *ledger.Record) error {
	if r.Egress == nil {
		return nil
	}
	records, _ := n.store.List() // what cannot be read has been told by the reconciler
	for _, other := range records {
		if other.Key != r.Key && other.BootID == n.bootID && other.Netns == r.Netns && other.Egress != nil {
			return &RefusedError{fmt.Sprintf("%segress-limit=%s: the network namespace is shared with container %s, which has a limit of %s: ask for one limit, there",
				request.Prefix, request.Rate(r.Egress.LimitBits), other.ID, request.Rate(other.Egress.LimitBits))}
		}
	}
	return nil
}

// choose finds the NIC of a grant on the host and takes down how it is.
func (n *Node) choose(host *nic.Namespace, g policy.Grant, r *ledger.Record) (chosen ledger.NIC, err error) {
	if g.VF != nil {
		chosen, err = n.chooseVF(host, g, r)
	} else {
		chosen, err = n.chooseHostNIC(host, g, r)
	}
	if err != nil {
		return ledger.NIC{}, err
	}
	chosen.Pool, chosen.Kind, chosen.Interface = g.Pool.Name, g.Pool.Kind, g.Interface
	return chosen, nil
}

func (n *Node) chooseHostNIC(host *nic.Namespace, g policy.Grant, r *ledger.Record) (ledger.NIC, error) {
	mac := g.MAC.String()
	// A record that cannot be read stands in the way of the NICs that it names,
	// and of no others: what is moved already is not found on the host anyhow.
	records, err := n.store.List()
	if err := ledger.Concerning(err, mac); err != nil {
		return ledger.NIC{}, &HeldError{fmt.Errorf("nic %s may be held by another container: %w", mac, err)}
	}
	if holder := n.holderOf(append(records, r), isNIC(mac)); holder != nil {
		return ledger.NIC{}, &HeldError{fmt.Errorf("nic %s is %s: it comes back when that one is deleted (see 'candor list')", mac, heldBy(holder))}
	}
	link, err := nic.Find(host, selector(g))
	if err != nil {
		return ledger.NIC{}, fmt.Errorf("pool %s: %w", g.Pool.Name, err)
	}
	chosen, err := nic.Snapshot(host, link)
	if err != nil {
		return ledger.NIC{}, fmt.Errorf("pool %s: %w", g.Pool.Name, err)
	}
	return chosen, nil
}

// holderOf returns the record of which a NIC is the one meant, nil where there is
// none.
func (n *Node) holderOf(records []*ledger.Record, is func(*ledger.NIC) bool) *ledger.Record {
	for _, r := range records {
		if r.BootID != n.bootID {
			continue // the kernel that it describes is gone
		}
		for i := range r.NICs {
			if is(&r.NICs[i]) {
				return r
			}
		}
	}
	return nil
}

func heldBy(r *ledger.Record) string {
	return fmt.Sprintf("held by container %s since %s", r.ID, r.Created.Format(time.RFC3339))
}

// pin keeps the namespaces that the NICs are to be found in, and to go back to.
func (a *attachment) pin() error {
	pins := []statedir.Pin{{Name: a.record.Key, Netns: a.target.File()}}
	if !a.record.HostIsPid1s {
		pins = append(pins, statedir.Pin{Name: hostPin(a.record.Key), Netns: a.host.File()})
	}
	return statedir.PinNetns(a.node.StateDir, pins...)
}

func nicConfig(g policy.Grant) nic.Config {
	cfg := nic.Config{
		Addresses: g.Addresses, KeepAddresses: g.KeepAddresses, Gateways: g.Gateways,
		DefaultRoute: g.DefaultRoute, MTU: g.MTU, Promisc: g.Promisc, AllMulti: g.AllMulti,
		BestEffort: g.VF != nil && g.VF.BestEffort,
	}
	for _, r := range g.Routes {
		cfg.Routes = append(cfg.Routes, nic.Route{Destination: r.Dst, Gateway: r.GW, Metric: r.Metric, Table: r.Table})
	}
	return cfg
}
