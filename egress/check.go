package egress

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
)

// Check compares what the device carries with what [Shape] set for a limit in
// bits per second, and names all that differs. It changes nothing.
func Check(ns Namespace, dev ledger.ShapedDevice, limitBits uint64) ([]ledger.Difference, error) {
	c, err := dial(ns)
	if err != nil {
		return nil, fmt.Errorf("look at the egress limit of %s: %w", dev.Name, err)
	}
	defer c.close()
	found, err := c.check(dev, limitBits)
	if err != nil {
		return nil, fmt.Errorf("look at the egress limit of %s: %w", dev.Name, err)
	}
	return found, nil
}

func (c *conn) check(dev ledger.ShapedDevice, limitBits uint64) ([]ledger.Difference, error) {
	instead := func(actual string) []ledger.Difference {
		return []ledger.Difference{{
			Object: "egress limit of " + dev.Name, Expected: fmt.Sprintf("%d bit/s", limitBits), Actual: actual,
		}}
	}
	link, err := c.LinkByIndex(dev.Index)
	if err != nil {
		if gone(err) {
			return instead("gone with the device"), nil
		}
		return nil, err
	}
	base := link.Attrs()
	ours, err := c.ourRoot(base)
	var foreign *ForeignError
	switch {
	case errors.As(err, &foreign):
		return instead("none: the root qdisc is " + foreign.Qdisc), nil
	case err != nil:
		return nil, err
	case !ours:
		return instead("none: the root qdisc is the kernel's default"), nil
	}
	old, err := c.ourClass(dev.Index)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return instead("none: the htb qdisc has no class of candor's"), nil
	}
	if rate := limitBits / 8; old.rate != rate || old.ceil != rate {
		return instead(fmt.Sprintf("%d bit/s, with a ceiling of %d bit/s", old.rate*8, old.ceil*8)), nil
	}
	return c.checkDetails(dev, base, old, limitBits)
}

// checkDetails reads back, as [Shape] does, all but the rate.
func (c *conn) checkDetails(dev ledger.ShapedDevice, base *netlink.LinkAttrs, old *htbClass, limitBits uint64) ([]ledger.Difference, error) {
	p, err := newPlan(limitBits, base.MTU, naturalGSO(base, old).largest())
	if err != nil {
		return nil, err
	}
	want := gsoOf(base)
	if dev.GSOMaxSize != 0 {
		want = gso{size: dev.GSOMaxSize, ipv4: min(want.ipv4, dev.GSOMaxSize)}
	}
	err = c.compare(dev.Index, class{rate: p.rate, buffer: p.buffer, quantum: p.quantum}, dev.Leaf, p.leaf, want)
	each := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		each = joined.Unwrap()
	}
	var found []ledger.Difference
	for _, err := range each {
		var d difference
		if errors.As(err, &d) {
			found = append(found, ledger.Difference{
				Object: fmt.Sprintf("%s of %s", d.what, dev.Name), Expected: fmt.Sprint(d.want), Actual: fmt.Sprint(d.have),
			})
		} else if err != nil {
			return nil, err
		}
	}
	return found, nil
}
