//go:build amd64

package crash

import (
	"testing"
	"time"
)

func TestCost(t *testing.T) {
	p := buildPrograms(t)
	s := newStand(t, p, kinds()[0], 1)
	sum := map[string]time.Duration{}
	last := time.Now()
	lap := func(what string) {
		sum[what] += time.Since(last)
		last = time.Now()
	}
	for range 10 {
		last = time.Now()
		c := s.start(s.asked(false))
		lap("start")
		if err := s.attachOf(c).do(); err != nil {
			t.Fatal(err)
		}
		lap("attach")
		c.die()
		lap("die")
		s.poststopOf(c).do()
		lap("poststop")
		s.lookAtNetwork()
		lap("network")
		if d := s.difference(); d != "" {
			t.Fatal(d)
		}
		lap("difference")
		s.lookAtState()
		lap("state")
		s.gc().do()
		lap("gc")
		c = s.attached()
		lap("attached")
		trace(s.poststopOf(c), false, s.plain(c), func(call) moment { return never })
		lap("traced poststop")
		s.difference()
		lap("difference 2")
	}
	for what, d := range sum {
		t.Logf("%s: %v", what, d/10)
	}
}
