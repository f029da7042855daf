package render

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
)

// oddFiles are the files of a container and of the group above it that a fuzz target
// fills.
func oddFiles(version int) []string {
	if version == 1 {
		return []string{
			"memory/pod/c/memory.stat", "memory/pod/c/memory.usage_in_bytes", "memory/pod/c/memory.kmem.usage_in_bytes",
			"memory/pod/memory.stat", "memory/pod/memory.limit_in_bytes", "memory/pod/memory.usage_in_bytes",
			"memory/pod/memory.memsw.limit_in_bytes", "memory/pod/memory.memsw.usage_in_bytes", "memory/pod/c/memory.oom_control",
			"cpu/pod/c/cpu.cfs_quota_us", "cpu/pod/c/cpu.cfs_period_us", "cpu/pod/c/cpu.stat", "cpu/pod/cpu.cfs_quota_us", "cpu/pod/cpu.cfs_period_us",
			"cpuacct/pod/c/cpuacct.stat", "cpuacct/pod/c/cpuacct.usage_all", "cpuacct/pod/c/cpuacct.usage_percpu",
			"cpuset/pod/c/cpuset.effective_cpus", "blkio/pod/c/blkio.throttle.io_serviced", "blkio/pod/c/blkio.throttle.io_service_bytes",
			"hugetlb/pod/c/hugetlb.2MB.usage_in_bytes", "hugetlb/pod/c/hugetlb.2MB.limit_in_bytes", "hugetlb/pod/c/hugetlb.2MB.rsvd.usage_in_bytes",
			"pids/pod/c/tasks", "pids/pod/c/pids.current",
		}
	}
	return []string{
		"pod/c/memory.stat", "pod/c/memory.current", "pod/c/memory.max", "pod/c/memory.swap.current", "pod/c/memory.swap.max", "pod/c/memory.events",
		"pod/memory.stat", "pod/memory.current", "pod/memory.max", "pod/memory.swap.current", "pod/memory.swap.max",
		"pod/c/cpu.max", "pod/c/cpu.stat", "pod/c/cpu.stat.local", "pod/cpu.max", "pod/cpu.stat",
		"pod/c/cpuset.cpus.effective", "pod/c/io.stat", "pod/c/cpu.pressure",
		"pod/c/hugetlb.2MB.current", "pod/c/hugetlb.2MB.max", "pod/c/hugetlb.2MB.rsvd.current", "pod/hugetlb.2MB.max", "pod/hugetlb.2MB.current",
		"pod/c/cgroup.threads", "pod/c/pids.current",
	}
}

// oddTask is a task of the machine, whose name may be anything.
const oddTask = "4001"

// oddHost makes a machine for a fuzz target, and gives the directory of its groups.
func oddHost(f *testing.F, version int) (host *Host, groups string, view ledger.View) {
	root := f.TempDir()
	groups = filepath.Join(root, "cg")
	mounts := "35 25 0:30 / /cg rw - cgroup2 cgroup2 rw\n"
	view = ledger.View{ID: 1, Cgroups: map[string]string{"": "/pod/c"}}
	if version == 1 {
		mounts = ""
		for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "hugetlb", "pids"} {
			mounts += "36 25 0:31 / /cg/" + c + " rw - cgroup cgroup rw," + c + "\n"
			view.Cgroups[c] = "/pod/c"
		}
	}
	for file, text := range map[string]string{
		"proc/self/mountinfo": mounts,
		"proc/meminfo":        "MemTotal: 1048576 kB\nSwapTotal: 524288 kB\nHugepagesize: 2048 kB\n",
		"proc/stat":           "btime 1795100000\n", "proc/uptime": "1000.00 1.00\n",
		"proc/cpuinfo":   "processor\t: 0\n\nprocessor\t: 1\n\nprocessor\t: 2\n\n",
		"proc/diskstats": "   8       0 sda 1\n 259       0 nvme0n1 1\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "64\n",
		"sys/devices/system/cpu/online":                         "0-2\n",
		"proc/" + oddTask + "/status":                           "", "proc/" + oddTask + "/task/" + oddTask + "/stat": "",
	} {
		put(f, filepath.Join(root, file), text)
	}
	for _, file := range oddFiles(version) {
		for dir := filepath.Dir(filepath.Join(groups, file)); len(dir) >= len(groups); dir = filepath.Dir(dir) {
			put(f, filepath.Join(dir, "cgroup.procs"), "")
		}
	}
	host, err := NewHost(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { host.Close() })
	return host, groups, view
}

// FuzzRender renders every file from cgroup and proc files of whatever content.
// group is dealt out to the files, by the zeros in it.
func FuzzRender(f *testing.F) {
	for _, seed := range []struct {
		unified     bool
		group, task string
	}{
		{false, "total_cache 4096\ntotal_rss 18446744073709551615\nhierarchical_memory_limit 99999999999\nhierarchical_memsw_limit 999\n\x00-1\n", "\nNSpid:\t4001\t1\n"},
		{false, "user 18446744073709551615\nsystem 9\nnr_throttled 18446744073709551615\nthrottled_time 7\n\x0018446744073709551615\n", "4001 (a) b) R 1"},
		{false, "0-1\n\x004001\n\x008:0 Read 12\n8:0 Write 18446744073709551615\n", "4001 (x) D 1"},
		{false, "cpu user system\n0 18446744073709551615 1\n1 2 3\n\x001 2 3\n", ")"},
		{true, "anon 4096\nfile 8192\nslab 1\nactive_file 1\n\x00max\n\x00104857600\n\x001000 100000\n", "4001 (a) b) R 1"},
		{true, "anon 18446744073709551615\nfile 1\nswapcached 18446744073709551615\n\x009999999\n", "\nNSpid:\t4001\t1\n"},
		{true, "user_usec 18446744073709551615\nsystem_usec 9\nnr_throttled 18446744073709551615\nthrottled_usec 7\n\x0018446744073709551615 1\n", ""},
		{true, "0-1\n\x004001\n\x008:0 rbytes=18446744073709551615 rios=1\n", "4001 (x) D 1"},
	} {
		f.Add(seed.unified, []byte(seed.group), []byte(seed.task))
	}
	hosts, groups, views := [2]*Host{}, [2]string{}, [2]ledger.View{}
	for i := range hosts {
		hosts[i], groups[i], views[i] = oddHost(f, i+1)
	}
	has := map[string]string{} // what the files contain
	set := func(t *testing.T, name string, content []byte) {
		if was, known := has[name]; known && was == string(content) {
			return
		}
		has[name] = string(content)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Unix(1800000000, 0)
	f.Fuzz(func(t *testing.T, unified bool, group, task []byte) {
		i := 0
		if unified {
			i = 1
		}
		host := hosts[i]
		now = now.Add(time.Hour) // nothing of the run before is used again
		parts := bytes.Split(group, []byte{0})
		for at, file := range oddFiles(i + 1) {
			set(t, filepath.Join(groups[i], file), parts[at%len(parts)])
		}
		for _, file := range []string{"status", "task/" + oddTask + "/stat"} {
			set(t, filepath.Join(host.root, "proc", oddTask, file), task)
		}
		c, err := Open(views[i], host)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range append(Names(), "node/node0/meminfo", "cpu/possible", "pressure/cpu") {
			if text, err := c.Render(nil, file, now); err == nil {
				plausible(t, file, string(text))
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// plausible checks what holds for a file whatever it is made from.
func plausible(t *testing.T, file, text string) {
	t.Helper()
	if strings.Contains(text, "-") && (file == "stat" || file == "uptime" || file == "loadavg") {
		t.Errorf("%s: a number below 0:\n%s", file, text)
	}
	switch file {
	case "meminfo":
		values := map[string]int{}
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			v, err := strconv.Atoi(words[1])
			if err != nil {
				t.Errorf("meminfo: %v", err)
			}
			values[strings.TrimSuffix(words[0], ":")] = v
		}
		value := func(key string) int { return values[key] }
		for _, part := range []string{"MemFree", "MemAvailable", "Cached", "AnonPages", "Slab"} {
			if value(part) > value("MemTotal") {
				t.Errorf("%s is more than all:\n%s", part, text)
			}
		}
		// Each is cut to whole kB.
		if sum := value("MemFree") + value("Cached") + value("AnonPages") + value("Slab"); sum > value("MemTotal") {
			t.Errorf("the parts are %d kB:\n%s", sum, text)
		}
		if value("SwapFree") > value("SwapTotal") || value("HugePages_Free") > value("HugePages_Total") || value("HugePages_Rsvd") > value("HugePages_Free") {
			t.Errorf("more is free than there is:\n%s", text)
		}
	case "stat":
		sum := make([]int, 10)
		for _, m := range regexp.MustCompile(`(?m)^cpu(\d+) `).FindAllStringSubmatch(text, -1) {
			for i, v := range numbers(t, text, "cpu"+m[1]) {
				sum[i] += v
			}
		}
		if all := numbers(t, text, "cpu"); !slices.Equal(all, sum) {
			t.Errorf("the lines add up to %v:\n%s", sum, text)
		}
	case "cpu-online":
		if ids, err := cgroup.ParseList(nil, []byte(text)); err != nil || len(ids) == 0 {
			t.Errorf("online: %q, %v", text, err)
		}
	case "uptime":
		if _, err := parseUptime([]byte(text)); err != nil {
			t.Error(err)
		}
	case "loadavg":
		if !regexp.MustCompile(`^(\d+\.\d\d ){3}\d+/\d+ \d+\n$`).MatchString(text) {
			t.Errorf("loadavg: %q", text)
		}
	case "diskstats":
		for line := range strings.Lines(text) {
			if words := strings.Fields(line); len(words) != 20 {
				t.Errorf("diskstats: %q", line)
			}
		}
	case "vmstat":
		for line := range strings.Lines(text) {
			_, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			if _, err := strconv.ParseUint(v, 10, 64); err != nil {
				t.Errorf("vmstat: %v", err)
			}
		}
	}
}

// FuzzMeminfo makes the files of memory from whatever numbers: limits and use that
// contradict each other, and what is near the end of 64 bits.
func FuzzMeminfo(f *testing.F) {
	const most = ^uint64(0)
	f.Add(most, uint64(0), uint64(1<<20), uint64(1<<20), uint64(0), uint64(0), most, most, uint64(0))
	f.Add(uint64(64<<20), uint64(65<<20), uint64(40<<20), uint64(30<<20), uint64(8<<20), uint64(10<<20), uint64(5), uint64(7), uint64(32<<20))
	f.Add(uint64(0), most, most, most, most, most, uint64(0), uint64(0), most)
	f.Add(uint64(512<<20), most-1, most/2, most/2+1, most/3, uint64(1), most, uint64(768<<20), uint64(1))
	f.Fuzz(func(t *testing.T, limit, usage, file, anon, slab, swapCached, outer, swapLimit, request uint64) {
		m := cgroup.Memory{
			Limit: limit, Usage: usage, OuterFree: outer, OuterAvailable: outer, OuterSwapFree: outer,
			SwapLimit: swapLimit, MemSwapLimit: swapLimit, SwapAccounted: true,
			MemoryStat: cgroup.MemoryStat{
				File: file, Anon: anon, Slab: slab, SlabReclaimable: slab / 2, SwapCached: swapCached, Swap: swapCached,
				ActiveFile: file / 2, InactiveFile: file / 2, Dirty: anon, Detailed: true,
			},
		}
		host := hostMemory{Total: 1024 * mib, SwapTotal: 512 * mib, HugePageSize: 2 * mib}
		var huge hugePages
		huge.add(&cgroup.Hugetlb{Limit: limit, Usage: usage, Reserved: file, OuterFree: outer}, 64, 2*mib, true)
		limitToRequest(&m, &host, request)
		fit(&m, memoryTotal(&m, &host))
		plausible(t, "meminfo", string(appendMeminfo(nil, &m, &host, &huge)))
		r := pageReadings{memory: &m, events: &cgroup.MemoryEvents{}, host: &host, page: 4096, huge: 2 * mib}
		plausible(t, "vmstat", string(appendVmstat(nil, &r, usage, file)))
		if total := memoryTotal(&m, &host); request > 0 && total > request || total > host.Total || total > limit {
			t.Errorf("a total of %d", total)
		}
	})
}

// FuzzStat makes stat from whatever numbers, twice: of what went before nothing may
// go back.
func FuzzStat(f *testing.F) {
	f.Add(uint64(100000), uint64(100000), uint64(3), uint64(9), uint64(5e9), uint64(1e9), uint64(0), uint64(0), uint64(7e9), int64(10e9))
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0), uint64(1e9), uint64(1e9), uint64(1e9), uint64(8e9), uint64(1), int64(0))
	f.Add(^uint64(0), uint64(1), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), int64(1<<62))
	f.Fuzz(func(t *testing.T, quota, period, throttledPeriods, throttled, user, system, nice, used, later uint64, age int64) {
		r := statReadings{
			cpu: &cgroup.CPU{
				Quota: quota, Period: period, ThrottledPeriods: throttledPeriods, Throttled: throttled,
				Total: cgroup.CPUTime{User: user, System: system, Nice: nice},
			},
			allowed: []int{0, 1, 2}, age: time.Duration(max(age, 0)),
		}
		if used%2 == 0 {
			r.cpu.PerCPU = []cgroup.CPUUse{{Used: used, User: user, System: system}, {Used: later}}
		}
		var state statState
		var last []int
		for range 2 {
			r.shown = shownCPUs(r.allowed, r.cpu.Count())
			text := string(appendStat(nil, &r, &state))
			plausible(t, "stat", text)
			now := numbers(t, text, "cpu0")
			for i, v := range last {
				if now[i] < v {
					t.Errorf("the times went from %v to %v", last, now)
				}
			}
			last = now
			r.cpu.Quota, r.cpu.Total.User, r.cpu.PerCPU = later, used, nil
		}
	})
}
