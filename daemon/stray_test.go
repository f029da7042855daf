package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// anyKind also stands for those that have forked and not yet executed.
const anyKind = ""

// processes returns the living processes of the lab's candord that were started
// as the given kind, "worker" or "heal", or as any.
func (l *lab) processes(kind string) (pids []int) {
	l.t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		line, _ := os.ReadFile(name)
		ours := bytes.HasPrefix(line, []byte("candord\x00")) && bytes.Contains(line, []byte("\x00"+l.dir+"\x00"))
		if !ours || kind != anyKind && kindOf(pid) != kind {
			continue
		}
		if p, err := ledger.FindProcess(pid); err == nil && p.Alive() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kindOf returns the first argument of a process: "worker" or "heal" for those
// that a supervisor has started.
func kindOf(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := bytes.Split(line, []byte{0})
	if len(args) < 2 {
		return ""
	}
	return string(args[1])
}

func (l *lab) workers() []int {
	l.t.Helper()
	return l.processes("worker")
}

// oneWorker waits until no worker but the one that answers is left.
func (l *lab) oneWorker() {
	l.t.Helper()
	var left []int
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = l.workers(); len(left) == 1 && left[0] == l.status().WorkerPID {
			return
		}
	}
	l.t.Errorf("workers %v are alive, %d serves", left, l.status().WorkerPID)
}

func childrenOf(pid int) (children []int) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		for word := range strings.FieldsSeq(string(text)) {
			child, _ := strconv.Atoi(word)
			children = append(children, child)
		}
	}
	return children
}

// successorBegins waits until the supervisor has forked the worker after the given
// one. It may be the supervisor's image still, but is no healer: the supervisor
// waits for a healer's exec, and only after that writes the next generation down.
func (l *lab) successorBegins(supervisor int, before Status) {
	l.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		st, err := readState(l.dir)
		if err != nil || st.Generation == before.Generation {
			continue
		}
		if slices.ContainsFunc(childrenOf(supervisor), func(pid int) bool {
			return pid != before.WorkerPID && kindOf(pid) != "heal"
		}) {
			return
		}
	}
	l.t.Fatal("no new worker")
}

// The supervisor is killed while it replaces the worker, at any moment from that
// on at which the next one is there: it is found, and readers notice nothing.
func TestSupervisorKilledWhileItReplacesTheWorker(t *testing.T) {
	if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", unix.Gettid())); err != nil {
		t.Skip("the kernel does not list the children of a process")
	}
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(4, r)
	mountedAs := l.device()
	for round := range 20 {
		before := l.status()
		if !l.signalWorker(unix.SIGKILL) {
			t.Fatal("no worker to kill")
		}
		l.successorBegins(d.Process.Pid, before)
		if round%2 == 1 {
			time.Sleep(rand.N(4 * time.Millisecond))
		}
		if err := d.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = d.Wait()
		d = l.start()
		l.oneWorker()
	}
	rs.end(l, patience)
	if now := l.device(); now != mountedAs {
		t.Errorf("the view was mounted anew: device %#x, and %#x before", now, mountedAs)
	}
}

func (l *lab) device() uint64 {
	l.t.Helper()
	device, mounted, err := resview.Mounted(l.dir)
	if err != nil || !mounted {
		l.t.Fatalf("the view is not mounted: %v", err)
	}
	return device
}

// remove takes the record of a container away.
func (l *lab) remove(key string) {
	l.t.Helper()
	lock, err := l.store.Lock(l.t.Context(), key)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := errors.Join(lock.Erase(), lock.Unlock()); err != nil {
		l.t.Fatal(err)
	}
}

// A worker that no candord knows of, as one whose supervisor died before it could
// write down whom it had started, ends, and takes nothing with it.
func TestWorkerThatNobodyKnowsEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("it looks around every ten seconds")
	}
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	l.file(r.Key, "stat") // as a container's does, it keeps the old mount alive
	l.remove(r.Key)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	if err := os.WriteFile(statePath(l.dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.start()
	after := l.status()
	if n := len(l.workers()); n != 2 {
		t.Fatalf("%d workers: the test shows nothing", n)
	}
	for end := time.Now().Add(2 * orphanInterval); len(l.workers()) > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("workers %v are left", l.workers())
		}
	}
	time.Sleep(time.Second)
	now := l.status()
	if now.WorkerPID != after.WorkerPID || now.PID != after.PID {
		t.Errorf("its end cost the new worker its life: %+v, before %+v", now, after)
	}
}

// blockedMount is a FUSE file system that never answers. Whoever looks up a name
// in it, which asked tells, cannot be killed before the end of the test.
func (l *lab) blockedMount() (dir string, asked <-chan struct{}) {
	l.t.Helper()
	dir = l.t.TempDir()
	lookups := make(chan struct{}, 1000)
	l.serveFUSE(dir, unix.S_IFDIR, func(op uint32, _ []byte, _ func([]byte)) {
		if op == fuseLookup {
			lookups <- struct{}{}
		}
	})
	return dir, lookups
}

// A worker that is killed while it waits for what cannot be interrupted does not
// die. Its successors serve beside it, however many it becomes, and the next
// supervisor takes over from the last of them.
func TestUndeadWorkersHoldNobodyUp(t *testing.T) {
	l := newLab(t)
	dir, asked := l.blockedMount()
	t.Setenv(blockedEnv, dir)
	r := l.add("c1", 0, l.self())
	blocks := l.add("c2", blocksForGood, l.self())
	d := l.start()
	rs := l.read(4, r)
	var undead []int
	var blocked sync.WaitGroup
	for round := range 9 { // there are four groups of slots
		st := l.await(d.Process.Pid)
		undead = append(undead, st.WorkerPID)
		path := l.file(blocks.Key, "stat")
		blocked.Go(func() {
			if _, err := readAll(path, 4096); err == nil {
				t.Error("what blocks was read")
			}
		})
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("the worker does not block")
		}
		if round == 5 || round == 7 {
			if err := d.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = d.Wait()
			d = l.start()
			continue
		}
		if !l.signalWorker(unix.SIGKILL) {
			t.Fatal("no worker to kill")
		}
		start := time.Now()
		for l.await(d.Process.Pid).WorkerPID == st.WorkerPID {
			if time.Since(start) > patience {
				t.Fatalf("worker %d is not replaced", st.WorkerPID)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("replaced after %v", time.Since(start))
		time.Sleep(200 * time.Millisecond) // for what the dead left to be answered
	}
	rs.goOn(t)
	rs.end(l, patience)
	blocked.Wait()
	for _, pid := range undead {
		if p, err := ledger.FindProcess(pid); err != nil || !p.Alive() {
			t.Errorf("worker %d could be killed: the test shows nothing", pid)
		}
	}
}

// Who waits for a FUSE server cannot be killed once that has read the request.
// Neither supervisor nor worker may ever wait for the view.
func TestCandordNeverWaitsForItsOwnView(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(2, r)
	time.Sleep(300 * time.Millisecond)
	worker := l.status().WorkerPID
	device := l.device()
	for _, pid := range []int{d.Process.Pid, worker} {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil || bytes.Contains(mounts, []byte(" "+resview.FSType+" ")) {
			t.Errorf("process %d has the view among its mounts: %v", pid, err)
		}
		places, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, place := range append(places, fmt.Sprintf("/proc/%d/cwd", pid), fmt.Sprintf("/proc/%d/root", pid)) {
			var st unix.Statx_t
			err := unix.Statx(unix.AT_FDCWD, place, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
			if err == nil && unix.Mkdev(st.Dev_major, st.Dev_minor) == device {
				t.Errorf("%s is in the view", place)
			}
		}
	}
	rs.end(l, patience)
	// What they ask of the mount itself needs no server.
	for _, pid := range []int{d.Process.Pid, worker} {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	asked := make(chan error, 1)
	go func() { asked <- checkMounted(l.dir, device) }()
	select {
	case err := <-asked:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("to look whether the view is mounted asks its server")
	}
	for _, pid := range []int{worker, d.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}
}
