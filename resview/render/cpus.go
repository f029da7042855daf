package render

import (
	"errors"
	"time"

	"candor.dev/candor/cgroup"
)

func parseOnline(text []byte) ([]int, error) {
	ids, err := cgroup.ParseList(nil, text)
	if err == nil && len(ids) == 0 {
		err = errors.New("no CPU is online")
	}
	return ids, err
}

// cpus works out the CPUs that the container may run on, into s.allowed, and
// those that all its files show, into s.shown. s.cpu has the quota.
func (c *Container) cpus(s *scratch, now time.Time) error {
	online, err := c.host.online.get(now)
	if err != nil {
		return err
	}
	if s.allowed, err = c.group().Cpuset(s.allowed[:0]); err != nil {
		return err
	}
	s.allowed = allowedCPUs(s.allowed, online)
	s.shown = append(s.shown[:0], shownCPUs(s.allowed, s.cpu.Count())...)
	return nil
}

// allowedCPUs narrows a cpuset, in place, to the CPUs that are online; an empty
// cpuset allows all. Both ascend.
func allowedCPUs(cpuset, online []int) []int {
	if len(cpuset) == 0 {
		return append(cpuset, online...)
	}
	kept := 0
	for i, j := 0, 0; i < len(cpuset) && j < len(online); {
		switch {
		case cpuset[i] < online[j]:
			i++
		case cpuset[i] > online[j]:
			j++
		default:
			cpuset[kept] = cpuset[i]
			kept, i, j = kept+1, i+1, j+1
		}
	}
	if kept == 0 { // the two were not read in one moment
		return cpuset
	}
	return cpuset[:kept]
}

// shownCPUs is the first part of the allowed CPUs that a quota of count CPUs
// pays for. The ids are the real ones, so that they equal the affinity mask
// that sched_getaffinity(2) gives, and each can be put into one: lxcfs numbers
// anew, and its files then name CPUs that the container may not run on.
func shownCPUs(allowed []int, count int) []int {
	if count > 0 && count < len(allowed) {
		return allowed[:count]
	}
	return allowed
}

// appendCPUOnline renders /sys/devices/system/cpu/online.
func appendCPUOnline(dst []byte, ids []int) []byte {
	return append(cgroup.AppendList(dst, ids), '\n')
}
