package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/version"
	"golang.org/x/sys/unix"
)

// A release is a copy of the test's own file with its name at the end, where an
// ELF file may have anything.
const releaseMark = "\x00candord release "

// Releases that do not serve.
const (
	needsMore   = "needs-more"
	otherLayout = "other-layout"
)

// actRelease makes this process, a candord, one of its release.
func actRelease() {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return
	}
	defer f.Close()
	end := make([]byte, 64)
	if _, err := f.Seek(-int64(len(end)), io.SeekEnd); err != nil {
		return
	}
	if _, err := io.ReadFull(f, end); err != nil {
		return
	}
	_, name, ok := bytes.Cut(end, []byte(releaseMark))
	if !ok {
		return
	}
	version.Version = string(name)
	if version.Version == otherLayout && len(os.Args) > 1 && os.Args[1] == "worker" {
		fd, err := unix.MemfdCreate("of another size", 0)
		if err == nil {
			err = unix.Dup2(fd, workerSlots)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// install puts a release in the place of the file at the path, as an upgrade does.
func install(t *testing.T, path, release string) {
	t.Helper()
	temp := path + ".new"
	copyFile(t, "/proc/self/exe", temp)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(releaseMark + release)
	if err := errors.Join(err, f.Close(), os.Rename(temp, path)); err != nil {
		t.Fatal(err)
	}
}

// installed is a path with a release at it.
func installed(t *testing.T, release string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "candord")
	install(t, path, release)
	return path
}

// reload runs candord reload, and returns what it says.
func (l *lab) reload() (stdout, stderr string, err error) {
	var out, complaints bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "reload", "--state-dir", l.dir)
	cmd.Args[0] = "candord"
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = cmd.Run()
	return out.String(), complaints.String(), err
}

func (l *lab) exeIs(pid int, path string) {
	l.t.Helper()
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		l.t.Fatal(err)
	}
	file, err := os.Stat(path)
	if err != nil {
		l.t.Fatal(err)
	}
	if !os.SameFile(running, file) {
		l.t.Errorf("process %d does not run %s", pid, path)
	}
}

func TestReloadLetsTheInstalledCandordTakeOver(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	slow := l.add("c2", 2*time.Millisecond, l.self())
	path := installed(t, "release-0")
	d := l.run(l.commandOf(path))
	rs, rs2, walkers := l.read(6, r), l.read(2, slow), l.walk(2, r)
	device := l.device()
	for i := range 10 {
		install(t, path, fmt.Sprintf("release-%d", i+1))
		rs.goOn(t)
		out, complaints, err := l.reload()
		want := fmt.Sprintf("reloaded: version release-%d, generation %d -> version release-%d, generation %d\n", i, i+1, i+1, i+2)
		if err != nil || out != want {
			t.Fatalf("%v: %q, want %q; %s", err, out, want, complaints)
		}
		l.exeIs(l.await(d.Process.Pid).WorkerPID, path)
	}
	l.oneWorker()
	rs.end(l, patience)
	rs2.end(l, patience)
	walkers.end(l, patience)
	if now := l.device(); now != device {
		t.Error("the view was mounted anew")
	}
}

func TestReloadToWhatDoesNotServeLeavesTheOldWorker(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	path := installed(t, "before")
	d := l.run(l.commandOf(path))
	before := l.status()
	script := func(mode os.FileMode, text string) func() {
		return func() {
			if err := errors.Join(os.WriteFile(path+".new", []byte(text), mode), os.Chmod(path+".new", mode), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rs := l.read(4, r)
	for _, tt := range []struct {
		name    string
		install func()
		want    string
	}{
		{"ends at once", script(0o755, "#!/bin/sh\nexit 7\n"), "the new worker ended before it served (exit status 7)"},
		{"no program", script(0o755, "this is none"), "start worker: fork/exec " + path + ": exec format error"},
		{"not executable", script(0o644, "#!/bin/sh\n"), "start worker: fork/exec " + path + ": permission denied"},
		{"gone", func() { _ = os.Remove(path) }, "start worker: fork/exec " + path + ": no such file or directory"},
		{"lacks something", func() { install(t, path, needsMore) }, "the new candord cannot serve: this machine is too small"},
		{
			"another layout",
			func() { install(t, path, otherLayout) },
			"the new candord cannot serve: it lays out the shared memory in another way; a restart of candord mounts the view anew",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.install()
			out, complaints, err := l.reload()
			want := fmt.Sprintf("candord: reload: %s; worker %d serves on\n", tt.want, before.WorkerPID)
			if err == nil || out != "" || complaints != want {
				t.Errorf("%v, %q, it says\n%s, want\n%s", err, out, complaints, want)
			}
			if now := l.status(); now.WorkerPID != before.WorkerPID || now.Generation != before.Generation {
				t.Errorf("status %+v, before %+v", now, before)
			}
			l.oneWorker()
		})
	}
	install(t, path, "after")
	if out, complaints, err := l.reload(); err != nil || !strings.HasPrefix(out, "reloaded: version before, generation 1 -> version after, generation ") {
		t.Errorf("%v, %q, %s", err, out, complaints)
	}
	l.await(d.Process.Pid)
	rs.goOn(t)
	rs.end(l, patience)
}

func TestReloadSaysWhatRuns(t *testing.T) {
	l := newLab(t)
	l.add("c1", 0, l.self())
	says := func(want string) {
		t.Helper()
		out, complaints, err := l.reload()
		if err == nil || out != "" || complaints != "candord: reload: "+want+"\n" {
			t.Errorf("%v, %q, it says %q, want %q", err, out, complaints, want)
		}
	}
	nobody := fmt.Sprintf("candord is not running (%s)", controlPath(l.dir))
	says(nobody)
	d := l.start()
	before := l.status()
	if err := os.Rename(controlPath(l.dir), controlPath(l.dir)+".away"); err != nil {
		t.Fatal(err)
	}
	says(fmt.Sprintf("candord (pid %d) knows no reload: restart it", d.Process.Pid))
	if err := os.Rename(controlPath(l.dir)+".away", controlPath(l.dir)); err != nil {
		t.Fatal(err)
	}
	_ = d.Process.Kill()
	_ = d.Wait()
	says(nobody + fmt.Sprintf(": worker %d serves without a supervisor; start candord, and it takes over", before.WorkerPID))
	if err := os.WriteFile(statePath(l.dir), []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	says(statePath(l.dir) + " has format 99, this candord knows 1")
	_ = unix.Kill(before.WorkerPID, unix.SIGKILL)
}

func TestReloadsAtOnceComeOneAfterTheOther(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(4, r)
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			if out, complaints, err := l.reload(); err != nil {
				t.Errorf("%v, %q, %s", err, out, complaints)
			}
		})
	}
	group.Wait()
	if st := l.await(d.Process.Pid); st.Generation != 6 {
		t.Errorf("generation %d after five reloads", st.Generation)
	}
	l.oneWorker()
	rs.end(l, patience)
}

// Whoever asks who is gone before the answer has asked all the same.
func TestReloadWhileWorkersAreKilled(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs, walkers := l.read(4, r), l.walk(1, r)
	device := l.device()
	for range 15 {
		failed := make(chan error, 1)
		go func() {
			_, complaints, err := l.reload()
			if err != nil {
				err = errors.New(complaints)
			}
			failed <- err
		}()
		for range 3 {
			time.Sleep(rand.N(12 * time.Millisecond))
			l.signalWorker(unix.SIGKILL)
		}
		if err := <-failed; err != nil && !strings.Contains(err.Error(), "the new worker did not come to serve") {
			t.Error(err)
		}
	}
	l.await(d.Process.Pid)
	l.oneWorker()
	rs.goOn(t)
	rs.end(l, patience)
	walkers.end(l, patience)
	if now := l.device(); now != device {
		t.Error("the view was mounted anew")
	}
}

func TestSupervisorKilledWhileItReloads(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(4, r)
	device := l.device()
	for round := range 25 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _, _ = l.reload() // cut short, or done just before
		}()
		for end := time.Now().Add(patience); len(l.workers()) < 2 && time.Now().Before(end); {
			select {
			case <-done:
				end = time.Now() // too late, it is over
			default:
			}
		}
		time.Sleep(rand.N(6 * time.Millisecond))
		how := unix.SIGKILL
		if round%3 == 2 {
			how = unix.SIGHUP
		}
		if err := d.Process.Signal(how); err != nil {
			t.Fatal(err)
		}
		_ = d.Wait()
		<-done
		d = l.start()
		l.oneWorker()
	}
	rs.noticedNothing(l, device)
}

// The worker that is to be replaced does not die at once: all that time, a hundred
// milliseconds, nobody serves, and then the supervisor dies, too.
func TestSupervisorKilledBetweenTheWorkersOfAReload(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	dir, asked := l.blockedMount()
	t.Setenv(blockedEnv, dir)
	r := l.add("c1", 0, l.self())
	blocks := l.add("c2", blocksForGood, l.self())
	d := l.start()
	rs := l.read(4, r)
	path := l.file(blocks.Key, "stat")
	var others sync.WaitGroup
	others.Go(func() { _, _ = readAll(path, 4096) })
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the worker does not block")
	}
	before := l.status()
	others.Go(func() { _, _, _ = l.reload() })
	for end := time.Now().Add(patience); ; {
		st, err := readState(l.dir)
		if err == nil && st.Generation != before.Generation {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no reload")
		}
	}
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	// Without any supervisor the new worker serves.
	rs.goOn(t)
	if st := l.status(); st.WorkerPID == before.WorkerPID || st.SupervisorAlive {
		t.Errorf("status %+v, before %+v", st, before)
	}
	l.start()
	rs.goOn(t)
	rs.end(l, patience)
	others.Wait()
}

// brokenReload is a supervisor in this process that dies in the middle of a
// reload: with the next worker ready, and named by candord.json or not.
func (l *lab) brokenReload(named bool) (old, next *worker) {
	l.t.Helper()
	s, err := NewSupervisor(SupervisorConfig{StateDir: l.dir, Executable: "/proc/self/exe"})
	if err == nil {
		err = s.takeOver()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if old, err = s.spawn(); err != nil {
		l.t.Fatal(err)
	}
	for s.conn.slots.Ready() != old.generation {
		time.Sleep(time.Millisecond)
	}
	answer := make(chan error, 1)
	s.prepare(old, answer)
	if s.reload == nil {
		l.t.Fatal(<-answer)
	}
	if err := <-s.reload.ready(); err != nil {
		l.t.Fatal(err)
	}
	next = s.reload.next
	if named {
		st, err := s.state(next.generation)
		if err != nil {
			l.t.Fatal(err)
		}
		st.Worker = next.process
		st.Undead = append(st.Undead, undead{Process: old.process, Generation: old.generation})
		if err := st.write(l.dir); err != nil {
			l.t.Fatal(err)
		}
	}
	// What the kernel closes of one that is dead.
	s.reload.orders.Close()
	s.socket.Close()
	s.conn.close()
	s.lock.Close()
	return old, next
}

func TestReloadThatIsCutShortEndsOneOfTheTwo(t *testing.T) {
	for name, named := range map[string]bool{"before the new one is named": false, "after that": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			r := l.add("c1", 0, l.self())
			old, next := l.brokenReload(named)
			goes, stays := next, old
			if named {
				goes, stays = old, next
			}
			if !goes.dead(patience) {
				t.Error("both workers live")
			}
			rs := l.read(4, r)
			rs.goOn(t)
			if now := l.status().WorkerPID; now != stays.process.PID {
				t.Errorf("worker %d serves, want %d", now, stays.process.PID)
			}
			device := l.device()
			l.start()
			l.oneWorker()
			rs.end(l, patience)
			if l.device() != device {
				t.Error("the view was mounted anew")
			}
		})
	}
}

// The supervisor's own code is replaced by a restart: it leaves the worker to the
// next one, which is of the new release.
func TestRestartWithANewReleaseIsNotNoticed(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	path := installed(t, "release-0")
	d := l.run(l.commandOf(path))
	rs, walkers := l.read(6, r), l.walk(1, r)
	device := l.device()
	for i := range 8 {
		install(t, path, fmt.Sprintf("release-%d", i+1))
		rs.goOn(t)
		how := unix.SIGHUP
		if i%2 == 1 {
			how = unix.SIGKILL
		}
		if err := d.Process.Signal(how); err != nil {
			t.Fatal(err)
		}
		_ = d.Wait()
		d = l.run(l.commandOf(path))
		st := l.await(d.Process.Pid)
		if want := fmt.Sprintf("release-%d", i+1); st.Version != want {
			t.Errorf("version %s, want %s", st.Version, want)
		}
		l.exeIs(d.Process.Pid, path)
		l.exeIs(st.WorkerPID, path)
	}
	l.oneWorker()
	rs.end(l, patience)
	walkers.end(l, patience)
	if now := l.device(); now != device {
		t.Error("the view was mounted anew")
	}
}
