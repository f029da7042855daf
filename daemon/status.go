// Package daemon is candord: a supervisor that holds what must not die (the
// connection to the kernel and the memory in which requests lie), and a worker
// that does all the rest and may be killed at any moment.
//
// Its client side, [Ping] and [Ensure], is what hooks, shim and wrapper use.
package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Status is what candord says of itself.
type Status struct {
	Version string `json:"version"`
	// PID is the supervisor's. When SupervisorAlive is false it is dead, and
	// its worker serves on until the next supervisor takes over.
	PID             int  `json:"pid"`
	SupervisorAlive bool `json:"supervisor_alive"`
	WorkerPID       int  `json:"worker_pid"`
	// Generation is the worker's number since the mount was made.
	Generation uint64 `json:"generation"`
	// FuseMounted says whether the view is mounted and is the worker's own.
	FuseMounted bool `json:"fuse_mounted"`
	// ViewError is why the view is not served; empty where it is.
	ViewError string `json:"view_error,omitempty"`
	// Containers counts those whose files were looked at.
	Containers int `json:"containers"`
	// Requests counts the kernel's requests since the mount was made, and
	// Replayed those of them that a successor answered.
	Requests uint64    `json:"requests"`
	Replayed uint64    `json:"replayed"`
	Started  time.Time `json:"started"` // the worker
	// Activated is set where the socket that answered is systemd's.
	Activated bool `json:"-"`
}

// ErrNotRunning is returned when nobody listens on candord's socket.
var ErrNotRunning = errors.New("candord is not running")

// ErrNoView is returned, beside the status, for a candord that runs but serves
// no view.
var ErrNoView = errors.New("candord serves no resource view")

const (
	defaultPingTimeout = 2 * time.Second
	// pingTry is how long one connection is waited for: the worker that took
	// it may hang, and its successor takes the next.
	pingTry = 500 * time.Millisecond
	// maxStatus bounds the answer that a client takes.
	maxStatus = 64 << 10
)

func socketPath(stateDir string) string { return filepath.Join(stateDir, "candord.sock") }

// Ping asks the candord of a state directory for its status. Without an error
// the view is mounted and served.  Without a deadline in the context it waits for 2 s at
// most; a candord that is just being restarted is waited for.
//
// It is called in pid 1's mount namespace and starts no goroutine.
func Ping(ctx context.Context, stateDir string) (Status, error) {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(defaultPingTimeout); !ok || deadline.After(limit) {
		deadline = limit
	}
	for {
		try := time.Now().Add(pingTry)
		if try.After(deadline) {
			try = deadline
		}
		st, err := pingOnce(stateDir, try)
		if err == nil && st.ViewError != "" {
			return st, fmt.Errorf("%w: %s", ErrNoView, st.ViewError)
		}
		if err == nil && st.FuseMounted || errors.Is(err, ErrNotRunning) {
			return st, err
		}
		// The worker died with our connection, candord's queue is full, or it
		// is about to mount the view anew.
		if ctx.Err() != nil || time.Until(deadline) <= 0 {
			if err == nil {
				return st, fmt.Errorf("%w: it is not mounted", ErrNoView)
			}
			return Status{}, fmt.Errorf("candord of %s does not answer: %w", stateDir, err)
		}
		time.Sleep(min(5*time.Millisecond, max(time.Until(deadline), 0)))
	}
}

// pingOnce uses system calls instead of package net, whose goroutines would
// resolve the path in another mount namespace.
func pingOnce(stateDir string, deadline time.Time) (Status, error) {
	path := socketPath(stateDir)
	fd, err := connectTo(path)
	if err != nil {
		return Status{}, err
	}
	defer unix.Close(fd)
	line, err := readLine(fd, deadline)
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", path, err)
	}
	var st Status
	if err := json.Unmarshal(line, &st); err != nil {
		return Status{}, fmt.Errorf("%s: %w", path, err)
	}
	st.Activated = isSystemds(fd)
	return st, nil
}

// connectTo connects to a socket of candord's without waiting, and returns
// [ErrNotRunning] where nobody listens.
func connectTo(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = withShortPath(path, func(short string) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: short})
	})
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return -1, fmt.Errorf("%w (%s)", ErrNotRunning, path)
	}
	return -1, &os.PathError{Op: "connect", Path: path, Err: err}
}

// isSystemds reports whether the socket at the other end of a connection listens
// for systemd: the credentials are those of the process that called listen(2)
// (unix(7), SO_PEERCRED), whoever has it now.
func isSystemds(fd int) bool {
	listener, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && listener.Pid == 1
}

func readLine(fd int, deadline time.Time) ([]byte, error) {
	var line []byte
	buf := make([]byte, 4096)
	for len(line) < maxStatus {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(left.Milliseconds())+1); errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("poll: %w", err)
		}
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return nil, fmt.Errorf("read: %w", err)
		case n == 0:
			return nil, errors.New("closed without an answer")
		}
		line = append(line, buf[:n]...)
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			return line[:end], nil
		}
	}
	return nil, bufio.ErrTooLong
}

// withShortPath calls fn with a name for the path that fits into a socket's
// address, which holds 107 bytes.
func withShortPath(path string, fn func(short string) error) error {
	if len(path) < 100 {
		return fn(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return fn(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}
