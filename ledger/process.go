package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process names a process so that a reused pid is not taken for it. The zero
// value is no process, and never alive.
type Process struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks after boot
	// (proc_pid_stat(5)).
	StartTime uint64 `json:"start_time"`
}

// FindProcess returns the process that has the pid now.
func FindProcess(pid int) (Process, error) {
	start, _, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: start}, nil
}

// Alive reports whether the process still runs. A zombie is not alive: it
// holds nothing.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	start, state, err := readStat(p.PID)
	return err == nil && start == p.StartTime && state != 'Z' && state != 'X'
}

// OpenPidfd returns a pidfd of the process, which the caller closes. It returns
// [os.ErrProcessDone] when the process is gone or its pid is another's now.
func (p Process) OpenPidfd() (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", p.PID, err)
	}
	// Only after the pidfd is open can the start time be trusted to be that
	// of the process behind it.
	if !p.Alive() {
		unix.Close(fd)
		return nil, os.ErrProcessDone
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", p.PID)), nil
}

func readStat(pid int) (startTime uint64, state byte, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The command in parentheses may hold spaces and parentheses itself.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: no command", pid)
	}
	fields := strings.Fields(string(b[i+1:]))
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	startTime, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/stat: start time: %w", pid, err)
	}
	return startTime, fields[0][0], nil
}
