package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// box stands for a container: a process with a mount namespace of its own, in
// which /proc and /sys are the real ones.
type box struct {
	process ledger.Process
	record  *ledger.Record
	// Of a container, see there: the files, and what moves a process into its
	// cgroups.
	bound []resview.File
	enter func(pid int)
}

func (l *lab) box(key string) *box {
	l.t.Helper()
	p := l.namespace()
	return &box{process: p, record: l.add(key, 0, p)}
}

// namespace starts a process with a mount namespace of its own.
func (l *lab) namespace() ledger.Process {
	l.t.Helper()
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sleep", "3600")
	if err := cmd.Start(); err != nil {
		l.t.Skipf("unshare: %v", err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	for range 1000 { // until unshare(1) has done its work
		theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
		if p, err := ledger.FindProcess(cmd.Process.Pid); err == nil && theirs != "" && theirs != ours {
			return p
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Fatal("no mount namespace of its own")
	return ledger.Process{}
}

func (b *box) path(target string) string {
	return fmt.Sprintf("/proc/%d/root%s", b.process.PID, target)
}

// read reads a file of the view; of a directory, a file in it.
func (b *box) read(f resview.File) error {
	name, target := f.Name, f.Target
	if f.Directory {
		in := map[string]string{"cpu": "/online", "node": "/online", "pressure": "/cpu"}[f.Name]
		name, target = name+in, target+in
	}
	content, err := readAll(b.path(target), 4096)
	if err != nil {
		return err
	}
	return checkContent(content, b.record.View.ID, name)
}

// boundBox is a box with the view.
func (l *lab) boundBox(key string) *box {
	l.t.Helper()
	b := l.box(key)
	if _, err := resview.Bind(l.dir, key, b.process, "/", resview.Files()); err != nil {
		l.t.Fatal(err)
	}
	return b
}

// mended waits until the box reads the view again.
func (b *box) mended(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); b.read(resview.Files()[0]) != nil; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not mended: %v", b.read(resview.Files()[0]))
		}
	}
}

// boundFiles are those that a container gets: all that this kernel has, but for
// what is in a directory that it gets.
func boundFiles() []resview.File {
	return slices.DeleteFunc(resview.Files(), func(f resview.File) bool {
		_, err := os.Stat(f.Target)
		return err != nil || f.Within != ""
	})
}

// mounts returns the lines of the box's mountinfo for a target.
func (b *box) mounts(t *testing.T, target string) []string {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", b.process.PID))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(info)) {
		if strings.Fields(line)[4] == target {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestBindCoversTheFilesAndNothingElse(t *testing.T) {
	l := newLab(t)
	l.start()
	b := l.box("c1")
	bound, err := resview.Bind(l.dir, "c1", b.process, "/", resview.Files())
	if err != nil {
		t.Fatal(err)
	}
	if len(bound) != len(boundFiles()) {
		t.Errorf("bound %v", bound)
	}
	for _, f := range boundFiles() {
		if err := b.read(f); err != nil {
			t.Errorf("%s: %v", f.Target, err)
		}
		lines := b.mounts(t, f.Target)
		if len(lines) != 1 {
			t.Fatalf("%d mounts on %s", len(lines), f.Target)
		}
		options := strings.Fields(lines[0])[5]
		for _, o := range []string{"ro", "nosuid", "nodev", "noexec"} {
			if !strings.Contains(","+options+",", ","+o+",") {
				t.Errorf("%s: options %s lack %s", f.Target, options, o)
			}
		}
		if strings.Contains(lines[0], "shared:") {
			t.Errorf("%s is shared: %s", f.Target, lines[0])
		}
		if f.Directory {
			if err := os.Mkdir(b.path(f.Target+"/new"), 0o755); !errors.Is(err, unix.EROFS) {
				t.Errorf("mkdir in %s = %v", f.Target, err)
			}
			continue
		}
		if _, err := os.OpenFile(b.path(f.Target), os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
			t.Errorf("open for writing = %v", err)
		}
	}
	host, err := os.ReadFile("/proc/meminfo")
	if err != nil || !bytes.HasPrefix(host, []byte("MemTotal")) {
		t.Errorf("the host's meminfo: %q, %v", host, err)
	}
}

func TestBindIsAllOrNothing(t *testing.T) {
	l := newLab(t)
	l.start()
	b := l.box("c1")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc", link); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"outside of procfs": "/etc/hostname",
		"through a link":    link + "/stat",
		"a magic link":      "/proc/self/exe/x",
	} {
		files := []resview.File{{Name: "meminfo", Target: "/proc/meminfo"}, {Name: "stat", Target: bad}}
		if bound, err := resview.Bind(l.dir, "c1", b.process, "/", files); err == nil {
			t.Errorf("%s: bound %v", name, bound)
		}
		if lines := b.mounts(t, "/proc/meminfo"); len(lines) != 0 {
			t.Errorf("%s: left behind %q", name, lines)
		}
	}
	missing := []resview.File{{Name: "stat", Target: "/proc/no-such-file"}, {Name: "meminfo", Target: "/proc/meminfo"}}
	bound, err := resview.Bind(l.dir, "c1", b.process, "/", missing)
	if err != nil || len(bound) != 1 || bound[0] != "/proc/meminfo" {
		t.Errorf("a target that is missing: bound %v, %v", bound, err)
	}
}

// A hook of this release meets a worker of the one before until candord is
// reloaded.
func TestBindLeavesOutWhatTheWorkerDoesNotServe(t *testing.T) {
	l := newLab(t)
	l.start()
	b := l.box("c1")
	later := []resview.File{
		{Name: "stat", Target: "/proc/stat"},
		{Name: "of-a-later-release", Target: "/sys/devices/system/cpu", Directory: true},
		{Name: "cpu-online", Target: "/sys/devices/system/cpu/online", Within: "of-a-later-release"},
	}
	bound, err := resview.Bind(l.dir, "c1", b.process, "/", later)
	if want := []string{"/proc/stat", "/sys/devices/system/cpu/online"}; err != nil || !slices.Equal(bound, want) {
		t.Errorf("bound %v, %v, want %v", bound, err, want)
	}
	if err := b.read(later[2]); err != nil {
		t.Error(err)
	}
}

// Containers that the release before started have a file where newer ones have
// its directory.
func TestAFileThatIsInADirectoryNowIsStillMended(t *testing.T) {
	l := newLab(t)
	d := l.start()
	b := l.box("c1")
	old := resview.File{Name: "cpu-online", Target: "/sys/devices/system/cpu/online"}
	if bound, err := resview.Bind(l.dir, "c1", b.process, "/", []resview.File{old}); err != nil || len(bound) != 1 {
		t.Fatalf("bound %v, %v", bound, err)
	}
	killBoth(t, l, d)
	l.start()
	for end := time.Now().Add(5 * time.Second); b.read(old) != nil; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not mended: %v", b.read(old))
		}
	}
	if n := len(b.mounts(t, "/sys/devices/system/cpu")); n != 0 {
		t.Errorf("%d mounts on the directory, which was not bound", n)
	}
}

func TestBindRefusesTheHostAndTheDead(t *testing.T) {
	l := newLab(t)
	l.start()
	l.add("c1", 0, l.self())
	if _, err := resview.Bind(l.dir, "c1", l.self(), "/", resview.Files()); err == nil || !strings.Contains(err.Error(), "host's mount namespace") {
		t.Errorf("bind into the host = %v", err)
	}
	b := l.box("c2")
	other := b.process
	other.StartTime--
	if _, err := resview.Bind(l.dir, "c2", other, "/", resview.Files()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("bind into a pid that is another's = %v", err)
	}
	if _, err := resview.Bind(l.dir, "no-record", b.process, "/", resview.Files()); !errors.Is(err, unix.ENOENT) {
		t.Errorf("bind without a record = %v", err)
	}
}

func TestBothKilledAndEveryContainerIsMended(t *testing.T) {
	l := newLab(t)
	d := l.start()
	b := l.box("c1")
	if _, err := resview.Bind(l.dir, "c1", b.process, "/", resview.Files()); err != nil {
		t.Fatal(err)
	}
	// Dead files are an error; the host's content is never seen.
	stop, foreign := make(chan struct{}), make(chan string, 1)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if content, err := readAll(b.path("/proc/meminfo"), 4096); err == nil {
				if checkContent(content, b.record.View.ID, "meminfo") != nil {
					select {
					case foreign <- string(content):
					default:
					}
				}
			}
		}
	})
	for range 3 {
		st := l.status()
		killBoth(t, l, d)
		if err := b.read(resview.Files()[0]); err == nil {
			t.Error("a file of a dead mount can be read")
		}
		start := time.Now()
		d = l.start()
		for _, f := range boundFiles() {
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
				err := b.read(f)
				if err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s is not mended: %v", f.Target, err)
				}
			}
		}
		t.Logf("mended %v after the start", time.Since(start))
		if now := l.status(); now.Generation > st.Generation+1 || now.PID == st.PID {
			t.Errorf("status %+v", now)
		}
	}
	close(stop)
	group.Wait()
	select {
	case content := <-foreign:
		t.Errorf("a reader saw %q", content)
	default:
	}
	for _, f := range boundFiles() {
		if n := len(b.mounts(t, f.Target)); n != 1 && kernelHasBeneath() {
			t.Errorf("%d mounts on %s", n, f.Target)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if mended, err := l.heal(); err != nil || len(mended["c1"]) != 0 {
		t.Errorf("mending what is whole: %v, %v", mended, err)
	}
}

// heal mends, and returns what it bound by container.
func (l *lab) heal() (map[string][]string, error) {
	mended := map[string][]string{}
	err := Heal(l.t.Context(), l.dir, func(r *ledger.Record, bound []string) { mended[r.ID] = bound })
	return mended, err
}

func kernelHasBeneath() bool {
	var u unix.Utsname
	var major, minor int
	_ = unix.Uname(&u)
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 5
}

func killBoth(t *testing.T, l *lab, d *exec.Cmd) {
	t.Helper()
	st, err := readState(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l.signalWorker(unix.SIGKILL)
	_ = d.Wait()
	for st.Worker.Alive() {
		time.Sleep(time.Millisecond)
	}
}

func TestSecondCandordIsRefused(t *testing.T) {
	l := newLab(t)
	d := l.start()
	second := l.command()
	var out bytes.Buffer
	second.Stderr = &out
	if err := second.Run(); err == nil {
		t.Fatal("two candords serve one state directory")
	}
	want := fmt.Sprintf("candord: another candord (pid %d) serves %s\n", d.Process.Pid, l.dir)
	if out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
	l.await(d.Process.Pid)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	l := newLab(t)
	d := l.start()
	killBoth(t, l, d)
	if _, err := os.Stat(socketPath(l.dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Ping(t.Context(), l.dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("ping = %v, want %v", err, ErrNotRunning)
	}
	l.start()
}

func TestPingHasAnEnd(t *testing.T) {
	l := newLab(t)
	d := l.start()
	// Both stopped: connections are taken into the queue, and nobody answers.
	if err := d.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.signalWorker(unix.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	for range 200 { // more than the queue holds
		if _, err := Ping(ctx, l.dir); err == nil || errors.Is(err, ErrNotRunning) {
			t.Fatalf("ping = %v", err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if err := d.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.await(d.Process.Pid)
}

func TestTermWithoutContainersLeavesNothing(t *testing.T) {
	l := newLab(t)
	d := l.start()
	if err := d.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{statePath(l.dir), socketPath(l.dir)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if _, mounted, err := resview.Mounted(l.dir); err != nil || mounted {
		t.Errorf("the view is mounted: %v, %v", mounted, err)
	}
}

func TestTermWithContainersIsMendedByTheNext(t *testing.T) {
	l := newLab(t)
	d := l.start()
	b := l.box("c1")
	if _, err := resview.Bind(l.dir, "c1", b.process, "/", resview.Files()); err != nil {
		t.Fatal(err)
	}
	st := l.status()
	if err := d.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.FindProcess(st.WorkerPID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("worker %d is left: %v", st.WorkerPID, err)
	}
	if err := b.read(resview.Files()[0]); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("read = %v, want %v", err, unix.ENOTCONN)
	}
	l.start()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := b.read(resview.Files()[0])
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestEnsureStartsOne(t *testing.T) {
	l := newLab(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "candord")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.endEnsured) // before the lab's
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := Ensure(context.Background(), Options{BinDir: bin, StateDir: l.dir, Timeout: 20 * time.Second}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	st := l.status()
	if st.Generation != 1 {
		t.Errorf("status %+v", st)
	}
	if sid, err := unix.Getsid(st.PID); err != nil || sid != st.PID {
		t.Errorf("session %d of candord %d, %v", sid, st.PID, err)
	}
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", st.PID)); cwd != "/" {
		t.Errorf("candord works in %s", cwd)
	}
	log, _ := os.ReadFile(logPath(l.dir))
	if bytes.Contains(log, []byte("another candord")) {
		t.Errorf("more than one was started: %s", log)
	}
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", st.WorkerPID))
	if !bytes.Contains(groups, []byte(cgroupName(l.dir))) {
		t.Errorf("the worker's cgroups: %s", groups)
	}
	if err := unix.Kill(st.PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(st.PID, &ws, 0, nil); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("candord ended with %v, %v: %s", ws.ExitStatus(), err, log)
	}
	if left := groupsOf(l.dir); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

func groupsOf(stateDir string) []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		dirs, _ := filepath.Glob(pattern + cgroupName(stateDir))
		found = append(found, dirs...)
	}
	return found
}

func TestEnsureSaysWhyCandordDoesNotStart(t *testing.T) {
	l := newLab(t)
	o := Options{BinDir: t.TempDir(), StateDir: l.dir}
	if err := Ensure(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a candord: %v", err)
	}
	script := "#!/bin/sh\necho candord: no luck today >&2; exit 1\n"
	if err := os.WriteFile(filepath.Join(o.BinDir, "candord"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := Ensure(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "candord: no luck today") {
		t.Errorf("with a candord that fails: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// A worker in a frozen cgroup of v1 does not die of SIGKILL (one of v2 does). Its
// successor serves beside it, and answers what it holds.
func TestFrozenWorkerHoldsNobodyUp(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	g := newGroup(t, l, "freezer")
	t.Cleanup(g.thaw)
	d := l.start()
	rs := l.read(8, r)
	time.Sleep(100 * time.Millisecond)
	before := l.await(d.Process.Pid)
	g.enter(t, before.WorkerPID)
	start := time.Now()
	g.freeze(t)
	for l.await(d.Process.Pid).WorkerPID == before.WorkerPID {
		time.Sleep(5 * time.Millisecond)
	}
	l.replacedWithin("frozen", []time.Duration{time.Since(start)})
	rs.goOn(t)
	rs.end(l, patience)
	p, err := ledger.FindProcess(before.WorkerPID)
	if undead := err == nil && p.Alive(); undead == g.v2 {
		t.Errorf("the frozen worker is undead: %v, on cgroup v2: %v", undead, g.v2)
	}
}

// Without /dev/fuse there is no view, but still somebody who gives back what dead
// containers hold.
func TestWithoutFUSE(t *testing.T) {
	l := newLab(t)
	g := newGroup(t, l, "devices")
	g.deny(t, 10, 229)
	inner := l.command()
	d := exec.Command("sh", append([]string{"-c", "echo $$ >" + g.dir + "/cgroup.procs; exec -a candord /proc/" + fmt.Sprint(os.Getpid()) + `/exe "$@"`, "sh"}, inner.Args[1:]...)...)
	d.Path, _ = exec.LookPath("bash")
	d.Stderr = inner.Stderr
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	l.daemons = append(l.daemons, d)
	var st Status
	var err error
	for range 1000 {
		if st, err = Ping(t.Context(), l.dir); !errors.Is(err, ErrNotRunning) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if !errors.Is(err, ErrNoView) || !strings.Contains(err.Error(), "/dev/fuse") || st.FuseMounted || st.PID != d.Process.Pid {
		t.Errorf("ping = %+v, %v", st, err)
	}
	if err := Ensure(t.Context(), Options{BinDir: t.TempDir(), StateDir: l.dir}); err != nil {
		t.Errorf("ensure = %v", err)
	}
	time.Sleep(3 * checkInterval)
	if now, _ := Ping(t.Context(), l.dir); now.WorkerPID != st.WorkerPID {
		t.Error("the worker was replaced for doing nothing")
	}
	if err := d.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Error(err)
	}
}
