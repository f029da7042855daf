package daemon

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may let a sleep of candord's end. Go's runtime
// has a thread (sysmon) that looks every 20 us, for some milliseconds after each
// wake-up, whether others want the place of a thread that blocks in a system call:
// with the kernel's 50 us of slack that was a third of the worker's CPU time in a loop
// of reads, and two thirds when idle. What waits for an event is woken as before. With
// five times as much a storm of kills, every 6 ms, met requests again before they were
// answered, and some got EIO.
const timerSlack = time.Millisecond

// withTimerSlack runs start, which starts a process whose threads all have that
// slack: it is inherited by fork(2) and kept by execve(2) (PR_SET_TIMERSLACK(2const)).
// Where it cannot be set the process costs more, and is no other.
func withTimerSlack(start func() (*os.Process, error)) (*os.Process, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err == nil && unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) == nil {
		defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(own), 0, 0, 0) }()
	}
	return start()
}
