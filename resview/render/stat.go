package render

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"candor.dev/candor/cgroup"
)

// The times that a container's "cpu" lines have; the others are 0.
const (
	columnUser = iota
	columnNice
	columnSystem
	columnIdle
	columnSteal
	columns
)

// slack is how far a time may fall behind what was shown before and still be
// taken for jitter of the readings, in nanoseconds.
const slack = int64(time.Second)

// nanosPerTick is the unit of /proc/stat: USER_HZ is 100 by the kernel's ABI.
const nanosPerTick = int64(time.Second / 100)

// statReadings are the readings that /proc/stat is made of.
type statReadings struct {
	cpu            *cgroup.CPU
	allowed, shown []int
	age            time.Duration // how long the container, or the host, is up
	boot           int64         // when that began, in seconds since 1970
	tasks          tasks
}

// statState is what was shown last. The times are functions of the readings alone
// as long as quota and cpuset stay as they are, but for the jitter of the readings:
// what a restarted worker has of it is kept in [counters].
type statState struct {
	shown         []int
	quota, period uint64
	cpus          map[int]*cpuState
	words         []uint64 // of save
}

type cpuState struct {
	base [columns]int64 // what is added to the readings
	last [columns]int64 // what was shown
	// user and system are how the CPU's own use was divided last.
	user, system uint64
}

// statReadings takes the readings but for the tasks.
func (c *Container) statReadings(s *scratch, now time.Time) (r statReadings, err error) {
	if err := c.group().CPU(&s.cpu); err != nil {
		return r, err
	}
	if err := c.cpus(s, now); err != nil {
		return r, err
	}
	uptime, boot, err := c.host.clocks(now)
	if err != nil {
		return r, err
	}
	r = statReadings{cpu: &s.cpu, allowed: s.allowed, shown: s.shown}
	r.age, r.boot = containerAge(uptime, boot, c.view.BoottimeOffset)
	return r, nil
}

func (c *Container) gatherStat(dst []byte, s *scratch, now time.Time) ([]byte, error) {
	r, err := c.statReadings(s, now)
	if err != nil {
		return dst, err
	}
	if r.tasks, err = c.tasks(now); err != nil {
		return dst, err
	}
	dst = appendStat(dst, &r, &c.stat)
	c.host.note(c.counters.put(counterStat, c.stat.save()...))
	return dst, nil
}

// save gives the state as words.
func (st *statState) save() []uint64 {
	w := append(st.words[:0], st.quota, st.period, uint64(len(st.shown)))
	for _, id := range st.shown {
		w = append(w, uint64(id))
	}
	for id, cpu := range st.cpus {
		w = append(w, uint64(id), cpu.user, cpu.system)
		for i := range columns {
			w = append(w, uint64(cpu.base[i]), uint64(cpu.last[i]))
		}
	}
	st.words = w
	return w
}

// restore is the inverse of save. It believes no number of words.
func (st *statState) restore(w []uint64) {
	const perCPU = 3 + 2*columns
	if len(w) < 3 || w[2] > uint64(len(w)-3) || (len(w)-3-int(w[2]))%perCPU != 0 {
		return
	}
	st.quota, st.period = w[0], w[1]
	shown, cpus := w[3:3+w[2]], w[3+w[2]:]
	for _, id := range shown {
		st.shown = append(st.shown, int(id))
	}
	st.cpus = map[int]*cpuState{}
	for ; len(cpus) > 0; cpus = cpus[perCPU:] {
		cpu := &cpuState{user: cpus[1], system: cpus[2]}
		for i := range columns {
			cpu.base[i], cpu.last[i] = int64(cpus[3+2*i]), int64(cpus[4+2*i])
		}
		st.cpus[int(cpus[0])] = cpu
	}
}

// containerAge gives the age of the container and the time of its start in
// seconds since 1970, from the host's. With a time namespace these are what the
// kernel makes of them (timens_add_boottime in /proc/uptime, timens_sub_boottime
// in /proc/stat). Without one both are the host's pair: process start times are
// reckoned from it.
func containerAge(uptime time.Duration, boot int64, offset time.Duration) (time.Duration, int64) {
	start := boot - int64(offset)
	seconds := start / int64(time.Second)
	if start%int64(time.Second) < 0 {
		seconds--
	}
	return max(uptime+offset, 0), seconds
}

// appendStat renders /proc/stat (fs/proc/stat.c). state is brought up to date.
func appendStat(dst []byte, r *statReadings, state *statState) []byte {
	state.shape(r)
	var sum [columns]int64
	for _, id := range r.shown {
		for i, v := range state.cpus[id].last {
			sum[i] += v / nanosPerTick
		}
	}
	dst = appendCPULine(append(dst, "cpu "...), &sum)
	for _, id := range r.shown {
		ticks := state.cpus[id].last
		for i := range ticks {
			ticks[i] /= nanosPerTick
		}
		dst = strconv.AppendInt(append(dst, "cpu"...), int64(id), 10)
		dst = appendCPULine(dst, &ticks)
	}
	dst = append(dst, "intr 0\nctxt 0\nbtime "...)
	dst = strconv.AppendInt(dst, r.boot, 10)
	dst = append(dst, "\nprocesses "...)
	dst = strconv.AppendInt(dst, int64(r.tasks.lastPID), 10)
	dst = append(dst, "\nprocs_running "...)
	// The reader runs, too, and the kernel counts it. The vmstat of procps 3
	// takes it off again without looking whether there is one to take.
	dst = strconv.AppendInt(dst, int64(r.tasks.running+1), 10)
	dst = append(dst, "\nprocs_blocked "...)
	dst = strconv.AppendInt(dst, int64(r.tasks.blocked), 10)
	// node_exporter refuses a softirq line without its ten kinds.
	return append(dst, "\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"...)
}

// appendCPULine appends the ten times of a line, in ticks.
func appendCPULine(dst []byte, ticks *[columns]int64) []byte {
	for _, v := range [...]int64{
		ticks[columnUser], ticks[columnNice], ticks[columnSystem], ticks[columnIdle],
		0, 0, 0, ticks[columnSteal], 0, 0, // iowait, irq, softirq, -, guest, guest_nice
	} {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, v, 10)
	}
	return append(dst, '\n')
}

// shape brings the times to be shown up to date. No time goes backwards: not
// by jitter of the readings, and not when a changed quota or cpuset deals them
// out otherwise.
func (st *statState) shape(r *statReadings) {
	if st.cpus == nil {
		st.cpus = map[int]*cpuState{}
	}
	same := st.quota == r.cpu.Quota && st.period == r.cpu.Period && slices.Equal(st.shown, r.shown)
	for i, id := range r.shown {
		cpu := st.cpus[id]
		if cpu == nil {
			cpu = &cpuState{}
			st.cpus[id] = cpu
		}
		times := cpu.times(r, i)
		for column, now := range times {
			if !same && slices.Contains(st.shown, id) {
				cpu.base[column] = cpu.last[column] - now
			}
			cpu.show(column, now)
		}
	}
	if !same {
		st.shown = append(st.shown[:0], r.shown...)
		st.quota, st.period = r.cpu.Quota, r.cpu.Period
	}
}

// show takes a new reading of a time.
func (c *cpuState) show(column int, now int64) {
	v := c.base[column] + now
	last := c.last[column]
	if v >= last {
		c.last[column] = v
		return
	}
	// The last value stands until the readings have caught up with it. What
	// is further behind than slack is no jitter (the counter was reset, or a
	// larger quota of the past used more than now counts as capacity), and
	// waiting for it would hold the time still for long.
	if behind := last - v; behind > slack {
		c.base[column] += behind - slack
	}
}

// times gives the times of the i-th CPU shown.
//
// Where the CPUs shown are all that the container may run on, and the kernel
// accounts each, they are the real CPU's. With a quota below that, the CPUs
// shown stand for a share of all, and the sum is spread evenly, as it is on v2.
//
// Steal is the capacity that the quota withheld: what a period in which it was
// used up had beyond it, and no more than the time that tasks were really kept
// waiting. So 100 % of the quota used shows as no idle time, and the times
// still add up to the wall clock's. Idle is the rest.
func (c *cpuState) times(r *statReadings, i int) (t [columns]int64) {
	count := uint64(len(r.shown))
	quota, period := r.cpu.Quota, r.cpu.Period
	limited := quota > 0 && quota < uint64(len(r.allowed))*period
	var used cgroup.CPUTime
	if id := r.shown[i]; !limited && r.cpu.PerCPU != nil {
		if id < len(r.cpu.PerCPU) {
			used.User, used.System = c.divide(&r.cpu.PerCPU[id])
		}
	} else {
		total := &r.cpu.Total
		used = cgroup.CPUTime{User: total.User / count, Nice: total.Nice / count, System: total.System / count}
	}
	if limited {
		withheld := saturatingMul(below(count*period, quota)*uint64(time.Microsecond), r.cpu.ThrottledPeriods)
		t[columnSteal] = toInt(min(withheld, r.cpu.Throttled) / count)
	}
	t[columnUser] = toInt(below(used.User, used.Nice))
	t[columnNice] = toInt(used.Nice)
	t[columnSystem] = toInt(used.System)
	t[columnIdle] = int64(r.age) - t[columnUser] - t[columnNice] - t[columnSystem] - t[columnSteal]
	return t
}

// divide divides a CPU's use into user and system time in the proportion that
// the ticks found. A proportion that changes makes neither go backwards, as
// the kernel has it for processes (kernel/sched/cputime.c: cputime_adjust).
func (c *cpuState) divide(u *cgroup.CPUUse) (user, system uint64) {
	if u.Used < c.user+c.system { // the counter was reset
		c.user, c.system = 0, 0
	}
	if ticks := u.User + u.System; ticks >= u.System && ticks > 0 {
		high, low := bits.Mul64(u.Used, u.System)
		system, _ = bits.Div64(high, low, ticks) // no overflow: System <= ticks
	}
	system = min(max(system, c.system), u.Used-c.user)
	c.user, c.system = u.Used-system, system
	return c.user, c.system
}

func saturatingMul(a, b uint64) uint64 {
	if high, low := bits.Mul64(a, b); high == 0 {
		return low
	}
	return math.MaxUint64
}

func toInt(v uint64) int64 { return int64(min(v, math.MaxInt64/8)) }
