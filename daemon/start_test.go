package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

// What systemd does with candord.socket: it listens, and starts candord at the
// first connection with the socket as descriptor 3.
func TestSocketOfSystemd(t *testing.T) {
	l := newLab(t)
	socket, err := listen(socketPath(l.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	answer := make(chan error, 1)
	go func() {
		_, err := Ping(t.Context(), l.dir)
		answer <- err
	}()
	time.Sleep(20 * time.Millisecond)
	d := l.activate(socket)
	if err := <-answer; err != nil {
		t.Errorf("the connection that started candord: %v", err)
	}
	l.await(d.Process.Pid)
	// Ensure only connects.
	if err := Ensure(t.Context(), Options{BinDir: t.TempDir(), StateDir: l.dir}); err != nil {
		t.Error(err)
	}
	if err := d.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socketPath(l.dir)); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
}

// activate starts candord with a socket of systemd's.
func (l *lab) activate(socket *os.File) *exec.Cmd {
	l.t.Helper()
	script := fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x exec -a candord /proc/%d/exe "$@"`, os.Getpid())
	d := exec.Command("bash", "-c", script, "bash", "--state-dir", l.dir)
	d.Stderr = l.command().Stderr
	d.ExtraFiles = []*os.File{socket}
	if err := d.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.daemons = append(l.daemons, d)
	return d
}

// A node on which containers ran before its units were enabled: an engine has
// started candord, and systemd now listens in its place.
func TestSystemdTakesOverFromAnEngines(t *testing.T) {
	for name, containers := range map[string]bool{"with containers": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			engines := l.command()
			engines.Args = append(engines.Args, "--own-cgroup")
			if err := engines.Start(); err != nil {
				t.Fatal(err)
			}
			l.daemons = append(l.daemons, engines)
			l.await(engines.Process.Pid)
			if containers {
				rs := l.read(4, l.add("c1", 0, l.self()))
				defer rs.end(l, patience)
			}
			socket, err := listen(socketPath(l.dir))
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			d := l.activate(socket)
			l.await(d.Process.Pid)
			if err := engines.Wait(); err != nil {
				t.Errorf("the engine's candord ended with %v", err)
			}
			if left := groupsOf(l.dir); len(left) > 0 {
				t.Errorf("cgroups are left: %v", left)
			}
			if err := d.Process.Signal(unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if err := d.Wait(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(socketPath(l.dir)); err != nil {
				t.Errorf("systemd's socket: %v", err)
			}
		})
	}
}

// When the machine goes down, systemd tells every process to end that is left.
func TestTermEndsAWorkerWithoutSupervisorOnly(t *testing.T) {
	l := newLab(t)
	l.add("c1", 0, l.self())
	d := l.start()
	before := l.status()
	l.signalWorker(unix.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	if now := l.status(); now.WorkerPID != before.WorkerPID {
		t.Errorf("worker %d, want %d to serve on", now.WorkerPID, before.WorkerPID)
	}
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	l.signalWorker(unix.SIGTERM)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if p, err := ledger.FindProcess(before.WorkerPID); err != nil || !p.Alive() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("worker %d does not end", before.WorkerPID)
		}
	}
}

// An upgrade puts another file at candord's path. The next worker is started
// from it, and from the old one when it does not come up.
func TestExecutableThatWasReplacedByABrokenOne(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	path := filepath.Join(t.TempDir(), "candord")
	copyFile(t, "/proc/self/exe", path)
	d := l.command()
	d.Path = path
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	l.daemons = append(l.daemons, d)
	before := l.await(d.Process.Pid)
	broken := path + ".new"
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(broken, path); err != nil {
		t.Fatal(err)
	}
	rs := l.read(2, r)
	l.signalWorker(unix.SIGKILL)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if st, err := Ping(t.Context(), l.dir); err == nil && st.WorkerPID != before.WorkerPID {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no worker is started")
		}
	}
	rs.end(l, patience)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}
