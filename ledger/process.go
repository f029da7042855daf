package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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
	st, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, StartTime: st.startTime}, nil
}

// Alive reports whether the process still runs. A zombie is not alive, it holds
// nothing, unless it is a main thread that ended before its other threads. Where
// there is no telling, for want of descriptors or memory, it is: nothing may be
// taken from it.
func (p Process) Alive() bool {
	alive, err := p.look()
	return alive || err != nil
}

// look is Alive, with an error where there is no telling.
func (p Process) look() (alive bool, err error) {
	if p.PID <= 0 {
		return false, nil
	}
	st, err := readStat(p.PID)
	if err != nil {
		if gone(err) {
			err = nil
		}
		return false, err
	}
	if st.startTime != p.StartTime {
		return false, nil
	}
	return st.state != 'Z' && st.state != 'X' || st.threads > 1, nil
}

// gone reports whether an error of [readStat] means that there is no such process.
// One that ends between the open and the read answers ESRCH.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
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
	alive, err := p.look()
	if err == nil && !alive {
		err = os.ErrProcessDone
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", p.PID)), nil
}

// stat is what is read of /proc/PID/stat.
type stat struct {
	state     byte
	threads   int
	startTime uint64
}

func readStat(pid int) (stat, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	b, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(b)
	if err != nil {
		return stat{}, fmt.Errorf("%s: %w", path, err)
	}
	return st, nil
}

// parseStat parses the text of /proc/PID/stat (proc_pid_stat(5)).
func parseStat(b []byte) (st stat, err error) {
	// The command in parentheses may hold spaces and parentheses itself.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errors.New("no command")
	}
	fields := strings.Fields(string(b[i+1:])) // from field 3, the state
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("%d fields", len(fields))
	}
	st.state = fields[0][0]
	if st.threads, err = strconv.Atoi(fields[17]); err != nil {
		return stat{}, fmt.Errorf("threads: %w", err)
	}
	if st.startTime, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return stat{}, fmt.Errorf("start time: %w", err)
	}
	return st, nil
}
