package render

import (
	"slices"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
)

const second = uint64(time.Second)

// shown renders a stat file and gives its "cpu" lines by name.
func shown(t *testing.T, r statReadings, st *statState) map[string][]int {
	t.Helper()
	text := string(appendStat(nil, &r, st))
	lines := map[string][]int{"cpu": numbers(t, text, "cpu")}
	sum := make([]int, 10)
	for _, id := range r.shown {
		name := "cpu" + string(rune('0'+id))
		lines[name] = numbers(t, text, name)
		for i, v := range lines[name] {
			sum[i] += v
		}
	}
	if !slices.Equal(sum, lines["cpu"]) {
		t.Errorf("the lines add up to %v, cpu says %v", sum, lines["cpu"])
	}
	return lines
}

func TestStatTimes(t *testing.T) {
	perCPU := []cgroup.CPUUse{
		{Used: 4 * second, User: 6 * second, System: 2 * second}, {Used: second}, {}, {Used: 7 * second, System: second},
	}
	for _, c := range []struct {
		name  string
		r     statReadings
		lines map[string][]int
	}{
		{
			"no quota: every CPU's own times",
			statReadings{cpu: &cgroup.CPU{PerCPU: perCPU}, allowed: []int{0, 1}, shown: []int{0, 1}, age: 10 * time.Second},
			map[string][]int{"cpu0": {300, 0, 100, 600, 0, 0, 0, 0, 0, 0}, "cpu1": {100, 0, 0, 900, 0, 0, 0, 0, 0, 0}},
		},
		{
			"cpuset: the real ids; one that is not accounted is idle",
			statReadings{cpu: &cgroup.CPU{PerCPU: perCPU}, allowed: []int{3, 9}, shown: []int{3, 9}, age: 10 * time.Second},
			map[string][]int{"cpu3": {0, 0, 700, 300, 0, 0, 0, 0, 0, 0}},
		},
		{
			"v2: spread evenly",
			statReadings{cpu: &cgroup.CPU{Total: cgroup.CPUTime{User: 4 * second, Nice: second, System: 2 * second}}, allowed: []int{0, 1}, shown: []int{0, 1}, age: 10 * time.Second},
			map[string][]int{"cpu0": {150, 50, 100, 700, 0, 0, 0, 0, 0, 0}, "cpu1": {150, 50, 100, 700, 0, 0, 0, 0, 0, 0}},
		},
		{
			"half a CPU used up: the other half is stolen, none idle",
			statReadings{
				cpu: &cgroup.CPU{
					Quota: 50000, Period: 100000, ThrottledPeriods: 100, Throttled: 9 * second,
					Total: cgroup.CPUTime{User: 5 * second}, PerCPU: perCPU,
				},
				allowed: []int{0, 1}, shown: []int{0}, age: 10 * time.Second,
			},
			map[string][]int{"cpu0": {500, 0, 0, 0, 0, 0, 0, 500, 0, 0}},
		},
		{
			"one CPU used up by two tasks: nothing was withheld of the one shown",
			statReadings{
				cpu: &cgroup.CPU{
					Quota: 100000, Period: 100000, ThrottledPeriods: 100, Throttled: 10 * second,
					Total: cgroup.CPUTime{User: 10 * second},
				},
				allowed: []int{0, 1}, shown: []int{0}, age: 10 * time.Second,
			},
			map[string][]int{"cpu0": {1000, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		},
		{
			"a quota beyond the CPUs is none",
			statReadings{
				cpu:     &cgroup.CPU{Quota: 800000, Period: 100000, ThrottledPeriods: 9, Throttled: second, PerCPU: perCPU},
				allowed: []int{0, 1}, shown: []int{0, 1}, age: 10 * time.Second,
			},
			map[string][]int{"cpu1": {100, 0, 0, 900, 0, 0, 0, 0, 0, 0}},
		},
		{
			"more used than the age: no idle time, and no negative one",
			statReadings{cpu: &cgroup.CPU{Total: cgroup.CPUTime{User: 20 * second}}, allowed: []int{0}, shown: []int{0}, age: time.Second},
			map[string][]int{"cpu0": {2000, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := shown(t, c.r, &statState{})
			for name, want := range c.lines {
				if !slices.Equal(got[name], want) {
					t.Errorf("%s: got %v, want %v", name, got[name], want)
				}
			}
		})
	}
}

func TestStatNeverGoesBackwards(t *testing.T) {
	r := statReadings{cpu: &cgroup.CPU{}, allowed: []int{0, 1, 2, 3}, shown: []int{0, 1}, age: 100 * time.Second}
	var st statState
	last := map[string][]int{}
	check := func(what string) {
		t.Helper()
		got := shown(t, r, &st)
		for name, line := range got {
			for i, v := range line {
				if old := last[name]; name != "cpu" && old != nil && v < old[i] {
					t.Errorf("%s: %s went from %v to %v", what, name, old, line)
				}
			}
		}
		last = got
	}
	full := []cgroup.CPUUse{{Used: 10 * second}, {Used: 50 * second}, {Used: 60 * second}, {}}
	r.cpu.PerCPU, r.cpu.Total = full, cgroup.CPUTime{User: 120 * second}
	check("first")
	r.age -= 10 * time.Millisecond
	check("a clock read earlier")
	r.cpu.PerCPU = []cgroup.CPUUse{{Used: 9 * second}, {Used: 50 * second}, {}, {}}
	check("counters jitter")
	r.cpu.Quota, r.cpu.Period, r.shown = 100000, 100000, []int{0}
	check("a quota that spreads what was used on two")
	r.age += time.Second
	r.cpu.Total.User += second / 2
	before := last["cpu0"]
	check("half a second used of one")
	if user, idle := last["cpu0"][0]-before[0], last["cpu0"][3]-before[3]; user != 50 || idle < 49 || idle > 51 {
		t.Errorf("after the quota changed, a second with half of it used shows %d ticks of user and %d of idle", user, idle)
	}
	r.cpu.Quota, r.shown = 0, []int{0, 1}
	check("the quota taken away")
	r.cpu.PerCPU, r.cpu.Total = make([]cgroup.CPUUse, 4), cgroup.CPUTime{}
	check("accounting reset")
	r.age += 10 * time.Second
	for i := range r.cpu.PerCPU {
		r.cpu.PerCPU[i].Used += 5 * second
	}
	before = last["cpu1"]
	check("use after the reset")
	if user := last["cpu1"][0] - before[0]; user < 400 || user > 500 {
		t.Errorf("5 s used after a reset show as %d ticks", user)
	}
}

func TestARestartedWorkerShowsTheSame(t *testing.T) {
	r := statReadings{
		cpu:     &cgroup.CPU{Quota: 150000, Period: 100000},
		allowed: []int{0, 1}, shown: []int{0, 1}, boot: 5, tasks: tasks{running: 1, lastPID: 3},
	}
	var old statState
	for i := range uint64(50) {
		r.age += 700 * time.Millisecond
		r.cpu.Total.User += second/2 + i
		r.cpu.Total.System += 12345678
		r.cpu.ThrottledPeriods += 3
		r.cpu.Throttled += second / 9
		a, b := string(appendStat(nil, &r, &old)), string(appendStat(nil, &r, &statState{}))
		if a != b {
			t.Fatalf("step %d: %s\nis not\n%s", i, b, a)
		}
	}
}

func TestContainerAgeIsWhatTheKernelMakesOfIt(t *testing.T) {
	const boot = 1_795_193_735*int64(time.Second) + 400_000_000
	for _, c := range []struct {
		offset time.Duration
		age    time.Duration
		btime  int64
	}{
		{0, 1000 * time.Second, 1_795_193_735},
		{-990 * time.Second, 10 * time.Second, 1_795_194_725},
		{-990*time.Second - 700*time.Millisecond, 9300 * time.Millisecond, 1_795_194_726}, // the fractions carry
		{5 * time.Second, 1005 * time.Second, 1_795_193_730},
		{-1001 * time.Second, 0, 1_795_194_736},
	} {
		age, btime := containerAge(1000*time.Second, boot, c.offset)
		if age != c.age || btime != c.btime {
			t.Errorf("offset %v: got %v, %d, want %v, %d", c.offset, age, btime, c.age, c.btime)
		}
	}
}

func TestUseIsDividedByTheTicksAndNeverBackwards(t *testing.T) {
	var c cpuState
	for _, step := range []struct {
		use          cgroup.CPUUse
		user, system uint64
	}{
		{cgroup.CPUUse{Used: 100, User: 30, System: 10}, 75, 25},
		{cgroup.CPUUse{Used: 110, User: 30, System: 30}, 75, 35}, // user would fall to 55
		{cgroup.CPUUse{Used: 120, User: 90, System: 30}, 85, 35}, // system would fall to 30
		{cgroup.CPUUse{Used: 120, User: 90, System: 30}, 85, 35},
		{cgroup.CPUUse{Used: 4}, 4, 0}, // reset, and no tick yet
		{cgroup.CPUUse{Used: 1 << 63, User: 1 << 62, System: 1 << 62}, 1 << 62, 1 << 62},
	} {
		if user, system := c.divide(&step.use); user != step.user || system != step.system {
			t.Errorf("%+v: got %d and %d, want %d and %d", step.use, user, system, step.user, step.system)
		}
	}
}
