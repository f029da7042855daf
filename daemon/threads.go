package daemon

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// use is what threads have had of the CPUs.
type use struct {
	// wanted is the time for which they ran or waited for a CPU. A wait is in
	// it only once it is over: those that still wait are runnable.
	wanted   time.Duration
	runnable bool
	// of is the one thread that was looked at, 0 for all.
	of int
}

// threadsOf looks at the given threads of a process, or at all where one of them
// is not (any more) its own.
func threadsOf(pid int, threads []int) use {
	var sum use
	for _, tid := range threads {
		u, err := threadUse(pid, tid)
		if err != nil {
			return allThreadsOf(pid)
		}
		sum.add(u)
		sum.of = tid
	}
	if len(threads) == 0 {
		return allThreadsOf(pid)
	}
	return sum
}

func allThreadsOf(pid int) (sum use) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return sum
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // of a process that ends: nothing
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if u, err := threadUse(pid, tid); err == nil {
			sum.add(u)
		}
	}
	return sum
}

func (u *use) add(other use) {
	u.wanted += other.wanted
	u.runnable = u.runnable || other.runnable
}

// threadUse reads proc_pid_stat(5) and proc_pid_schedstat(5). A kernel without
// the latter still says who is runnable.
func threadUse(pid, tid int) (u use, err error) {
	dir := fmt.Sprintf("/proc/%d/task/%d", pid, tid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return use{}, err
	}
	// The name, in parentheses, may contain anything.
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 && i+2 < len(stat) {
		u.runnable = stat[i+2] == 'R'
	}
	var ran, waited int64
	if text, err := os.ReadFile(dir + "/schedstat"); err == nil {
		_, _ = fmt.Sscan(string(text), &ran, &waited)
	}
	u.wanted = time.Duration(ran + waited)
	return u, nil
}
