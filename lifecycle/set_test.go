package lifecycle

import (
	"errors"
	"strings"
	"testing"

	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/request"
)

func TestSetLimit(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	c := l.limited("c1")
	set := func(limit string) error {
		t.Helper()
		rate, err := request.ParseRate(limit)
		if err != nil {
			t.Fatal(err)
		}
		return l.node.SetLimit(t.Context(), c.key(), rate, l.policy)
	}
	shows := func(want string) {
		t.Helper()
		if got := c.inside("tc", "class", "show", "dev", "net0"); !strings.Contains(got, "rate "+want+" ceil "+want) {
			t.Errorf("%s, want a rate of %s", got, want)
		}
		if got := l.checked(); got != "" {
			t.Errorf("check finds %s", got)
		}
	}
	for _, step := range []struct{ limit, shows string }{{"20M", "20Mbit"}, {"20M", "20Mbit"}, {"1G", "1Gbit"}, {"30M", "30Mbit"}} {
		if err := set(step.limit); err != nil {
			t.Fatalf("%s: %v", step.limit, err)
		}
		shows(step.shows)
	}

	// Killed once the record is written: check says so, and it is mended by the next.
	l.rewrite(c.key(), func(r *ledger.Record) { r.Egress.LimitBits = 40e6 })
	if got := l.checked(); !strings.Contains(got, "40") {
		t.Errorf("check finds %q", got)
	}
	if err := set("60M"); err != nil {
		t.Fatal(err)
	}
	shows("60Mbit")

	l.rewrite(c.key(), func(r *ledger.Record) { r.State = ledger.Intent })
	if err := set("70M"); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("while it is attached: %v", err)
	}
	l.rewrite(c.key(), func(r *ledger.Record) { r.State = ledger.Attached })
	shows("60Mbit")

	c.inside("tc", "qdisc", "del", "dev", "net0", "root")
	c.inside("tc", "qdisc", "add", "dev", "net0", "root", "handle", "7:", "tbf", "rate", "1mbit", "burst", "10kb", "latency", "50ms")
	var foreign *egress.ForeignError
	if err := set("70M"); !errors.As(err, &foreign) || strings.Count(err.Error(), "tbf") != 1 {
		t.Errorf("with somebody else's qdisc: %v", err)
	}
	if r, err := l.node.Store().Read(c.key()); err != nil || r.Egress.LimitBits != 60e6 {
		t.Errorf("the record is %+v, %v", r.Egress, err)
	}

	c.kill()
	if err := set("70M"); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("of a dead container: %v", err)
	}
	l.giveBack(c)
	l.wantNothingHeld(before)
}
