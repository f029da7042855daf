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

	"golang.org/x/sys/unix"
)

// What systemd does with candord.socket: it listens, and starts candord at the
// first connection with the socket as descriptor 3.
func TestSocketOfSystemd(t *testing.T) {
	l := newLab(t)
	socket, err := listen(l.dir)
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
	script := fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x exec -a candord /proc/%d/exe "$@"`, os.Getpid())
	d := exec.Command("bash", "-c", script, "bash", "--state-dir", l.dir)
	d.Stderr = l.command().Stderr
	d.ExtraFiles = []*os.File{socket}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	l.daemons = append(l.daemons, d)
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
