package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/egress"
	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"golang.org/x/sys/unix"
)

func TestReasonIsThatOfTheErrorsType(t *testing.T) {
	for _, test := range []struct {
		err  error
		want counters.Reason
	}{
		{&request.Error{Rule: "x"}, counters.Request},
		{&policy.DeniedError{Err: errors.New("x")}, counters.Denied},
		{&policy.BrokenError{Err: os.ErrNotExist}, counters.Policy},
		{&nic.NotFoundError{MAC: mac1}, counters.NotFound},
		{&nic.AmbiguousError{MAC: mac1}, counters.Ambiguous},
		{&nic.RefusedError{Reason: "x"}, counters.Refused},
		{&RefusedError{"x"}, counters.Refused},
		{limited(&RefusedError{"x"}), counters.Refused},
		{&HeldError{&ledger.UnreadableError{Path: "x", Err: os.ErrInvalid}}, counters.Held},
		{&nic.LostError{NIC: "x"}, counters.Lost},
		{&egress.ForeignError{Device: "x"}, counters.ForeignQdisc},
		{&ledger.VersionError{Path: "x"}, counters.Record},
		{daemon.ErrNotRunning, counters.Daemon},
		{&os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}, counters.NoSpace},
		{os.ErrProcessDone, counters.Died},
		{context.DeadlineExceeded, counters.Timeout},
		{errors.New("x"), counters.Other},
		// What was undone badly comes behind what failed.
		{errors.Join(&nic.NotFoundError{MAC: mac1}, context.DeadlineExceeded), counters.NotFound},
	} {
		if got := ReasonOf(fmt.Errorf("wrapped: %w", test.err)); got != test.want {
			t.Errorf("%T %v: %s, want %s", test.err, test.err, got, test.want)
		}
	}
}

func TestFailuresAndGiveBacksAreCounted(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	holder := l.limited("holder")
	for _, test := range []struct {
		annotations map[string]string
		capability  string
	}{
		{nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.6/24"), ""},
		{nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.6/24"), ""},
		{nicAnnotation("pool=nosuch,mac=" + mac1 + ",ip=198.18.0.6/24"), ""},
		{map[string]string{request.KeyEgressLimit: "50M"}, "CAP_NET_ADMIN"},
		{map[string]string{request.KeyEgressLimit: "50M"}, ""}, // no device, and nobody comes back
	} {
		c := l.run("c1", test.annotations)
		if test.capability != "" {
			c.Spec.Process.Capabilities.Bounding = []string{test.capability}
		}
		if err := l.attach(c); err == nil {
			t.Errorf("%v was granted", test.annotations)
		}
		c.kill()
	}
	holder.kill()
	l.giveBack(holder) // twice: the second finds nothing, which is no give-back
	c := l.run("c2", nil)
	l.mustAttach(c) // asks for nothing, counts nothing
	got, err := counters.Read(l.node.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[counters.Operation]map[counters.Reason]uint64{
		counters.Attach: {counters.Held: 2, counters.Denied: 1},
		counters.Limit:  {counters.Refused: 2},
	}
	if !reflect.DeepEqual(got.Failures, want) || got.GiveBack.Count != 1 || got.GiveBack.Sum <= 0 {
		t.Errorf("counted %+v, want failures %v and one give-back", got, want)
	}
}
