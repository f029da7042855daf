package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSuspicion(t *testing.T) {
	type look struct {
		at, wanted int // milliseconds
		runnable   bool
		of         int
		beat       uint64
		all        int // what all want, if it is others
	}
	for _, tt := range []struct {
		name  string
		looks []look
		want  bool
	}{
		{"nothing moves", []look{{at: 0, wanted: 5}, {at: 60, wanted: 5}, {at: 120, wanted: 5}}, true},
		{"only a runtime's own thread wakes up", []look{{at: 0}, {at: 60, wanted: 1}, {at: 120, wanted: 2}}, true},
		{"too early to tell", []look{{at: 0}, {at: 60}}, false},
		{"it waits for a CPU", []look{{at: 0, runnable: true}, {at: 60, runnable: true}, {at: 120, runnable: true}}, false},
		{"it waited for a CPU, or computed, in between", []look{{at: 0}, {at: 60, wanted: 40}, {at: 120, wanted: 80}}, false},
		{"once is not enough", []look{{at: 0}, {at: 60}, {at: 120, wanted: 30}, {at: 180, wanted: 30}}, false},
		{"it has calmed down", []look{{at: 0, runnable: true}, {at: 60, wanted: 30}, {at: 120, wanted: 30}, {at: 180, wanted: 30}}, true},
		{"a thread of it ended", []look{{at: 0, wanted: 90}, {at: 60, wanted: 10}, {at: 120, wanted: 10}}, false},
		{"the supervisor is late itself", []look{{at: 0}, {at: 200}, {at: 400}, {at: 600}}, false},
		{"and it stays so", []look{{at: 0}, {at: 200}, {at: 400}, {at: 600}, {at: 800}}, true},
		{"another thread is looked at", []look{{at: 0, of: 1}, {at: 60, of: 2}, {at: 120, of: 2}}, false},
		{"the supervisor got no CPU itself for long", []look{{at: 0, runnable: true}, {at: 6000, runnable: true}, {at: 12000, runnable: true}}, false},
		{"a thread sleeps while others compute and the heart beats", []look{{at: 0, of: 1}, {at: 60, of: 1, beat: 1, all: 50}, {at: 120, of: 1, beat: 2, all: 100}}, true},
		{"the heart does not beat", []look{{at: 0, of: 1}, {at: 60, of: 1, all: 50}, {at: 120, of: 1, all: 100}, {at: 180, of: 1, all: 150}}, false},
		{"the heart beats now and then", []look{{at: 0, of: 1}, {at: 60, of: 1, beat: 1, all: 50}, {at: 120, of: 1, beat: 1, all: 100}, {at: 180, of: 1, beat: 2, all: 150}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s suspicion
			start := time.Now()
			got := false
			for _, l := range tt.looks {
				const ms = time.Millisecond
				own := use{wanted: time.Duration(l.wanted) * ms, runnable: l.runnable, of: l.of}
				all := own
				if l.of != 0 {
					all = use{wanted: time.Duration(l.all) * ms}
				}
				got = s.confirmed(sight{at: start.Add(time.Duration(l.at) * ms), beat: l.beat, own: own, all: all})
			}
			if got != tt.want {
				t.Errorf("confirmed: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSuspicionHasAnEnd(t *testing.T) {
	var s suspicion
	start := time.Now()
	for at := time.Duration(0); at < 2*starvedLimit; at += suspectInterval {
		u := use{wanted: at, runnable: true}
		if s.confirmed(sight{at: start.Add(at), own: u, all: u}) {
			if at < starvedLimit {
				t.Errorf("a worker that computes is given %v", at)
			}
			return
		}
	}
	t.Error("a worker that computes for ever is left alone")
}

func TestThreadsOf(t *testing.T) {
	busy := exec.Command("sh", "-c", "while :; do :; done")
	asleep := exec.Command("sleep", "60")
	for _, cmd := range []*exec.Cmd{busy, asleep} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	time.Sleep(100 * time.Millisecond)
	before, still := threadsOf(busy.Process.Pid, nil), threadsOf(asleep.Process.Pid, nil)
	time.Sleep(200 * time.Millisecond)
	if u := threadsOf(busy.Process.Pid, nil); !u.runnable || u.wanted-before.wanted < 100*time.Millisecond {
		t.Errorf("a loop: %+v, and %+v before", u, before)
	}
	if u := threadsOf(asleep.Process.Pid, nil); u.runnable || u != still {
		t.Errorf("sleep: %+v, and %+v before", u, still)
	}
	if u := threadsOf(busy.Process.Pid, []int{busy.Process.Pid}); !u.runnable || u.of != busy.Process.Pid {
		t.Errorf("its thread: %+v", u)
	}
	if u := threadsOf(busy.Process.Pid, []int{asleep.Process.Pid}); !u.runnable || u.of != 0 {
		t.Errorf("a thread of another process: %+v, want all of its own", u)
	}
}

// replacedWithin checks that a worker that hangs is not given the time that a
// starved one has. Speed is what a machine without load has: only half of them
// count, and none on an emulated one or under such a load.
func (l *lab) replacedWithin(what string, took []time.Duration) {
	l.t.Helper()
	l.t.Logf("%s: replaced after %v", what, took)
	quick := 0
	for _, d := range took {
		if d < time.Second {
			quick++
		}
	}
	var load float64
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &load)
	}
	if quick*2 < len(took) && !testing.Short() && load < 2*float64(runtime.NumCPU()) {
		l.t.Errorf("%s: only %d of %d were replaced in time", what, quick, len(took))
	}
}

// A request that blocks where nothing may block, while all others are answered.
func TestWorkerWithABlockedRequestIsReplaced(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	l.start()
	rs := l.read(4, r)
	var took []time.Duration
	for range 3 {
		// Who opens a FIFO waits for a writer.
		path := filepath.Join(l.dir, "ledger", "blocks.json")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		before, start := l.status().WorkerPID, time.Now()
		looked := make(chan error, 1)
		go func() {
			fd, err := l.open("blocks", "")
			if err == nil {
				unix.Close(fd)
			}
			looked <- err
		}()
		for l.status().WorkerPID == before {
			if time.Since(start) > starvedLimit+patience {
				t.Error("the worker is not replaced")
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		took = append(took, time.Since(start))
		writer, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		if err := <-looked; !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("the look-up ended with %v", err)
		}
	}
	rs.end(l, patience)
	l.replacedWithin("blocked", took)
}
