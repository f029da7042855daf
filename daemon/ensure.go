package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// Options say which candord [Ensure] is about.
type Options struct {
	// BinDir is the folder of the candord to start.
	BinDir string
	// ConfigPath is the policy's path; empty means candord's default.
	ConfigPath string
	// StateDir is the state directory.
	StateDir string
	// Timeout is how long candord may take until it answers; 0 means 3 s.
	Timeout time.Duration
}

const (
	defaultEnsureTimeout = 3 * time.Second
	// maxDaemonLog bounds candord.log, which gets what candord writes to its
	// standard error: little, as it has a journal.
	maxDaemonLog = 1 << 20
)

// Ensure returns when candord answers. Where nobody listens on its socket it
// starts one, once, however many call at a time. Under systemd somebody always
// listens (candord.socket), and nothing is started here.
//
// The new candord has its own session, cgroup, environment and none of the
// caller's descriptors; it is not waited for, so that the caller's own way to
// reap children (containerd's shim) is not disturbed.
func Ensure(ctx context.Context, o Options) error {
	if o.Timeout <= 0 {
		o.Timeout = defaultEnsureTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := statedir.InHostMounts(func() error { return ensure(ctx, o) }); err != nil {
		return fmt.Errorf("resource view: %w", err)
	}
	return nil
}

func ensure(ctx context.Context, o Options) error {
	if ready, err := running(ctx, o.StateDir); ready || err != nil {
		return err
	}
	if err := statedir.Prepare(o.StateDir); err != nil {
		return err
	}
	// One process at a time starts candord.
	release, err := lockFile(ctx, filepath.Join(o.StateDir, "candord.start.lock"))
	if err != nil {
		return fmt.Errorf("another starts candord: %w", err)
	}
	defer release()
	// Another may have started it while we waited.
	if ready, err := running(ctx, o.StateDir); ready || err != nil {
		return err
	}
	child, err := startDaemon(o)
	if err != nil {
		return err
	}
	return waitFor(ctx, o.StateDir, child)
}

// running reports whether a candord with a supervisor answers, or one that systemd
// has to do with: where its service was stopped a worker may be left, and another
// candord beside systemd's own would take the socket's path away from it. One that
// somebody listens for but that does not answer is an error: starting another would
// not help.
func running(ctx context.Context, stateDir string) (bool, error) {
	st, err := Ping(ctx, stateDir)
	if errors.Is(err, ErrNotRunning) {
		return false, nil
	}
	// Without a view it still gives back what dead containers hold; whether
	// the container may run without one is decided elsewhere.
	if err != nil && !errors.Is(err, ErrNoView) {
		return false, err
	}
	return st.SupervisorAlive || st.Activated, nil
}

func waitFor(ctx context.Context, stateDir string, child ledger.Process) error {
	for {
		// The socket may be that of an orphaned worker still.
		ready, err := running(ctx, stateDir)
		if ready {
			return nil
		}
		if !child.Alive() {
			return fmt.Errorf("candord ended at once: %s", lastLine(logPath(stateDir)))
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("candord (pid %d) does not answer", child.PID), err, ctx.Err())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lockFile takes the lock of a file, and waits for it for as long as the context
// allows.
func lockFile(ctx context.Context, path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func logPath(stateDir string) string { return filepath.Join(stateDir, "candord.log") }

// startDaemon starts candord from this thread, so that it begins in the mount
// namespace that the thread is in.
func startDaemon(o Options) (ledger.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return ledger.Process{}, err
	}
	defer null.Close()
	log, err := openDaemonLog(logPath(o.StateDir))
	if err != nil {
		return ledger.Process{}, err
	}
	defer log.Close()
	args := []string{"candord", "--own-cgroup", "--state-dir", o.StateDir}
	if o.ConfigPath != "" {
		args = append(args, "--config", o.ConfigPath)
	}
	path := filepath.Join(o.BinDir, "candord")
	p, err := withTimerSlack(func() (*os.Process, error) {
		return os.StartProcess(path, args, &os.ProcAttr{
			Dir:   "/",
			Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			Files: []*os.File{null, log, log},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	})
	if err != nil {
		return ledger.Process{}, fmt.Errorf("start candord: %w", err)
	}
	defer func() { _ = p.Release() }()
	child, err := ledger.FindProcess(p.Pid)
	if err != nil {
		return ledger.Process{}, fmt.Errorf("candord ended at once: %s", lastLine(logPath(o.StateDir)))
	}
	return child, nil
}

func openDaemonLog(path string) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND | unix.O_NOFOLLOW
	if st, err := os.Lstat(path); err == nil && st.Size() > maxDaemonLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
