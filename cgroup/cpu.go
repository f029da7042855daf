package cgroup

import (
	"errors"
	"fmt"
)

// CPUTime is CPU time used, in nanoseconds.
type CPUTime struct {
	// User includes Nice, as the kernel counts it.
	User, Nice, System uint64
}

// CPU is a container's CPU quota and use.
type CPU struct {
	// Quota and Period are those of the tightest quota of the container's
	// group and the groups above it, in microseconds; Quota is 0 where none
	// is set.
	Quota, Period uint64
	// ThrottledPeriods counts the periods in which that quota was used up.
	ThrottledPeriods uint64
	// Throttled is the time that the container's runnable tasks, counted each
	// on its own, were kept from running by a quota, in nanoseconds; 0 where
	// the quota is an outer group's and the kernel has no cpu.stat.local.
	Throttled uint64
	// Total is the container's use since its group was made.
	Total CPUTime
	// PerCPU is the use of every CPU, by id; nil where the kernel does not
	// account it (v2).
	PerCPU []CPUUse
}

// CPUUse is a container's use of one CPU, in nanoseconds.
type CPUUse struct {
	// Used is exact.
	Used uint64
	// User and System are what the kernel saw at its ticks, and tell in what
	// proportion Used is to be divided. On a busy CPU they alone are off by a
	// fifth (measured: 2.00 s of 1.67): whoever runs from one tick to before
	// the next is never seen.
	User, System uint64
}

// Count is the number of CPUs that the quota amounts to, rounded up; 0 where
// there is no quota.
func (c *CPU) Count() int {
	if c.Quota == 0 || c.Period == 0 {
		return 0
	}
	n := c.Quota / c.Period
	if c.Quota%c.Period != 0 {
		n++
	}
	return int(min(max(n, 1), 1<<16))
}

// The cpu controller's files.
const (
	cpuQuotaFile  = iota // v1 cpu.cfs_quota_us, v2 cpu.max
	cpuPeriodFile        // v1 only
	cpuStatFile
	cpuLocalFile
	cpuFiles
)

// The cpuacct controller's files.
const (
	acctStatFile = iota // v2: cpu.stat
	acctAllFile         // v1 only, as the next
	acctPerCPUFile
	acctFiles
)

// nanosPerTick is the unit of cpuacct.stat, and of every time in /proc/stat: 100 a
// second by the kernel's ABI on every architecture that Go runs on.
const nanosPerTick = 1e9 / 100

// Quota reads the CPU quota into c and leaves the rest of c alone.
func (r *Reader) Quota(c *CPU) error {
	s := r.borrow()
	defer r.giveBack(s)
	_, err := r.quota(c, s)
	return err
}

// CPU reads the container's CPU quota and use into c, whose PerCPU it uses
// again.
func (r *Reader) CPU(c *CPU) error {
	s := r.borrow()
	defer r.giveBack(s)
	level, err := r.quota(c, s)
	if err != nil {
		return err
	}
	c.Throttled, c.ThrottledPeriods = 0, 0
	if level >= 0 {
		if err := r.throttled(c, level, s); err != nil {
			return err
		}
	}
	return r.cpuTimes(c, s)
}

// quota finds the tightest quota and the index of its group, -1 for none.
func (r *Reader) quota(c *CPU, s *scratch) (level int, err error) {
	c.Quota, c.Period = 0, 0
	level = -1
	for g := range r.cpu.groups {
		quota, period, err := r.groupQuota(g, s)
		if err != nil {
			return -1, err
		}
		// quota/period < c.Quota/c.Period; the kernel bounds both well below
		// 2^32 milliseconds, scale saturates if it ever does not.
		if quota != NoLimit && period != 0 && (level < 0 || scale(quota, c.Period) < scale(c.Quota, period)) {
			c.Quota, c.Period, level = quota, period, g
		}
	}
	return level, nil
}

func (r *Reader) groupQuota(g int, s *scratch) (quota, period uint64, err error) {
	c := &r.cpu
	if c.version == 2 {
		text, err := r.read(c, g, cpuQuotaFile, "cpu.max", s)
		if errors.Is(err, errAbsent) {
			return NoLimit, 0, nil
		} else if err != nil {
			return 0, 0, err
		}
		first, rest := nextField(text)
		second, _ := nextField(rest)
		period, _ = LeadingNumber(second)
		return limit(first), period, nil
	}
	text, err := r.read(c, g, cpuQuotaFile, "cpu.cfs_quota_us", s)
	if errors.Is(err, errAbsent) { // kernel without CFS bandwidth control
		return NoLimit, 0, nil
	} else if err != nil {
		return 0, 0, err
	}
	if quota = limit(text); quota == NoLimit {
		return NoLimit, 0, nil
	}
	text, err = r.read(c, g, cpuPeriodFile, "cpu.cfs_period_us", s)
	if err != nil {
		return 0, 0, fmt.Errorf("a quota without a period: %w", err)
	}
	period, _ = LeadingNumber(text)
	return quota, period, nil
}

// throttled reads the throttling by the quota of the given group.
func (r *Reader) throttled(c *CPU, level int, s *scratch) error {
	text, err := r.read(&r.cpu, level, cpuStatFile, "cpu.stat", s)
	if errors.Is(err, errAbsent) {
		return nil
	} else if err != nil {
		return err
	}
	var inGroup uint64
	eachPair(text, func(key []byte, v uint64) {
		switch string(key) {
		case "nr_throttled":
			c.ThrottledPeriods = v
		case "throttled_time":
			inGroup = v
		case "throttled_usec":
			inGroup = scale(v, 1000)
		}
	})
	// cpu.stat counts every task below the group that has the quota, so with
	// an outer group's quota the siblings' too. cpu.stat.local, of newer
	// kernels, counts the container's own, whichever group's quota stopped them.
	text, err = r.read(&r.cpu, 0, cpuLocalFile, "cpu.stat.local", s)
	switch {
	case errors.Is(err, errAbsent):
		if level == 0 {
			c.Throttled = inGroup
		}
		return nil
	case err != nil:
		return err
	}
	eachPair(text, func(key []byte, v uint64) {
		switch string(key) {
		case "throttled_time":
			c.Throttled = v
		case "throttled_usec":
			c.Throttled = scale(v, 1000)
		}
	})
	return nil
}

// cpuTimes reads the use.
func (r *Reader) cpuTimes(c *CPU, s *scratch) error {
	perCPU := c.PerCPU[:0]
	c.Total, c.PerCPU = CPUTime{}, nil
	acct := &r.cpuacct
	if acct.version == 0 {
		return acct.err
	}
	if acct.version == 2 {
		text, err := r.readNearest(acct, acctStatFile, "cpu.stat", s)
		if err != nil {
			return err
		}
		eachPair(text, func(key []byte, v uint64) {
			switch string(key) {
			case "user_usec":
				c.Total.User = scale(v, 1000)
			case "system_usec":
				c.Total.System = scale(v, 1000)
			case "nice_usec":
				c.Total.Nice = scale(v, 1000)
			}
		})
		return nil
	}
	text, err := r.read(acct, 0, acctStatFile, "cpuacct.stat", s)
	if err != nil {
		return err
	}
	eachPair(text, func(key []byte, v uint64) {
		switch string(key) {
		case "user":
			c.Total.User = scale(v, nanosPerTick)
		case "system":
			c.Total.System = scale(v, nanosPerTick)
		}
	})
	text, err = r.read(acct, 0, acctAllFile, "cpuacct.usage_all", s)
	if errors.Is(err, errAbsent) { // before Linux 4.8
		return nil
	} else if err != nil {
		return err
	}
	c.PerCPU = parseUsageAll(perCPU, text)
	text, err = r.read(acct, 0, acctPerCPUFile, "cpuacct.usage_percpu", s)
	if errors.Is(err, errAbsent) {
		return nil
	} else if err != nil {
		return err
	}
	parseUsagePerCPU(c.PerCPU, text)
	return nil
}

// maxCPUs bounds CPU ids; the kernel's own bound is 8192.
const maxCPUs = 8192

// parseUsageAll parses cpuacct.usage_all: a header, then "CPU USER SYSTEM" in
// nanoseconds for every possible CPU.
func parseUsageAll(dst []CPUUse, text []byte) []CPUUse {
	for len(text) > 0 {
		field, rest := nextField(text)
		id, n := LeadingNumber(field)
		if n > 0 && id < maxCPUs {
			field, rest = nextField(rest)
			user, _ := LeadingNumber(field)
			field, rest = nextField(rest)
			system, _ := LeadingNumber(field)
			for len(dst) <= int(id) {
				dst = append(dst, CPUUse{})
			}
			dst[id] = CPUUse{Used: add(user, system), User: user, System: system}
		}
		text = nextLine(rest)
	}
	return dst
}

// parseUsagePerCPU takes cpuacct.usage_percpu, one number for every possible
// CPU, into dst.
func parseUsagePerCPU(dst []CPUUse, text []byte) {
	for i := range dst {
		var field []byte
		field, text = nextField(text)
		v, n := LeadingNumber(field)
		if n == 0 {
			return
		}
		dst[i].Used = v
	}
}
