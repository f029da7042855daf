package daemon

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A worker that gets hardly any CPU is as silent as one that hangs. To replace it
// helps nobody: its successor would get no more.
func TestStarvedWorkerIsLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name          string
		hogs          int
		quota, period time.Duration
		supervisor    bool // is starved, too
	}{
		{name: "withheld for most of a second", quota: 10 * time.Millisecond, period: time.Second},
		{name: "beside two that compute", hogs: 2, quota: 10 * time.Millisecond, period: 400 * time.Millisecond},
		{name: "with its supervisor", hogs: 2, quota: 20 * time.Millisecond, period: 400 * time.Millisecond, supervisor: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && !tt.supervisor {
				t.Skip("the one with its supervisor starves the worker as well")
			}
			l := newLab(t)
			g := newGroup(t, l, "cpu")
			r := l.add("c1", 0, l.self())
			d := l.start()
			rs := l.read(4, r)
			first := l.status().Generation
			quota := tt.quota
			if testing.Short() {
				quota *= 5
			}
			g.cpus(t, quota, tt.period)
			for range tt.hogs {
				g.hog(t)
			}
			if tt.supervisor {
				g.enter(t, d.Process.Pid)
			}
			// Each worker, should there be several, has as little as the first.
			var st state
			worker := 0
			for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				var err error
				if st, err = readState(l.dir); err == nil && st.Worker.PID > 0 && st.Worker.PID != worker {
					worker = st.Worker.PID
					g.enter(t, worker)
				}
			}
			g.cpus(t, tt.period, tt.period) // it is to end soon
			if n := st.Generation - first; n != 0 {
				t.Errorf("%d starved workers were replaced in 6 s", n)
			}
			rs.end(l, 3*patience)
		})
	}
}

// The successor of a killed worker has no content yet. On a machine on which
// making it takes long, all readers wait for it, and none gets an error.
func TestReadersWaitForAStarvedSuccessor(t *testing.T) {
	l := newLab(t)
	g := newGroup(t, l, "cpu")
	r := l.add("c1", 60*time.Millisecond, l.self()) // made in so long, without a load
	d := l.start()
	rs := l.read(12, r)
	period := 100 * time.Millisecond
	g.cpus(t, period/20, period)
	if testing.Short() {
		g.cpus(t, period/4, period)
	}
	g.hog(t)
	g.enter(t, d.Process.Pid)
	for range 4 {
		if !l.signalWorker(unix.SIGKILL) {
			t.Error("no worker to kill")
		}
		time.Sleep(1500 * time.Millisecond)
	}
	g.cpus(t, period, period)
	rs.end(l, 3*patience)
}
