package daemon

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

// worker is a worker process, our child or that of a dead supervisor.
type worker struct {
	process    ledger.Process
	generation uint64
	started    time.Time
	kill       func() error
	// done is closed when no thread of it is left: only then is all that it
	// had copied from the kernel in its slots.
	done chan struct{}
	// how it ended, once done is closed; nil for a foreign one.
	end *os.ProcessState
}

// dead reports whether the worker is gone, and waits for that for some time.
func (w *worker) dead(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.done:
		return true
	case <-timer.C:
		return false
	}
}

// ending says in some words how the worker ended.
func (w *worker) ending() string {
	if w.end == nil {
		return "gone"
	}
	return w.end.String()
}

func (w *worker) exitCode() int {
	if w.end == nil {
		return -1
	}
	return w.end.ExitCode()
}

// foreignWorker watches a worker that is not our child. The pidfd is never
// closed: there are few, and another file must not get the number of one that is
// still used.
func foreignWorker(p ledger.Process, pidfd *os.File, generation uint64) *worker {
	w := &worker{process: p, generation: generation, started: time.Now(), done: make(chan struct{})}
	w.kill = func() error {
		err := unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	go func() {
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		for {
			// A pidfd is readable when the whole thread group is gone.
			if n, err := unix.Poll(fds, -1); err == nil && n > 0 {
				break
			}
		}
		close(w.done)
	}()
	return w
}

// startWorker starts the next worker as a child. Where it is given its end of a
// reload's orders it is of the file at our path and no other, and waits for them.
func (s *Supervisor) startWorker(generation uint64, orders *os.File) (*worker, error) {
	args := append([]string{"candord", "worker"}, s.arguments()...)
	args = append(args, "--generation", strconv.FormatUint(generation, 10), "--supervisor", strconv.Itoa(os.Getpid()),
		"--device", strconv.FormatUint(s.conn.device, 10))
	if s.conn.fuse == nil {
		args = append(args, "--view-error", s.viewErr.Error())
	}
	alive, err := workerLock(s.config.StateDir)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	defer alive.Close()
	start, files := s.start, []*os.File{s.conn.fuse, s.conn.memory, s.socket, alive}
	if orders != nil {
		start, args, files = s.startInstalled, append(args, "--standby"), append(files, orders)
	}
	p, err := start(args, files)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	w := &worker{generation: generation, started: time.Now(), kill: p.Kill, done: make(chan struct{})}
	if w.process, err = ledger.FindProcess(p.Pid); err != nil {
		w.process = ledger.Process{PID: p.Pid}
	}
	go func() {
		w.end, _ = p.Wait()
		close(w.done)
	}()
	return w, nil
}

// start starts candord itself with other arguments, and with the given files
// from descriptor 3 on. The file at our path is replaced by an upgrade, and then it
// is the one to start; should it not come up, the one that we run is there as well.
func (s *Supervisor) start(args []string, files []*os.File) (*os.Process, error) {
	if s.failures < trustFailures {
		if p, err := s.startInstalled(args, files); err == nil {
			return p, nil
		}
	}
	return startFile("/proc/self/exe", args, files)
}

func (s *Supervisor) startInstalled(args []string, files []*os.File) (*os.Process, error) {
	return startFile(s.config.Executable, args, files)
}

func startFile(path string, args []string, files []*os.File) (*os.Process, error) {
	attr := &os.ProcAttr{Dir: "/", Env: os.Environ(), Files: append([]*os.File{nil, os.Stdout, os.Stderr}, files...)}
	return withTimerSlack(func() (*os.Process, error) { return os.StartProcess(path, args, attr) })
}

func (s *Supervisor) arguments() []string {
	args := []string{"--state-dir", s.config.StateDir}
	if s.config.ConfigPath != "" {
		args = append(args, "--config", s.config.ConfigPath)
	}
	return args
}
