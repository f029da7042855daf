package daemon

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"golang.org/x/sys/unix"
)

// What these tests see is printed with "view:" before it, for `make test` to repeat
// at its end. `make soak` runs them in full.

// Sixteen readers read everything that a container's view has, while candord is
// killed, stopped and frozen. None gets an error, or anything but whole files.
//
//	CANDOR_VIEW_KILLS=100   kill -9 of the worker
//	CANDOR_VIEW_STOPS=2     of each of the others
func TestReadersOfAllFilesNoticeNoFault(t *testing.T) {
	kills, stops := size(t, "CANDOR_VIEW_KILLS", 100), size(t, "CANDOR_VIEW_STOPS", 2)
	pause := 100 * time.Millisecond
	if testing.Short() {
		kills, stops, pause = size(t, "CANDOR_VIEW_KILLS", 5), size(t, "CANDOR_VIEW_STOPS", 1), 10*pause
	}
	for _, tt := range []struct {
		name  string
		times int
		fault func(t *testing.T, l *lab) func(*readers)
	}{
		{"kill -9 of the worker", kills, func(t *testing.T, l *lab) func(*readers) {
			served := false
			return func(rs *readers) {
				// Every other time one that serves; else at any moment.
				if served = !served; served {
					rs.goOn(t)
				}
				time.Sleep(rand.N(pause))
				for end := time.Now().Add(patience); !l.signalWorker(unix.SIGKILL); time.Sleep(time.Millisecond) {
					if time.Now().After(end) { // it was not just being replaced
						t.Fatal("no worker to kill")
					}
				}
			}
		}},
		{"SIGSTOP of the worker", stops, func(t *testing.T, l *lab) func(*readers) {
			return func(*readers) {
				l.replaced(t, func(int) { l.signalWorker(unix.SIGSTOP) })
			}
		}},
		{"worker frozen by cgroup v1", stops, func(t *testing.T, l *lab) func(*readers) {
			g, err := hierarchyOf("freezer")
			if err != nil || g.v2 {
				t.Skip("no freezer of cgroup v1 here")
			}
			return l.frozenIn(t, g)
		}},
		{"worker frozen by cgroup v2", stops, func(t *testing.T, l *lab) func(*readers) {
			mounts, err := cgroup.Mounts()
			if err != nil || mounts.Unified.Dir == "" {
				t.Skip("no cgroup v2 here")
			}
			return l.frozenIn(t, group{dir: mounts.Unified.Dir, v2: true})
		}},
		{"kill -9 of the supervisor", stops, func(t *testing.T, l *lab) func(*readers) {
			return func(*readers) {
				d := l.daemons[len(l.daemons)-1]
				if err := d.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = d.Wait()
				time.Sleep(rand.N(pause))
				l.start()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLabFor(t, 90*time.Second+time.Duration(tt.times)*20*pause)
			t.Setenv(rootEnv, "/")
			fault := tt.fault(t, l)
			l.start()
			all := l.container("c1").items(t)
			rs := readItems(16, all)
			for range tt.times {
				fault(rs)
			}
			for end := time.Now().Add(patience); rs.reads.Load() < int64(2*len(all)) && time.Now().Before(end); {
				time.Sleep(time.Millisecond) // until everything was read
			}
			rs.goOn(t)
			rs.end(l, patience)
			st := l.status()
			t.Logf("view: %s, %d times, under 16 readers of all %d files and directories: %d reads, %d errors, longest %v; %d requests answered by a successor",
				tt.name, tt.times, len(all), rs.reads.Load(), rs.errors.Load(), time.Duration(rs.longest.Load()).Round(time.Millisecond), st.Replayed)
		})
	}
}

// replaced does something to the worker that serves, and waits for another.
func (l *lab) replaced(t *testing.T, fault func(pid int)) {
	t.Helper()
	time.Sleep(rand.N(200 * time.Millisecond))
	d := l.daemons[len(l.daemons)-1]
	before := l.await(d.Process.Pid)
	fault(before.WorkerPID)
	for end := time.Now().Add(3 * patience); l.await(d.Process.Pid).WorkerPID == before.WorkerPID; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("worker %d is not replaced", before.WorkerPID)
		}
	}
}

// frozenIn freezes the worker in a group of its own, until it is replaced.
func (l *lab) frozenIn(t *testing.T, hierarchy group) func(*readers) {
	g := hierarchy.below(t, cgroupName(l.dir)+"-frozen")
	t.Cleanup(g.thaw)
	return func(*readers) {
		l.replaced(t, func(pid int) {
			g.enter(t, pid)
			g.freeze(t)
		})
		time.Sleep(rand.N(200 * time.Millisecond)) // its successor serves beside it
		g.thaw()
	}
}

// Supervisor and worker are killed together, so that every file of every container
// is dead. The next candord mends them all.
//
//	CANDOR_VIEW_CONTAINERS=5   that run
func TestEveryContainerIsMended(t *testing.T) {
	containers := size(t, "CANDOR_VIEW_CONTAINERS", 5)
	l := newLabFor(t, 90*time.Second+time.Duration(containers)*5*time.Second)
	t.Setenv(rootEnv, "/")
	d := l.start()
	var boxes []*box
	files := 0
	for i := range containers {
		b := l.container(fmt.Sprintf("c%d", i))
		files += len(b.bound)
		boxes = append(boxes, b)
	}
	var took []time.Duration
	for range 3 {
		killBoth(t, l, d)
		for _, b := range boxes {
			if _, err := look(b.path("/proc/meminfo")); err == nil {
				t.Errorf("%s reads a file of a dead mount", b.record.Key)
			}
		}
		began := time.Now()
		d = l.start()
		for _, b := range boxes {
			b.allMended(t)
		}
		took = append(took, time.Since(began).Round(time.Millisecond))
	}
	for _, b := range boxes {
		if !b.process.Alive() {
			t.Errorf("%s did not outlive it", b.record.Key)
		}
	}
	t.Logf("view: kill -9 of supervisor and worker with %d containers, %d files bound: all mended %v after the next start (to reach: 2 s for 50)", containers, files, took)
}
