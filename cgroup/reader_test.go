package cgroup

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fixture makes a cgroup tree of plain files and gives its hierarchies.
func fixture(t *testing.T, unified bool, files map[string]string) (Hierarchies, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(root, name), text)
	}
	for name := range files { // every group has this one
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			put(t, filepath.Join(root, dir, "cgroup.procs"), "")
			if dir == "." {
				break
			}
		}
	}
	if unified {
		return Hierarchies{Unified: Mount{root, "/"}}, root
	}
	h := Hierarchies{V1: map[string]Mount{}}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "hugetlb", "pids"} {
		h.V1[c] = Mount{filepath.Join(root, c), "/"}
	}
	return h, root
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, h Hierarchies, paths map[string]string) *Reader {
	t.Helper()
	r, err := h.Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := r.Descriptors(); n != 0 {
			t.Errorf("%d descriptors are left open", n)
		}
	})
	return r
}

func TestUnifiedMemoryTakesTheSmallestLimitOfTheHierarchy(t *testing.T) {
	h, root := fixture(t, true, map[string]string{
		"memory.stat":                 "file 1\n", // the root has no memory.max
		"pod/memory.max":              "1000000\n",
		"pod/memory.current":          "700000\n",
		"pod/memory.stat":             "active_file 300000\ninactive_file 100000\nfile_dirty 50000\nslab_reclaimable 10000\n",
		"pod/memory.swap.max":         "5000\n",
		"pod/memory.swap.current":     "4000\n",
		"pod/c/memory.max":            "max\n",
		"pod/c/memory.current":        "400000\n",
		"pod/c/memory.stat":           "anon 1\nfile 2\nshmem 3\nslab 9\nslab_reclaimable 4\nsock 5\nbroken\nnew_line_of_7.0 x\n",
		"pod/c/memory.swap.max":       "max\n",
		"pod/c/memory.swap.current":   "77\n",
		"pod/c/sub/memory.current":    "1\n",
		"pod/c/sub/memory.stat":       "anon 1\n",
		"none/cgroup.procs":           "",
		"pod/none/cgroup.procs":       "",
		"pod/none/below/cgroup.procs": "",
	})
	r := open(t, h, map[string]string{"": "/pod/c"})
	m, err := r.Memory()
	if err != nil {
		t.Fatal(err)
	}
	want := Memory{
		Limit: 1000000, Usage: 400000, OuterFree: 300000, OuterAvailable: 300000 + 350000 + 10000,
		SwapLimit: 5000, MemSwapLimit: NoLimit, SwapAccounted: true, OuterSwapFree: 1000,
		MemoryStat: MemoryStat{
			Anon: 1, File: 2, Shmem: 3, Slab: 9, SlabReclaimable: 4, Swap: 77, Detailed: true,
			hierarchicalLimit: NoLimit, hierarchicalSwap: NoLimit,
		},
	}
	if m != want {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}

	put(t, filepath.Join(root, "pod/c/memory.max"), "500000\n") // a live update
	if m, err = r.Memory(); err != nil || m.Limit != 500000 || m.OuterFree != 300000 {
		t.Errorf("after the update: %+v, %v", m, err)
	}

	// A group without the controller is accounted with the one above.
	r = open(t, h, map[string]string{"": "/pod/none/below"})
	if m, err = r.Memory(); err != nil || m.Usage != 700000 || m.Limit != 1000000 || m.OuterFree != NoLimit {
		t.Errorf("no controller in the group: %+v, %v", m, err)
	}
	r = open(t, h, map[string]string{"": "/none"})
	if _, err = r.Memory(); !errors.Is(err, ErrNoController) {
		t.Errorf("no controller anywhere: %v", err)
	}
}

func TestV1MemoryTakesTheKernelsMinimum(t *testing.T) {
	stat := func(limit, swap string) string {
		return "cache 1\ntotal_cache 4096\ntotal_rss 8192\ntotal_swap 3\nhierarchical_memory_limit " + limit + "\nhierarchical_memsw_limit " + swap + "\n"
	}
	h, root := fixture(t, false, map[string]string{
		"memory/memory.limit_in_bytes":            "9223372036854771712\n",
		"memory/pod/memory.limit_in_bytes":        "1000000\n",
		"memory/pod/memory.usage_in_bytes":        "900000\n",
		"memory/pod/memory.memsw.limit_in_bytes":  "1500000\n",
		"memory/pod/memory.memsw.usage_in_bytes":  "1200000\n",
		"memory/pod/memory.stat":                  stat("1000000", "1500000"),
		"memory/pod/c/memory.limit_in_bytes":      "9223372036854771712\n",
		"memory/pod/c/memory.usage_in_bytes":      "200000\n",
		"memory/pod/c/memory.kmem.usage_in_bytes": "5000\n",
		"memory/pod/c/memory.stat":                stat("1000000", "1500000"),
	})
	r := open(t, h, map[string]string{"memory": "/pod/c"})
	m, err := r.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if m.Limit != 1000000 || m.Usage != 200000 || m.OuterFree != 100000 || m.MemSwapLimit != 1500000 || !m.SwapAccounted || m.OuterSwapFree != 300000 ||
		m.File != 4096 || m.Anon != 8192 || m.Swap != 3 || m.Slab != 5000 || m.Detailed {
		t.Errorf("got %+v", m)
	}
	put(t, filepath.Join(root, "memory/pod/c/memory.stat"), stat("9223372036854771712", "9223372036854771712"))
	if m, err = r.Memory(); err != nil || m.Limit != NoLimit || m.MemSwapLimit != NoLimit || m.OuterFree != NoLimit {
		t.Errorf("without limits: %+v, %v", m, err)
	}
}

// The pod has swap for all its containers together; a v2 group may have a limit
// of swap and none of memory.
func TestSwapThatAnOuterGroupLeaves(t *testing.T) {
	h, root := fixture(t, true, map[string]string{
		"pod/memory.current":        "9000\n",
		"pod/memory.max":            "max\n",
		"pod/memory.stat":           "anon 1\n",
		"pod/memory.swap.max":       "5000\n",
		"pod/memory.swap.current":   "4500\n",
		"pod/c/memory.current":      "400\n",
		"pod/c/memory.max":          "max\n",
		"pod/c/memory.stat":         "anon 1\n",
		"pod/c/memory.swap.max":     "2000\n",
		"pod/c/memory.swap.current": "100\n",
	})
	r := open(t, h, map[string]string{"": "/pod/c"})
	if m, err := r.Memory(); err != nil || m.SwapLimit != 2000 || m.Swap != 100 || m.OuterSwapFree != 500 || m.Limit != NoLimit {
		t.Errorf("got %+v, %v", m, err)
	}
	put(t, filepath.Join(root, "pod/memory.swap.max"), "max\n")
	if m, err := r.Memory(); err != nil || m.SwapLimit != 2000 || m.OuterSwapFree != NoLimit {
		t.Errorf("without a limit of the pod's: %+v, %v", m, err)
	}
}

func TestHugePagesOfBothVersions(t *testing.T) {
	v2, _ := fixture(t, true, map[string]string{
		"pod/hugetlb.2MB.max":            "100\n",
		"pod/hugetlb.2MB.current":        "70\n",
		"pod/c/hugetlb.2MB.max":          "max\n",
		"pod/c/hugetlb.2MB.rsvd.max":     "90\n",
		"pod/c/hugetlb.2MB.current":      "20\n",
		"pod/c/hugetlb.2MB.rsvd.current": "25\n",
		"pod/c/hugetlb.1GB.max":          "max\n",
		"pod/c/hugetlb.1GB.current":      "7\n",
		"pod/c/in/cgroup.procs":          "",
		"none/cgroup.procs":              "",
	})
	v1, _ := fixture(t, false, map[string]string{
		"hugetlb/hugetlb.2MB.limit_in_bytes":        "9223372036852678656\n",
		"hugetlb/hugetlb.2MB.usage_in_bytes":        "99\n",
		"hugetlb/c/hugetlb.2MB.limit_in_bytes":      "100\n",
		"hugetlb/c/hugetlb.2MB.usage_in_bytes":      "30\n",
		"hugetlb/c/hugetlb.2MB.rsvd.limit_in_bytes": "9223372036852678656\n",
		"hugetlb/c/hugetlb.2MB.rsvd.usage_in_bytes": "20\n",
		"hugetlb/c/sub/hugetlb.2MB.limit_in_bytes":  "9223372036852678656\n",
		"hugetlb/c/sub/hugetlb.2MB.usage_in_bytes":  "10\n",
	})
	sizes := HugePageSizes(2<<20, 1<<30, 64<<10)
	for _, c := range []struct {
		name string
		h    Hierarchies
		path map[string]string
		size int
		want Hugetlb
	}{
		{"v2: the pod's limit, the own promises", v2, map[string]string{"": "/pod/c"}, 0, Hugetlb{Limit: 90, Usage: 20, Reserved: 5, OuterFree: 30}},
		{"v2: another size, of which promises are not accounted", v2, map[string]string{"": "/pod/c"}, 1, Hugetlb{Limit: NoLimit, Usage: 7, OuterFree: NoLimit}},
		{"v2: a group without the controller is accounted with the one above", v2, map[string]string{"": "/pod/c/in"}, 0, Hugetlb{Limit: 90, Usage: 20, Reserved: 5, OuterFree: 30}},
		{"v1: the root has no limit", v1, map[string]string{"hugetlb": "/c"}, 0, Hugetlb{Limit: 100, Usage: 30, OuterFree: NoLimit}},
		{"v1: the group above has", v1, map[string]string{"hugetlb": "/c/sub"}, 0, Hugetlb{Limit: 100, Usage: 10, OuterFree: 70}},
	} {
		r := open(t, c.h, c.path)
		for range 2 {
			if got, err := r.Hugetlb(&sizes[c.size]); err != nil || got != c.want {
				t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
			}
		}
	}
	r := open(t, v2, map[string]string{"": "/none"})
	if _, err := r.Hugetlb(&sizes[0]); !errors.Is(err, ErrNoController) {
		t.Errorf("no controller: %v", err)
	}
	r = open(t, v2, map[string]string{"": "/pod/c"})
	if _, err := r.Hugetlb(&sizes[2]); !errors.Is(err, ErrNoController) {
		t.Errorf("a size that no group accounts: %v", err)
	}
	if n := len(HugePageSizes(1, 2, 3, 4, 5)); n != maxHugePageSizes {
		t.Errorf("%d sizes are read", n)
	}
}

func TestCPUQuotaIsTheTightestOfTheHierarchy(t *testing.T) {
	h, root := fixture(t, true, map[string]string{
		"cpu.stat":             "usage_usec 99\n",
		"pod/cpu.max":          "150000 100000\n",
		"pod/cpu.stat":         "nr_throttled 7\nthrottled_usec 99\n",
		"pod/c/cpu.max":        "max 100000\n",
		"pod/c/cpu.stat":       "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 5\nnr_throttled 0\n",
		"pod/c/cpu.stat.local": "throttled_usec 4\n",
	})
	r := open(t, h, map[string]string{"": "/pod/c"})
	var c CPU
	if err := r.CPU(&c); err != nil {
		t.Fatal(err)
	}
	if c.Quota != 150000 || c.Period != 100000 || c.Count() != 2 || c.ThrottledPeriods != 7 || c.Throttled != 4000 ||
		c.Total != (CPUTime{User: 20000, Nice: 5000, System: 10000}) || c.PerCPU != nil {
		t.Errorf("got %+v", c)
	}
	put(t, filepath.Join(root, "pod/c/cpu.max"), "50000 100000\n")
	if err := r.CPU(&c); err != nil || c.Count() != 1 || c.Quota != 50000 {
		t.Errorf("got %+v, %v", c, err)
	}
	// Without cpu.stat.local an outer quota's throttling is also that of others.
	os.Remove(filepath.Join(root, "pod/c/cpu.stat.local"))
	put(t, filepath.Join(root, "pod/c/cpu.max"), "max 100000\n")
	r = open(t, h, map[string]string{"": "/pod/c"})
	if err := r.CPU(&c); err != nil || c.Throttled != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestV1CPU(t *testing.T) {
	h, _ := fixture(t, false, map[string]string{
		"cpu/c/cpu.cfs_quota_us":           "50000\n",
		"cpu/c/cpu.cfs_period_us":          "100000\n",
		"cpu/c/cpu.stat":                   "nr_periods 9\nnr_throttled 3\nthrottled_time 1234\n",
		"cpu/cpu.cfs_quota_us":             "-1\n",
		"cpuacct/c/cpuacct.stat":           "user 604\nsystem 7\n",
		"cpuacct/c/cpuacct.usage_all":      "cpu user system\n0 3091796445 4000000\n2 7 1\n",
		"cpuacct/c/cpuacct.usage_percpu":   "3071257373 0 9 \n",
		"cpuset/c/cpuset.cpus":             "0-1,3\n",
		"cpuset/new/cpuset.cpus":           "0-1,3\n",
		"cpuset/new/cpuset.effective_cpus": "1\n",
	})
	r := open(t, h, map[string]string{"cpu": "/c", "cpuacct": "/c", "cpuset": "/c"})
	c := CPU{PerCPU: make([]CPUUse, 9)}
	if err := r.CPU(&c); err != nil {
		t.Fatal(err)
	}
	want := []CPUUse{{3071257373, 3091796445, 4000000}, {}, {9, 7, 1}}
	if c.Count() != 1 || c.ThrottledPeriods != 3 || c.Throttled != 1234 || !slices.Equal(c.PerCPU, want) ||
		c.Total != (CPUTime{User: 6_040_000_000, System: 70_000_000}) {
		t.Errorf("got %+v", c)
	}
	if ids, err := r.Cpuset(nil); err != nil || !slices.Equal(ids, []int{0, 1, 3}) {
		t.Errorf("old cpuset: %v, %v", ids, err)
	}
	r = open(t, h, map[string]string{"cpuset": "/new"})
	if ids, err := r.Cpuset(nil); err != nil || !slices.Equal(ids, []int{1}) {
		t.Errorf("cpuset: %v, %v", ids, err)
	}
}

func TestTasksOfGroupsBelowCountToo(t *testing.T) {
	h, root := fixture(t, true, map[string]string{
		"c/cgroup.threads":       "10\n11\n",
		"c/pids.current":         "5000\n",
		"c/in/cgroup.threads":    "12\n",
		"c/in/er/cgroup.threads": strings.Repeat("4000000\n", 3000), // cut by the buffer's end
	})
	r := open(t, h, map[string]string{"": "/c"})
	tids, total, err := r.Tasks(nil, 10000)
	if err != nil || len(tids) != 3003 || total != 3003 || tids[0] != 10 || tids[3002] != 4000000 {
		t.Errorf("got %d of %d, %v", len(tids), total, err)
	}
	tids, total, err = r.Tasks(nil, 2)
	if err != nil || !slices.Equal(tids, []int{10, 11}) || total != 5000 {
		t.Errorf("got %v of %d, %v", tids, total, err)
	}
	os.RemoveAll(filepath.Join(root, "c"))
	if _, _, err = r.Tasks(nil, 2); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestAMissingFileIsFoundOnceItIsThere(t *testing.T) {
	h, root := fixture(t, true, map[string]string{"c/cgroup.procs": ""})
	r := open(t, h, map[string]string{"": "/c"})
	if ids, err := r.Cpuset(nil); err != nil || ids != nil {
		t.Fatalf("without a cpuset: %v, %v", ids, err)
	}
	put(t, filepath.Join(root, "c/cpuset.cpus.effective"), "3\n")
	time.Sleep(absentFor)
	if ids, err := r.Cpuset(nil); err != nil || !slices.Equal(ids, []int{3}) {
		t.Errorf("got %v, %v", ids, err)
	}
	r.Release()
	if n := r.Descriptors(); n != 0 {
		t.Errorf("%d descriptors after Release", n)
	}
	if ids, err := r.Cpuset(nil); err != nil || !slices.Equal(ids, []int{3}) {
		t.Errorf("after Release: %v, %v", ids, err)
	}
	r.Close()
	if _, err := r.Cpuset(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A fifo without a writer hangs at its open, as a file of the kernel's may.
func TestAFileThatHangsHoldsNoOtherUp(t *testing.T) {
	h, root := fixture(t, true, map[string]string{
		"c/memory.current": "400\n",
		"c/cpu.stat":       "usage_usec 30\nuser_usec 20\nsystem_usec 10\n",
	})
	fifo := filepath.Join(root, "c/memory.stat")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	r := open(t, h, map[string]string{"": "/c"})
	memory := make(chan error, 1)
	go func() {
		_, err := r.Memory()
		memory <- err
	}()
	others := make(chan error, 1)
	go func() {
		for r.Descriptors() == 0 { // until it is at the second file
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		var c CPU
		// Twice: the cpu.max that is not there is looked for again.
		err := r.CPU(&c)
		time.Sleep(absentFor)
		r.Release()
		others <- errors.Join(err, r.CPU(&c))
	}()
	select {
	case err := <-others:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the CPU's files wait for the memory's")
	}
	select {
	case err := <-memory:
		t.Fatalf("the memory does not hang: %v", err)
	default:
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := <-memory; !errors.Is(err, unix.ESPIPE) { // pread of a fifo
		t.Errorf("let go, it says %v", err)
	}
}

func TestOpenRefusesAHostWithoutControllers(t *testing.T) {
	if _, err := (Hierarchies{}).Open(map[string]string{"": "/"}); !errors.Is(err, ErrNoController) {
		t.Errorf("got %v", err)
	}
}
