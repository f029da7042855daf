package daemon

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// manager does what systemd does for candord's units: it listens, keeps the
// descriptors that it is sent, and starts candord with all of them.
type manager struct {
	l        *lab
	listener *os.File
	notify   string

	mu     sync.Mutex
	stored map[string]*os.File
	polled bool // it was asked to poll one of them
}

func newManager(l *lab) *manager {
	l.t.Helper()
	listener, err := listen(socketPath(l.dir))
	if err != nil {
		l.t.Fatal(err)
	}
	m := &manager{l: l, listener: listener, notify: filepath.Join(l.t.TempDir(), "notify"), stored: map[string]*os.File{}}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: m.notify})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.receive(fd)
	}()
	l.t.Cleanup(func() {
		// Wakes the receiver, which has the descriptor still.
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		<-done
		unix.Close(fd)
		listener.Close()
		for _, f := range m.stored {
			f.Close()
		}
	})
	return m
}

func (m *manager) receive(fd int) {
	message, rights := make([]byte, 4096), make([]byte, 4096)
	for {
		n, rn, _, _, err := unix.Recvmsg(fd, message, rights, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		fields := map[string]string{}
		for line := range strings.SplitSeq(string(message[:n]), "\n") {
			key, value, _ := strings.Cut(line, "=")
			fields[key] = value
		}
		var fds []int
		if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(messages) == 1 {
			fds, _ = unix.ParseUnixRights(&messages[0])
		}
		m.apply(fields, fds)
	}
}

func (m *manager) apply(fields map[string]string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := fields["FDNAME"]
	if old := m.stored[name]; old != nil && (fields["FDSTOREREMOVE"] == "1" || len(fds) > 0) {
		old.Close()
		delete(m.stored, name)
	}
	if fields["FDSTORE"] == "1" && len(fds) == 1 {
		m.stored[name] = os.NewFile(uintptr(fds[0]), name)
		m.polled = m.polled || fields["FDPOLL"] != "0"
	}
}

func (m *manager) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.stored))
}

// awaitNames waits until what is kept is the pair of the mounted view, or nothing
// where it is not mounted.
func (m *manager) awaitNames() []string {
	m.l.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		names := m.names()
		device, mounted, err := resview.Mounted(m.l.dir)
		if err != nil {
			m.l.t.Fatal(err)
		}
		if !mounted && len(names) == 0 {
			return nil
		}
		prefix := storedFuse + fmt.Sprintf("%x-", device)
		if mounted && len(names) == 2 && strings.HasPrefix(names[0], prefix) && names[1] == storedSlots+strings.TrimPrefix(names[0], storedFuse) {
			return names
		}
		if time.Now().After(end) {
			m.l.t.Fatalf("systemd keeps %v; device %#x, mounted: %v", names, device, mounted)
		}
	}
}

// launch starts candord as systemd does.
func (m *manager) launch() *exec.Cmd {
	m.l.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	names, files := []string{"candord.socket"}, []*os.File{m.listener}
	for name, f := range m.stored {
		names, files = append(names, name), append(files, f)
	}
	script := fmt.Sprintf(`LISTEN_PID=$$ exec -a candord /proc/%d/exe "$@"`, os.Getpid())
	d := exec.Command("bash", "-c", script, "bash", "--state-dir", m.l.dir)
	d.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.notify, fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	d.Stderr = m.l.command().Stderr
	d.ExtraFiles = files
	if err := d.Start(); err != nil {
		m.l.t.Fatal(err)
	}
	return d
}

func (m *manager) start() *exec.Cmd {
	m.l.t.Helper()
	return m.l.started(m.launch())
}

func TestBothKilledWhileSystemdKeepsTheConnection(t *testing.T) {
	l := newLab(t)
	m := newManager(l)
	d := m.start()
	b := l.boundBox("c1")
	mounts := b.mounts(t, "/proc/meminfo")
	rs, walkers := l.read(6, b.record), l.walk(1, b.record)
	names := m.awaitNames()
	if m.polled {
		t.Error("systemd would poll the connection")
	}
	generation := uint64(0)
	for range 8 {
		rs.goOn(t)
		killBoth(t, l, d)
		time.Sleep(rand.N(50 * time.Millisecond))
		d = m.start()
		st := l.await(d.Process.Pid)
		if st.Generation <= generation {
			t.Errorf("generation %d after %d: the memory is another", st.Generation, generation)
		}
		generation = st.Generation
		if now := m.awaitNames(); !slices.Equal(now, names) {
			t.Errorf("systemd keeps %v, before %v", now, names)
		}
	}
	l.oneWorker()
	rs.end(l, patience)
	walkers.end(l, patience)
	if now := b.mounts(t, "/proc/meminfo"); !slices.Equal(now, mounts) {
		t.Errorf("it was bound anew: %q, before %q", now, mounts)
	}
}

// Killed at any moment of its start, the next one finds what there is.
func TestKilledAgainAndAgainWhileSystemdKeepsTheConnection(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	m := newManager(l)
	d := m.start()
	r := l.add("c1", 0, l.self())
	rs := l.read(4, r)
	device := l.device()
	m.awaitNames()
	for range 8 {
		killBoth(t, l, d)
		for range 3 {
			d = m.launch()
			time.Sleep(rand.N(60 * time.Millisecond))
			if err := d.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = d.Wait()
			for _, pid := range l.workers() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		d = m.start()
		l.oneWorker()
	}
	rs.noticedNothing(l, device)
}

// A restart finds no worker to leave to the next candord, or one that is about to die.
func TestRestartWhileTheWorkerDies(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	m := newManager(l)
	d := m.start()
	r := l.add("c1", 0, l.self())
	rs := l.read(4, r)
	device := l.device()
	m.awaitNames()
	for round := range 15 {
		l.await(d.Process.Pid)
		signals := []os.Signal{unix.SIGHUP}
		if round%2 == 0 { // it learns of both at once
			signals = []os.Signal{unix.SIGSTOP, unix.SIGHUP, unix.SIGCONT}
		}
		for i, sig := range signals {
			if i == len(signals)-1 {
				l.signalWorker(unix.SIGKILL)
				time.Sleep(rand.N(2 * time.Millisecond))
			}
			if err := d.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
		_ = d.Wait()
		d = m.start()
		l.oneWorker()
	}
	rs.noticedNothing(l, device)
}

// Killed when the connection is stored and there was no worker yet.
func TestSupervisorKilledBeforeItsFirstWorker(t *testing.T) {
	l := newLab(t)
	m := newManager(l)
	s, err := NewSupervisor(SupervisorConfig{StateDir: l.dir, Socket: m.listener, Store: newDescriptorStore(m.notify, nil)})
	if err == nil {
		err = s.takeOver()
	}
	if err != nil {
		t.Fatal(err)
	}
	names := m.awaitNames()
	s.conn.close()
	s.lock.Close()
	m.start()
	if now := m.awaitNames(); !slices.Equal(now, names) {
		t.Errorf("systemd keeps %v, before %v", now, names)
	}
	r := l.add("c1", 0, l.self())
	rs := l.read(2, r)
	rs.goOn(t)
	rs.end(l, patience)
}

// What systemd keeps and nobody can use is let go, and the view is mounted anew.
func TestStaleDescriptorsAreDropped(t *testing.T) {
	notInShort(t)
	for name, spoil := range map[string]func(l *lab, m *manager) error{
		"the mount is gone": func(l *lab, _ *manager) error { return resview.Unmount(l.dir) },
		"another view is mounted": func(l *lab, _ *manager) error {
			if err := resview.Unmount(l.dir); err != nil {
				return err
			}
			fd, _, err := resview.OpenMount(l.dir)
			return errors.Join(err, unix.Close(fd))
		},
		"the connection is cut": func(l *lab, _ *manager) error {
			l.abort()
			return nil
		},
		"the memory is of another layout": func(_ *lab, m *manager) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			for name, f := range m.stored {
				if strings.HasPrefix(name, storedSlots) {
					_, err := unix.Pwrite(int(f.Fd()), make([]byte, 8), 0)
					return err
				}
			}
			return errors.New("no memory is kept")
		},
		"the memory is not there": func(_ *lab, m *manager) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			for name, f := range m.stored {
				if strings.HasPrefix(name, storedSlots) {
					delete(m.stored, name)
					return f.Close()
				}
			}
			return errors.New("no memory is kept")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			m := newManager(l)
			d := m.start()
			b := l.boundBox("c1")
			b.mended(t)
			names := m.awaitNames()
			time.Sleep(200 * time.Millisecond) // the lab notes the device
			killBoth(t, l, d)
			if err := spoil(l, m); err != nil {
				t.Fatal(err)
			}
			m.start()
			b.mended(t)
			if now := m.awaitNames(); slices.Equal(now, names) {
				t.Errorf("systemd keeps %v as before", now)
			}
		})
	}
}

func TestConnectionThatIsCutIsNotKept(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	m := newManager(l)
	d := m.start()
	b := l.boundBox("c1")
	names := m.awaitNames()
	time.Sleep(200 * time.Millisecond) // the lab notes the device
	before := l.status().WorkerPID
	l.abort()
	for end := time.Now().Add(patience); l.await(d.Process.Pid).WorkerPID == before; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no new worker")
		}
	}
	b.mended(t)
	if now := m.awaitNames(); slices.Equal(now, names) {
		t.Errorf("systemd keeps %v as before", now)
	}
	// A view that somebody unmounts, too: its files in containers must not hang.
	names = m.awaitNames()
	if err := resview.Unmount(l.dir); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); slices.Equal(m.names(), names) || len(m.names()) != 2; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("systemd keeps %v", m.names())
		}
	}
	b.mended(t)
}

func TestStopLeavesNothingWithSystemdThatNobodyServes(t *testing.T) {
	l := newLab(t)
	m := newManager(l)
	d := m.start()
	b := l.boundBox("c1")
	names := m.awaitNames()
	if err := d.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	if now := m.names(); !slices.Equal(now, names) {
		t.Errorf("after SIGHUP systemd keeps %v, before %v", now, names)
	}
	if err := b.read(resview.Files()[0]); err != nil {
		t.Errorf("after SIGHUP: %v", err)
	}
	d = m.start()
	if now := m.awaitNames(); !slices.Equal(now, names) {
		t.Errorf("systemd keeps %v, before %v", now, names)
	}
	if err := d.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	for end := time.Now().Add(patience); len(m.names()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after SIGTERM systemd keeps %v", m.names())
		}
	}
	if err := b.read(resview.Files()[0]); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("after SIGTERM: %v, want %v", err, unix.ENOTCONN)
	}
	m.start()
	b.mended(t)
}

// Nothing is kept then, and all else goes on.
func TestSystemdThatDoesNotListenIsNoMatter(t *testing.T) {
	l := newLab(t)
	m := newManager(l)
	m.notify += ".gone"
	m.start()
	r := l.add("c1", 0, l.self())
	rs := l.read(2, r)
	rs.goOn(t)
	rs.end(l, patience)
}

// noticedNothing ends readers that have to go on reading, none of them with an error, and
// by the connection that they had.
func (rs *readers) noticedNothing(l *lab, device uint64) {
	l.t.Helper()
	rs.goOn(l.t)
	rs.end(l, patience)
	if now := l.device(); now != device {
		l.t.Error("the view was mounted anew")
	}
}
