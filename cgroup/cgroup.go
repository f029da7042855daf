// Package cgroup reads what the kernel accounts to one container: its limits,
// its usage and its tasks, from cgroup v1, v2 and hybrid hosts alike.
//
// A [Reader] keeps the files of a container's group, and of the groups above
// it, open and reads them by pread: a limit that an outer group sets binds the
// container as much as its own. The package only reads; nothing in it makes,
// moves or limits a group.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The controllers whose files this package reads, as cgroup v1 names them.
const (
	controllerMemory  = "memory"
	controllerCPU     = "cpu"
	controllerCPUAcct = "cpuacct"
	controllerCPUSet  = "cpuset"
	controllerBlkio   = "blkio"
	controllerHugetlb = "hugetlb"
	controllerPids    = "pids"
)

// Unified is the key of the unified (v2) hierarchy in the map of [Of].
const Unified = ""

var (
	// ErrGone says that the container's group was removed.
	ErrGone = errors.New("cgroup is gone")
	// ErrNoController says that no mounted hierarchy accounts what was asked
	// for, such as memory on a host booted with cgroup_disable=memory.
	ErrNoController = errors.New("no cgroup controller")
	// ErrClosed says that the reader was closed.
	ErrClosed = errors.New("cgroup reader is closed")
)

// Of gives the path of the process's group in every hierarchy, by controller:
// "memory", "cpu", ..., "name=systemd" for named hierarchies, [Unified] for
// cgroup v2. Controllers that share a hierarchy have an entry each.
func Of(pid int) (map[string]string, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/cgroup"
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the cgroups of process %d: %w", pid, err)
	}
	paths, err := ParseProc(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return paths, nil
}

// ParseProc parses the text of a /proc/PID/cgroup file (cgroups(7)).
func ParseProc(text []byte) (map[string]string, error) {
	paths := map[string]string{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		// The path is last, because it alone may contain colons.
		parts := strings.SplitN(string(line), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			return nil, fmt.Errorf("%q is not of the form ID:CONTROLLERS:PATH", line)
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			paths[controller] = parts[2]
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("no hierarchy in it")
	}
	return paths, nil
}
