package render

import (
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
)

const mib = 1 << 20

func unlimited() cgroup.Memory {
	return cgroup.Memory{
		Limit: cgroup.NoLimit, OuterFree: cgroup.NoLimit, OuterAvailable: cgroup.NoLimit,
		SwapLimit: cgroup.NoLimit, MemSwapLimit: cgroup.NoLimit,
	}
}

func TestMemoryReckoning(t *testing.T) {
	host := &hostMemory{Total: 1024 * mib, SwapTotal: 512 * mib}
	for _, c := range []struct {
		name string
		set  func(m *cgroup.Memory)
		want mem
	}{
		{
			"no limit: the host's total", func(m *cgroup.Memory) { m.Usage = 24 * mib },
			mem{total: 1024 * mib, free: 1000 * mib, available: 1000 * mib},
		},
		{
			"a limit above the host's memory is none", func(m *cgroup.Memory) { m.Limit = 4096 * mib },
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib},
		},
		{
			"more used than the limit", func(m *cgroup.Memory) { m.Limit, m.Usage = 64*mib, 65*mib },
			mem{total: 64 * mib},
		},
		{
			"page cache is available but for the watermark's part of it",
			func(m *cgroup.Memory) {
				m.Limit, m.Usage = 256*mib, 110*mib
				m.File, m.InactiveFile = 100*mib, 100*mib
			},
			mem{total: 256 * mib, free: 146 * mib, available: 246*mib - lowWatermark(256*mib), cached: 100 * mib},
		},
		{
			"dirty, shmem and unevictable cache is not",
			func(m *cgroup.Memory) {
				m.Limit, m.Usage = 256*mib, 110*mib
				m.File, m.Shmem, m.Unevictable = 100*mib, 50*mib, 20*mib
				m.InactiveAnon, m.InactiveFile, m.Dirty = 50*mib, 30*mib, 30*mib
			},
			mem{total: 256 * mib, free: 146 * mib, available: 146 * mib, cached: 100 * mib},
		},
		{
			"the outer group has less to give",
			func(m *cgroup.Memory) {
				m.Limit, m.Usage, m.OuterFree, m.OuterAvailable = 256*mib, 10*mib, 5*mib, 7*mib
				m.File, m.InactiveFile = 9*mib, 9*mib
			},
			mem{total: 256 * mib, free: 5 * mib, available: 7 * mib, cached: 9 * mib},
		},
		{
			"usage that lags behind memory.stat", func(m *cgroup.Memory) { m.Limit, m.File, m.Anon = 64*mib, 40*mib, 30*mib },
			mem{total: 64 * mib, cached: 40 * mib},
		},
		{
			"swap: v2", func(m *cgroup.Memory) { m.SwapAccounted, m.SwapLimit, m.Swap = true, 100*mib, 30*mib },
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 100 * mib, swapUsed: 30 * mib},
		},
		{
			"swap: v1 counts it with the memory",
			func(m *cgroup.Memory) { m.SwapAccounted, m.Limit, m.MemSwapLimit = true, 256*mib, 384*mib },
			mem{total: 256 * mib, free: 256 * mib, available: 256 * mib, swapTotal: 128 * mib},
		},
		{
			"swap: v1 without any",
			func(m *cgroup.Memory) { m.SwapAccounted, m.Limit, m.MemSwapLimit, m.Swap = true, 256*mib, 256*mib, 1 },
			mem{total: 256 * mib, free: 256 * mib, available: 256 * mib},
		},
		{
			"swap: the host's", func(m *cgroup.Memory) { m.SwapAccounted = true },
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 512 * mib},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := unlimited()
			c.set(&m)
			got := reckonMemory(&m, host)
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if got.free+got.cached > got.total || got.available > got.total || got.available < got.free && m.OuterAvailable == cgroup.NoLimit {
				t.Errorf("does not add up: %+v", got)
			}
		})
	}
}

func TestLowWatermarkIsTheKernels(t *testing.T) {
	// min_free_kbytes of the kernel's own table (mm/page_alloc.c): 16 MB has
	// 512k, 1 GB 4096k, 16 GB 16384k.
	for total, want := range map[uint64]uint64{
		16 * mib: 640 << 10, 1024 * mib: 5144 << 10, 16384 * mib: (16384 + 16777) << 10, 0: 160 << 10,
	} {
		if got := lowWatermark(total); got != want {
			t.Errorf("%d MiB: got %d kB, want %d kB", total/mib, got>>10, want>>10)
		}
	}
	for _, v := range []uint64{0, 1, 2, 3, 4, 15, 16, 17, 1 << 40, 1<<40 - 1} {
		if r := squareRoot(v); r*r > v || (r+1)*(r+1) <= v {
			t.Errorf("the root of %d is not %d", v, r)
		}
	}
}

func TestShownCPUs(t *testing.T) {
	for _, c := range []struct {
		cpuset, online []int
		count          int
		want           []int
	}{
		{nil, []int{0, 1, 2, 3}, 0, []int{0, 1, 2, 3}},
		{nil, []int{0, 1, 2, 3}, 3, []int{0, 1, 2}},
		{[]int{2, 5, 7}, []int{0, 1, 2, 3, 4, 5, 6, 7}, 0, []int{2, 5, 7}},
		{[]int{2, 5, 7}, []int{0, 1, 2, 3, 4, 5, 6, 7}, 2, []int{2, 5}},
		{[]int{2, 5, 7}, []int{0, 1, 2, 7}, 9, []int{2, 7}},
		{[]int{5}, []int{0}, 1, []int{5}},
	} {
		got := shownCPUs(allowedCPUs(slices.Clone(c.cpuset), c.online), c.count)
		if !slices.Equal(got, c.want) {
			t.Errorf("cpuset %v of %v, quota %d: got %v, want %v", c.cpuset, c.online, c.count, got, c.want)
		}
	}
}

func TestCPUInfoOfOtherMachines(t *testing.T) {
	arm := "processor\t: 0\nBogoMIPS\t: 50.00\n\nprocessor\t: 1\nBogoMIPS\t: 50.00\n\n"
	power := "processor\t: 0\ncpu\t\t: POWER9\n\nprocessor\t: 8\ncpu\t\t: POWER9\n\ntimebase\t: 512000000\nplatform\t: pSeries\n"
	for _, c := range []struct {
		text string
		ids  []int
		want string
	}{
		{arm, []int{1}, "processor\t: 1\nBogoMIPS\t: 50.00\n\n"},
		{arm, []int{0, 1}, arm},
		{arm[:len(arm)-1], []int{1}, "processor\t: 1\nBogoMIPS\t: 50.00\n"},
		{power, []int{8}, "processor\t: 8\ncpu\t\t: POWER9\n\ntimebase\t: 512000000\nplatform\t: pSeries\n"},
		{arm, []int{7}, ""},
	} {
		info, err := parseCPUInfo([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendCPUInfo(nil, info, c.ids)); got != c.want {
			t.Errorf("%v: got %q, want %q", c.ids, got, c.want)
		}
	}
	for _, bad := range []string{"", "\n\n", "vendor_id       : IBM/S390\nprocessor 0: version = FF\n"} {
		if _, err := parseCPUInfo([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestLoadDecaysAsTheKernels(t *testing.T) {
	l := startLoads(2)
	if got := string(appendLoadavg(nil, l, tasks{running: 1, total: 5, lastPID: 9})); got != "2.00 2.00 2.00 2/5 9\n" {
		t.Errorf("first read: %q", got)
	}
	for range 12 { // one minute of nothing: 2/e in the first, but for the kernel's rounding
		l.step(0)
	}
	if got := string(appendLoadavg(nil, l, tasks{})); got != "0.73 1.63 1.87 1/1 0\n" {
		t.Errorf("a minute later: %q", got)
	}
	for range 12 * 60 {
		l.step(3)
	}
	if got := string(appendLoadavg(nil, l, tasks{})); !strings.HasPrefix(got, "3.00 3.00 3.00 ") {
		t.Errorf("an hour of three tasks: %q", got)
	}
	for range 12 * 60 * 24 {
		l.step(0)
	}
	if l != (loads{}) {
		t.Errorf("a day of nothing: %v", l)
	}
}

func TestLoadIsSampledOnlyWhileItIsAsked(t *testing.T) {
	c, dir := copied(t, "v2", v2Group)
	now := time.Unix(1800000000, 0)
	sample := func(at time.Duration) {
		if err := c.host.Sample(now.Add(at)); err != nil {
			t.Error(err)
		}
	}
	sample(0)
	if c.load.sampled || c.census.ok {
		t.Error("sampled without having been asked")
	}
	if got := mustRender(t, c, "loadavg", now); got != "2.00 2.00 2.00 2/4 44\n" {
		t.Errorf("first read: %q", got)
	}
	write(t, dir+"/cgroup.threads", "")
	write(t, dir+"/init.scope/cgroup.threads", "")
	sample(time.Second)
	c.census.cost = 0 // on a busy machine a count that was dear is used for longer
	if got := mustRender(t, c, "loadavg", now.Add(2*time.Second)); got != "2.00 2.00 2.00 1/1 44\n" {
		t.Errorf("before an interval was over: %q", got)
	}
	sample(60 * time.Second) // a late sampler
	if got := mustRender(t, c, "loadavg", now.Add(60*time.Second)); got != "0.73 1.63 1.87 1/1 44\n" {
		t.Errorf("after a minute: %q", got)
	}
	sample(60*time.Second + idleAfter + 1)
	if c.load.sampled {
		t.Error("still sampled after five minutes without a reader")
	}
	if got := mustRender(t, c, "loadavg", now.Add(time.Hour)); got != "0.00 0.00 0.00 1/1 44\n" {
		t.Errorf("asked again: %q", got)
	}
}

func FuzzHostFiles(f *testing.F) {
	f.Add([]byte("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n"))
	f.Add([]byte("MemTotal:       24684084 kB\nSwapTotal: 1 kB\n"))
	f.Add([]byte("   7       0 loop0 0 0\n"))
	f.Add([]byte("00000001,0000ff00\n"))
	f.Add([]byte("829.62 1480.05\nbtime 1795193735\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if info, err := parseCPUInfo(text); err == nil {
			ids := make([]int, 0, len(info.stanzas))
			for id := range info.stanzas {
				ids = append(ids, id)
			}
			if out := appendCPUInfo(nil, info, ids); len(out) > len(text) {
				t.Errorf("%d bytes became %d", len(text), len(out))
			}
		}
		_, _ = parseHostMemory(text)
		_, _ = parseDisks(text)
		_, _ = parseUptime(text)
		_, _ = parseBootTime(text)
		_, _ = parseOnline(text)
		_, _ = parseHugePageSize(text)
		if ids, err := parseCPUMask(nil, text); err == nil && len(ids) > 0 {
			again, err := parseCPUMask(nil, appendCPUMask(nil, ids, ids))
			if err != nil || !slices.Equal(again, ids) {
				t.Errorf("%q: %v came back as %v, %v", text, ids, again, err)
			}
		}
	})
}
