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
		SwapLimit: cgroup.NoLimit, MemSwapLimit: cgroup.NoLimit, OuterSwapFree: cgroup.NoLimit,
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
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 100 * mib, swapFree: 70 * mib},
		},
		{
			"swap: the pod's others have most of it",
			func(m *cgroup.Memory) {
				m.SwapAccounted, m.SwapLimit, m.Swap, m.OuterSwapFree = true, 100*mib, 30*mib, 20*mib
			},
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 100 * mib, swapFree: 20 * mib},
		},
		{
			"swap: more used than a lowered limit", func(m *cgroup.Memory) { m.SwapAccounted, m.SwapLimit, m.Swap = true, 100*mib, 130*mib },
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 100 * mib},
		},
		{
			"pages in the swap cache are anonymous, too, and used once",
			func(m *cgroup.Memory) {
				m.Limit, m.Usage, m.Anon, m.File, m.SwapCached = 64*mib, 40*mib, 40*mib, 30*mib, 30*mib
			},
			mem{total: 64 * mib, free: 24 * mib, available: 24 * mib},
		},
		{
			"swap: v1 counts it with the memory",
			func(m *cgroup.Memory) { m.SwapAccounted, m.Limit, m.MemSwapLimit = true, 256*mib, 384*mib },
			mem{total: 256 * mib, free: 256 * mib, available: 256 * mib, swapTotal: 128 * mib, swapFree: 128 * mib},
		},
		{
			"swap: v1 without any",
			func(m *cgroup.Memory) { m.SwapAccounted, m.Limit, m.MemSwapLimit, m.Swap = true, 256*mib, 256*mib, 1 },
			mem{total: 256 * mib, free: 256 * mib, available: 256 * mib},
		},
		{
			"swap: the host's", func(m *cgroup.Memory) { m.SwapAccounted = true },
			mem{total: 1024 * mib, free: 1024 * mib, available: 1024 * mib, swapTotal: 512 * mib, swapFree: 512 * mib},
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

func TestARequestIsShownWhereTheLimitIsAboveIt(t *testing.T) {
	host := &hostMemory{Total: 1024 * mib, SwapTotal: 512 * mib}
	for _, c := range []struct {
		name    string
		request uint64
		set     func(m *cgroup.Memory)
		want    mem
	}{
		{
			"below the limit", 100 * mib, func(m *cgroup.Memory) { m.Limit, m.Usage, m.Anon = 256*mib, 40*mib, 40*mib },
			mem{total: 100 * mib, free: 60 * mib, available: 60 * mib},
		},
		{
			"above the limit", 300 * mib, func(m *cgroup.Memory) { m.Limit, m.Usage = 256*mib, 40*mib },
			mem{total: 256 * mib, free: 216 * mib, available: 216 * mib},
		},
		{
			"without a limit", 100 * mib, func(m *cgroup.Memory) { m.Usage = 40 * mib },
			mem{total: 100 * mib, free: 60 * mib, available: 60 * mib},
		},
		{
			"none", 0, func(m *cgroup.Memory) { m.Limit = 256 * mib },
			mem{total: 256 * mib, free: 256 * mib, available: 256 * mib},
		},
		{
			"v1's swap is what lies above the limit, not above the request", 100 * mib,
			func(m *cgroup.Memory) { m.SwapAccounted, m.Limit, m.MemSwapLimit = true, 256*mib, 384*mib },
			mem{total: 100 * mib, free: 100 * mib, available: 100 * mib, swapTotal: 128 * mib, swapFree: 128 * mib},
		},
		{
			"more is held than was asked for: page cache gives way to anonymous memory and slab", 100 * mib,
			func(m *cgroup.Memory) {
				m.Limit, m.Usage, m.Slab, m.Anon, m.File, m.Shmem = 256*mib, 200*mib, 10*mib, 70*mib, 120*mib, 0
			},
			mem{total: 100 * mib, cached: 20 * mib},
		},
		{
			"more anonymous memory than was asked for", 100 * mib,
			func(m *cgroup.Memory) {
				m.Limit, m.Usage, m.Slab, m.Anon, m.File = 256*mib, 200*mib, 10*mib, 170*mib, 20*mib
			},
			mem{total: 100 * mib},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := unlimited()
			c.set(&m)
			limitToRequest(&m, host, c.request)
			fit(&m, memoryTotal(&m, host))
			if got := reckonMemory(&m, host); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			} else if sum := got.free + got.cached + m.Anon + m.Slab; sum > got.total {
				t.Errorf("free, page cache, anonymous memory and slab are %d of %d", sum, got.total)
			}
		})
	}
}

func TestHugePages(t *testing.T) {
	const unlimited = cgroup.NoLimit
	for _, c := range []struct {
		name    string
		pages   uint64
		account cgroup.Hugetlb
		want    hugePages
	}{
		{"no limit: the machine's pool, as with the memory", 128, cgroup.Hugetlb{Limit: unlimited, OuterFree: unlimited}, hugePages{128, 128, 0, 256 * mib}},
		{"a limit and what is used of it", 128, cgroup.Hugetlb{Limit: 64 * mib, Usage: 20 * mib, Reserved: 4 * mib, OuterFree: unlimited}, hugePages{32, 22, 2, 64 * mib}},
		{"a limit above the pool", 8, cgroup.Hugetlb{Limit: 64 * mib, Usage: 2 * mib, OuterFree: unlimited}, hugePages{8, 7, 0, 16 * mib}},
		{"the pod's others leave less", 128, cgroup.Hugetlb{Limit: 64 * mib, Usage: 20 * mib, Reserved: 40 * mib, OuterFree: 10 * mib}, hugePages{32, 5, 5, 64 * mib}},
		{"a pool that has become smaller than what is used", 4, cgroup.Hugetlb{Limit: unlimited, Usage: 20 * mib, OuterFree: unlimited}, hugePages{4, 0, 0, 8 * mib}},
		{"none allowed, as Kubernetes has it", 128, cgroup.Hugetlb{}, hugePages{}},
	} {
		var h hugePages
		h.add(&c.account, c.pages, 2*mib, true)
		if h != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, h, c.want)
		}
		h.add(&cgroup.Hugetlb{Limit: unlimited, OuterFree: unlimited}, 2, 1024*mib, false)
		if h.total != c.want.total || h.bytes != c.want.bytes+2048*mib {
			t.Errorf("%s, with another size: got %+v", c.name, h)
		}
	}
}

func TestUptime(t *testing.T) {
	if got := string(appendUptime(nil, 61*time.Second+59*time.Millisecond, 5*time.Millisecond)); got != "61.05 0.00\n" {
		t.Errorf("got %q", got)
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
		_, _ = parseCount(text)
		if ids, err := parseCPUMask(nil, text); err == nil && len(ids) > 0 {
			again, err := parseCPUMask(nil, appendCPUMask(nil, ids, ids))
			if err != nil || !slices.Equal(again, ids) {
				t.Errorf("%q: %v came back as %v, %v", text, ids, again, err)
			}
		}
	})
}
