//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// moment is when a program is killed at a call.
type moment int

const (
	never   moment = iota
	atEntry        // before the kernel does anything
	atExit         // when it has done all of it, and the program knows nothing yet
)

func (m moment) String() string { return [...]string{"never", "entry", "exit"}[m] }

// call is a system call that changes something.
type call struct {
	// number among the changing calls of its run, from 1.
	number int
	// what is the call with its object, names and numbers that differ from run
	// to run taken out: "renameat STATE/ledger/.tmp-N STATE/ledger/KEY.json".
	what string
}

func (c call) String() string { return fmt.Sprintf("%d: %s", c.number, c.what) }

// program is a program to run, with its standard input.
type program struct {
	args  []string
	stdin string
}

// run is what a traced program did.
type run struct {
	calls []call
	// killed is the call at which it was killed, nil where it ended by itself.
	killed *call
	moment moment
	status unix.WaitStatus
	stderr string
	// strange are system calls that the tables do not know. Only a full trace
	// sees them.
	strange []string
}

// where says where the program was killed.
func (r *run) where() string {
	if r.killed == nil {
		return "that nobody killed"
	}
	return fmt.Sprintf("killed at %s of call %s", r.moment, r.killed)
}

// tracer traces one program by ptrace(2). The kernel knows a tracer by its
// thread: everything happens on one.
type tracer struct {
	run
	pid   int
	pidfd int
	// full stops at all system calls, else a seccomp filter picks those that may
	// change something: a hook reads some hundred files, each costs three calls.
	full  bool
	plain func(string) string
	cut   func(call) moment
	// leaving are the threads in a call at whose exit the program is killed.
	leaving map[int]call
	seen    map[int]bool
}

// trace runs the program and asks cut at each changing call whether, and when, to
// kill it there. plain takes out of a call's object what differs from run to run.
func trace(p program, full bool, plain func(string) string, cut func(call) moment) (run, error) {
	t := &tracer{full: full, plain: plain, cut: cut, leaving: map[int]call{}, seen: map[int]bool{}}
	done := make(chan error)
	go func() {
		// Never unlocked. Other threads start and await children too: by
		// WNOTHREAD this one sees its own only.
		runtime.LockOSThread()
		defer close(done) // cut may end the test
		done <- t.trace(p)
	}()
	if err := <-done; err != nil {
		return t.run, fmt.Errorf("trace %s: %w", p.args[0], err)
	}
	return t.run, nil
}

func (t *tracer) trace(p program) error {
	stderr, err := t.start(p)
	if err != nil {
		return err
	}
	defer stderr.Close()
	defer unix.Close(t.pidfd)
	if err := t.prepare(); err != nil {
		return errors.Join(err, unix.Kill(t.pid, unix.SIGKILL))
	}
	for {
		var status unix.WaitStatus
		thread, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case status.Stopped():
			if err := t.stopped(thread, status); err != nil {
				return errors.Join(err, unix.Kill(t.pid, unix.SIGKILL))
			}
		case thread == t.pid: // the last of its threads to be reported
			t.status = status
			said, err := io.ReadAll(stderr)
			t.stderr = strings.TrimSpace(string(said))
			return err
		}
	}
}

// start starts the program; it stops before its first instruction.
func (t *tracer) start(p program) (stderr *os.File, err error) {
	in, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	stderr, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, input.Close())
	}
	defer out.Close()
	// Less than a pipe's 64 KiB: it is in before anybody reads.
	if _, err := input.WriteString(p.stdin); err != nil {
		return nil, errors.Join(err, input.Close(), stderr.Close())
	}
	if err := input.Close(); err != nil {
		return nil, err
	}
	process, err := os.StartProcess(p.args[0], p.args, &os.ProcAttr{
		Files: []*os.File{in, out, out},
		Sys:   &unix.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return nil, errors.Join(err, stderr.Close())
	}
	t.pid = process.Pid
	if err := process.Release(); err != nil {
		return nil, err
	}
	if t.pidfd, err = unix.PidfdOpen(t.pid, 0); err != nil {
		return nil, err
	}
	return stderr, nil
}

func (t *tracer) prepare() error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for its start: %w", err)
	}
	if !status.Stopped() {
		return fmt.Errorf("it did not start: %v", status)
	}
	t.seen[t.pid] = true
	options := unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE |
		unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC
	if !t.full {
		options |= unix.PTRACE_O_TRACESECCOMP
	}
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return fmt.Errorf("set ptrace options: %w", err)
	}
	if !t.full {
		if err := installFilter(t.pid); err != nil {
			return fmt.Errorf("install filter: %w", err)
		}
	}
	return t.resume(t.pid, 0)
}

func (t *tracer) resume(thread, signal int) error {
	_, leaving := t.leaving[thread]
	var err error
	if t.full || leaving {
		err = unix.PtraceSyscall(thread, signal)
	} else {
		err = unix.PtraceCont(thread, signal)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // killed meanwhile
	}
	return err
}

// kill kills the program. The threads that are stopped never go on.
func (t *tracer) kill(c call, m moment) error {
	t.killed, t.moment = &c, m
	return unix.Kill(t.pid, unix.SIGKILL)
}

func (t *tracer) stopped(thread int, status unix.WaitStatus) error {
	if t.killed != nil {
		return nil
	}
	signal := int(status.StopSignal())
	switch {
	case signal == int(unix.SIGTRAP)|0x80:
		return t.atSyscall(thread)
	case signal == int(unix.SIGTRAP) && status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
		return t.atSyscall(thread)
	case signal == int(unix.SIGTRAP) && status.TrapCause() > 0:
		signal = 0
	case signal == int(unix.SIGSTOP) && !t.seen[thread]:
		signal = 0 // how a new thread begins
	}
	t.seen[thread] = true
	return t.resume(thread, signal)
}

// syscallInfo is struct ptrace_syscall_info (ptrace(2)).
type syscallInfo struct {
	op   uint8
	_    [3]byte
	arch uint32
	_    [2]uint64 // instruction and stack pointer
	data [8]uint64 // number and arguments; at exit the result
}

func (t *tracer) atSyscall(thread int) error {
	var info syscallInfo
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(thread),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); errno == unix.ESRCH {
		return nil // another thread ends the program, and this one with it
	} else if errno != 0 {
		return fmt.Errorf("ask for the system call: %w", errno)
	}
	if info.op == unix.PTRACE_SYSCALL_INFO_EXIT {
		if c, leaving := t.leaving[thread]; leaving {
			return t.kill(c, atExit)
		}
		return t.resume(thread, 0)
	}
	what, changes, err := t.classify(info.data[0], [6]uint64(info.data[1:7]))
	if errors.Is(err, unix.ESRCH) {
		return nil // the same, a moment later
	}
	if err != nil {
		return err
	}
	if !changes {
		return t.resume(thread, 0)
	}
	c := call{number: len(t.calls) + 1, what: t.plain(what)}
	t.calls = append(t.calls, c)
	switch t.cut(c) {
	case atEntry:
		return t.kill(c, atEntry)
	case atExit:
		t.leaving[thread] = c
	}
	return t.resume(thread, 0)
}
