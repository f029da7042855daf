package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
	"candor.dev/candor/version"
	"golang.org/x/sys/unix"
)

// The test binary is candord when it is called so: with fake contents.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "candord" {
		actRelease()
		os.Exit(Main(os.Args[1:], fakeParts(), os.Stdout, os.Stderr))
	}
	if filepath.Base(os.Args[0]) == readerName {
		os.Exit(reader(os.Args[1:]))
	}
	flag.Parse()
	if testing.Short() {
		patience *= 3
	}
	os.Exit(m.Run())
}

func fakeParts() Parts {
	return Parts{
		StateDir: func(string) (string, error) { return "", errors.New("the tests give --state-dir") },
		Log: func(_, component string) *slog.Logger {
			return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", component, "pid", os.Getpid())
		},
		Worker: func(string, string, *slog.Logger) (resview.OpenFunc, []func(context.Context) error, error) {
			if version.Version == needsMore {
				return nil, nil, errors.New("this machine is too small")
			}
			if root := os.Getenv(rootEnv); root != "" {
				return realContents(root)
			}
			return func(v ledger.View) (resview.Container, error) { return fake{v}, nil }, nil, nil
		},
	}
}

// What a fake container does is told by its view's BoottimeOffset: small ones
// are how long a rendering takes.
const (
	killsWorker   = time.Hour
	neverReturns  = 2 * time.Hour
	blocksForGood = 3 * time.Hour
)

// blockedEnv is where blocksForGood looks for a file.
const blockedEnv = "CANDORD_TEST_BLOCKED"

type fake struct{ view ledger.View }

func (f fake) Close() error { return nil }

// List gives each directory a file or two.
func (f fake) List(dst []string, directory string, _ time.Time) ([]string, error) {
	switch directory {
	case "cpu":
		return append(dst, "online", "cpu0"), nil
	case "cpu/cpu0":
		return append(dst, "online", "node0"), nil
	case "node":
		return append(dst, "online"), nil
	case "pressure":
		return append(dst, "cpu"), nil
	}
	return dst, fs.ErrNotExist
}

// Render makes content of a random length from which a reader can tell that it
// is whole, whose it is, and that it is of one piece.
func (f fake) Render(dst []byte, file string, _ time.Time) ([]byte, error) {
	switch d := f.view.BoottimeOffset; d {
	case killsWorker:
		os.Exit(3)
	case neverReturns:
		select {}
	case blocksForGood:
		_, err := os.Stat(filepath.Join(os.Getenv(blockedEnv), strconv.Itoa(os.Getpid())))
		return nil, err
	default:
		time.Sleep(d)
	}
	n := rand.IntN(1000)
	for i := range n/10 + 1 {
		dst = fmt.Appendf(dst, "view %d %s content %d line %d\n", f.view.ID, file, n, i)
	}
	return fmt.Appendf(dst, "end %d\n", n), nil
}

// checkContent returns an error unless b is one whole content of that file.
func checkContent(b []byte, id uint64, file string) error {
	var n int
	end := bytes.LastIndex(b, []byte("end "))
	if end < 0 {
		return fmt.Errorf("no end: %q", b)
	}
	if _, err := fmt.Sscanf(string(b[end:]), "end %d\n", &n); err != nil {
		return fmt.Errorf("odd end: %q", b[end:])
	}
	var want []byte
	for i := range n/10 + 1 {
		want = fmt.Appendf(want, "view %d %s content %d line %d\n", id, file, n, i)
	}
	want = fmt.Appendf(want, "end %d\n", n)
	if !bytes.Equal(b, want) {
		return fmt.Errorf("torn content: %q", b)
	}
	return nil
}

// lab is a state directory with a candord, all of its own.
type lab struct {
	t     testing.TB
	life  time.Duration // then its readers are freed, whatever happens
	dir   string
	store *ledger.Store
	ctl   string // fusectl
	next  uint64

	mu       sync.Mutex
	daemons  []*exec.Cmd
	devices  map[uint64]bool
	finished chan struct{}
}

func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabFor(t, 90*time.Second)
}

// newLabFor makes a lab for a test that takes so long.
func newLabFor(t testing.TB, life time.Duration) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	l := &lab{t: t, life: life, dir: filepath.Join(t.TempDir(), "state"), ctl: t.TempDir(), devices: map[uint64]bool{}, finished: make(chan struct{})}
	if err := statedir.Prepare(l.dir); err != nil {
		t.Fatal(err)
	}
	store, err := ledger.Open(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.store = store
	// A reader behind a server that hangs cannot be killed; aborting the
	// connection is the only thing that frees it.
	if err := unix.Mount("fusectl", l.ctl, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	go l.watchdog()
	t.Cleanup(l.close)
	return l
}

func (l *lab) watchdog() {
	for start := time.Now(); ; {
		select {
		case <-l.finished:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if st, err := readState(l.dir); err == nil {
			l.mu.Lock()
			l.devices[st.Device] = true
			l.mu.Unlock()
		}
		if time.Since(start) > l.life {
			fmt.Fprintln(os.Stderr, "watchdog: aborting the test's FUSE connections")
			l.abort()
			start = time.Now()
		}
	}
}

func (l *lab) abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for dev := range l.devices {
		_ = os.WriteFile(filepath.Join(l.ctl, strconv.FormatUint(uint64(unix.Minor(dev)), 10), "abort"), []byte("1"), 0)
	}
}

func (l *lab) close() {
	st, err := readState(l.dir)
	if err == nil {
		l.mu.Lock()
		l.devices[st.Device] = true
		l.mu.Unlock()
	}
	l.mu.Lock()
	daemons := l.daemons
	l.mu.Unlock()
	for _, d := range daemons {
		_ = d.Process.Kill()
		_ = d.Wait()
	}
	if st, err := readState(l.dir); err == nil {
		if pidfd, err := st.Worker.OpenPidfd(); err == nil {
			_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGCONT, nil, 0)
			_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
			pidfd.Close()
		}
	}
	l.abort()
	close(l.finished)
	l.endStragglers()
	_ = resview.Unmount(l.dir)
	if err := unix.Unmount(l.ctl, unix.MNT_DETACH); err != nil {
		l.t.Error(err)
	}
	if err := statedir.Remove(l.dir); err != nil {
		l.t.Error(err)
	}
}

// endStragglers ends what a killed supervisor has left behind, such as a healer:
// it would make the state directory anew while that is removed.
func (l *lab) endStragglers() {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		left := l.processes(anyKind)
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // or it has ended
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			l.t.Errorf("processes %v do not end", left)
			return
		}
	}
}

// start starts a candord and waits until it serves.
func (l *lab) start() *exec.Cmd {
	l.t.Helper()
	return l.run(l.command())
}

// run starts the given candord and waits until it serves.
func (l *lab) run(cmd *exec.Cmd) *exec.Cmd {
	l.t.Helper()
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	return l.started(cmd)
}

// started waits until a candord serves that was started.
func (l *lab) started(cmd *exec.Cmd) *exec.Cmd {
	l.t.Helper()
	l.mu.Lock()
	l.daemons = append(l.daemons, cmd)
	l.mu.Unlock()
	l.await(cmd.Process.Pid)
	return cmd
}

func (l *lab) command() *exec.Cmd { return l.commandOf("/proc/self/exe") }

// commandOf is a candord of the given file.
func (l *lab) commandOf(path string) *exec.Cmd {
	cmd := exec.Command(path, "--state-dir", l.dir)
	cmd.Args[0] = "candord"
	if testing.Verbose() {
		cmd.Stderr = os.Stderr // no pipe: an orphaned worker would hold it open
	}
	return cmd
}

// await waits until the candord with that pid answers.
func (l *lab) await(pid int) Status {
	l.t.Helper()
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		st, err := Ping(l.t.Context(), l.dir)
		if err == nil && st.PID == pid && st.SupervisorAlive && st.FuseMounted {
			return st
		}
	}
	l.t.Fatalf("candord %d does not serve", pid)
	return Status{}
}

func (l *lab) status() Status {
	l.t.Helper()
	st, err := Ping(l.t.Context(), l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	return st
}

// add writes the record of a container.
func (l *lab) add(key string, behaviour time.Duration, owner ledger.Process) *ledger.Record {
	l.t.Helper()
	return l.addView(key, owner, ledger.View{BoottimeOffset: behaviour})
}

func (l *lab) addView(key string, owner ledger.Process, view ledger.View) *ledger.Record {
	l.t.Helper()
	l.next++
	view.ID, view.Rootfs = l.next, "/"
	r := &ledger.Record{Key: key, ID: key, Owner: owner, State: ledger.Attached, View: &view}
	lock, err := l.store.Lock(l.t.Context(), key)
	if err != nil {
		l.t.Fatal(err)
	}
	defer lock.Unlock()
	if err := lock.Write(r); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *lab) self() ledger.Process {
	p, err := ledger.FindProcess(os.Getpid())
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// file returns a path by which a file of the view can be opened from here.
func (l *lab) file(key, name string) string {
	l.t.Helper()
	fd, err := l.open(key, name)
	if err != nil {
		l.t.Fatalf("%s/%s: %v", key, name, err)
	}
	l.t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// open opens a path of the view without reading it.
func (l *lab) open(key, name string) (fd int, err error) {
	err = statedir.InMounts(l.dir, func() error {
		fd, err = unix.Open(filepath.Join(statedir.ViewDir, key, name), unix.O_PATH|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// readers read files in loops until they are stopped.
type readers struct {
	reads   atomic.Int64
	longest atomic.Int64
	errors  atomic.Int64
	first   atomic.Pointer[error]
	stop    chan struct{}
	group   sync.WaitGroup
}

// read starts n readers of the files of a record, each whole content checked.
func (l *lab) read(n int, r *ledger.Record) *readers {
	l.t.Helper()
	rs := &readers{stop: make(chan struct{})}
	names := []string{"meminfo", "stat", "cpuinfo"}
	for i := range n {
		name := names[i%len(names)]
		path := l.file(r.Key, name)
		size := []int{64 << 10, 4096, 333}[i%3] // small ones need many READs
		rs.group.Go(func() {
			for {
				select {
				case <-rs.stop:
					return
				default:
				}
				start := time.Now()
				b, err := readAll(path, size)
				if err == nil {
					err = checkContent(b, r.View.ID, name)
				}
				rs.note(time.Since(start), err)
			}
		})
	}
	return rs
}

// walk starts n readers that list a directory of a record, look up what is in it,
// follow its links and read its files.
func (l *lab) walk(n int, r *ledger.Record) *readers {
	l.t.Helper()
	rs := &readers{stop: make(chan struct{})}
	directory := l.file(r.Key, "cpu")
	for range n {
		rs.group.Go(func() {
			for {
				select {
				case <-rs.stop:
					return
				default:
				}
				start := time.Now()
				err := walkOnce(directory, r.View.ID)
				rs.note(time.Since(start), err)
			}
		})
	}
	return rs
}

func walkOnce(directory string, id uint64) error {
	for path, want := range map[string]string{"": "cpu0 online", "/cpu0": "node0 online"} {
		entries, err := os.ReadDir(directory + path)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			return fmt.Errorf("%q has %q, want %q", path, got, want)
		}
	}
	target, err := os.Readlink(directory + "/cpu0/node0")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("view %d cpu/cpu0/node0 ", id); !strings.HasPrefix(target, want) {
		return fmt.Errorf("odd target %q", target)
	}
	b, err := readAll(directory+"/cpu0/online", 4096)
	if err != nil {
		return err
	}
	return checkContent(b, id, "cpu/cpu0/online")
}

// goOn checks that files are still read.
func (rs *readers) goOn(t testing.TB) {
	t.Helper()
	before := rs.reads.Load()
	for end := time.Now().Add(patience); rs.reads.Load() < before+20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("nothing is read any more")
			return
		}
	}
}

func (rs *readers) note(took time.Duration, err error) {
	rs.reads.Add(1)
	for {
		longest := rs.longest.Load()
		if int64(took) <= longest || rs.longest.CompareAndSwap(longest, int64(took)) {
			break
		}
	}
	if err != nil {
		rs.errors.Add(1)
		rs.first.CompareAndSwap(nil, &err)
	}
}

func readAll(path string, size int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, size)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return all, err
		}
		if n == 0 {
			return all, nil
		}
		all = append(all, buf[:n]...)
	}
}

// end stops the readers and fails the test if one of them saw anything wrong.
func (rs *readers) end(l *lab, limit time.Duration) {
	l.t.Helper()
	close(rs.stop)
	rs.group.Wait()
	longest := time.Duration(rs.longest.Load())
	l.t.Logf("%d reads, %d errors, longest %v", rs.reads.Load(), rs.errors.Load(), longest)
	if err := rs.first.Load(); err != nil {
		l.t.Errorf("%d of %d reads failed, the first: %v", rs.errors.Load(), rs.reads.Load(), *err)
	}
	if rs.reads.Load() == 0 {
		l.t.Error("nothing was read")
	}
	if longest > limit {
		l.t.Errorf("a read took %v", longest)
	}
}

// signalWorker signals the worker of the moment.
func (l *lab) signalWorker(sig syscall.Signal) bool {
	st, err := readState(l.dir)
	if err != nil {
		return false
	}
	pidfd, err := st.Worker.OpenPidfd()
	if err != nil {
		return false
	}
	defer pidfd.Close()
	return unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0) == nil
}
