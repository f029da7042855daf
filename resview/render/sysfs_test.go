package render

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
)

func TestCPUMasks(t *testing.T) {
	for _, c := range []struct {
		ids, shown []int
		want       string
	}{
		{[]int{0}, []int{0}, "1\n"},
		{[]int{1}, []int{0, 1}, "2\n"},
		{[]int{2, 4}, []int{2, 3, 4}, "14\n"},
		{nil, []int{0, 1, 2, 3, 4}, "00\n"},
		{[]int{31}, []int{31}, "80000000\n"},
		{[]int{0, 32}, []int{0, 32}, "1,00000001\n"},
		{[]int{5, 64}, []int{5, 70}, "01,00000000,00000020\n"},
	} {
		got := string(appendCPUMask(nil, c.ids, c.shown))
		if got != c.want {
			t.Errorf("%v of %v: %q, want %q", c.ids, c.shown, got, c.want)
		}
		if back, err := parseCPUMask(nil, []byte(got)); err != nil || !slices.Equal(back, c.ids) {
			t.Errorf("%q: %v, %v, want %v", got, back, err, c.ids)
		}
	}
	for _, bad := range []string{"x", "0x1", "-1", "1 2", strings.Repeat("f", 3000)} {
		if ids, err := parseCPUMask(nil, []byte(bad)); err == nil {
			t.Errorf("%.20q: %v", bad, ids)
		}
	}
}

func TestWhatIsNotInTheDirectories(t *testing.T) {
	c, _ := copied(t, "v2", v2Group) // which shows the CPUs 2 to 4
	now := time.Unix(1800000000, 0)
	system := filepath.Join(c.host.root, "sys/devices/system")
	if err := os.Chmod(filepath.Join(system, "cpu/modalias"), 0o400); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		"cpu/cpu0/topology/core_id", "cpu/cpu5/online", "cpu/cpu7/node1", "node/node0/cpu5", "node/node1/cpulist",
		"cpu/cpu2/cache/index7/size", // the machine has none
		"cpu/modalias",               // not for everyone to read
		"pressure/irq",
	} {
		if got, err := c.Render(nil, file, now); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrUnknownFile) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	for _, file := range []string{"cpu", "cpu/cpu2", "cpu/cpu2/topology", "node", "../etc/passwd", "cpu/../../../../etc/passwd", "cpu/cpu2/thermal_throttle/core_throttle_count"} {
		if got, err := c.Render(nil, file, now); !errors.Is(err, ErrUnknownFile) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	for _, directory := range []string{"cpu/cpu5", "cpu/cpu5/topology", "node/node1", "proc", "", "cpu/cpu2/nothing"} {
		if got, err := c.List(nil, directory, now); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", directory, got, err)
		}
	}
	// A kernel without NUMA has none of it.
	if err := os.RemoveAll(filepath.Join(system, "node")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.List(nil, "node", now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("node: %v, %v", got, err)
	}
}

func TestDirectoriesFollowTheQuota(t *testing.T) {
	c, dir := copied(t, "v2", v2Group)
	now := time.Unix(1800000000, 0)
	for _, step := range []struct{ quota, list, mask, siblings string }{
		{"max 100000", "2-4\n", "1c\n", "2-4\n"}, // the pod's quota
		{"150000 100000", "2-3\n", "c\n", "2-3\n"},
		{"100000 100000", "2\n", "4\n", "2\n"},
	} {
		write(t, dir+"/cpu.max", step.quota)
		for file, want := range map[string]string{
			"cpu/present": step.list, "node/node0/cpumap": step.mask, "cpu/cpu2/topology/core_siblings_list": step.siblings,
			"cpu/cpu2/topology/core_siblings": step.mask,
		} {
			if got := mustRender(t, c, file, now); got != want {
				t.Errorf("quota %s: %s is %q, want %q", step.quota, file, got, want)
			}
		}
	}
}

// The pressure of the group above, or of the machine, is not the container's.
func TestPressureIsTheOwnGroupsOrNone(t *testing.T) {
	c, dir := copied(t, "v2", v2Group)
	now := time.Unix(1800000000, 0)
	for _, kind := range []string{"cpu", "io", "memory"} {
		text, err := os.ReadFile(dir + "/" + kind + ".pressure")
		if err != nil {
			t.Fatal(err)
		}
		if got := mustRender(t, c, "pressure/"+kind, now); got != string(text) {
			t.Errorf("%s: %q, want %q", kind, got, text)
		}
		if err := os.Rename(dir+"/"+kind+".pressure", filepath.Dir(dir)+"/"+kind+".pressure"); err != nil {
			t.Fatal(err)
		}
	}
	c.group().Release()
	if got, err := c.Render(nil, "pressure/cpu", now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("only the group above has one: %q, %v", got, err)
	}
	if got, err := c.List(nil, "pressure", now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("only the group above has one: %v, %v", got, err)
	}
	for _, name := range []string{"v1", "v1-parent"} {
		if got, err := openFixture(t, name).List(nil, "pressure", now); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestVmstat(t *testing.T) {
	host := &hostMemory{Total: 1024 * mib}
	var known cgroup.MemoryEvents
	for i, name := range cgroup.MemoryEventNames() {
		if name == "pgfault" || name == "oom_kill" || name == "workingset_refault_file" {
			known.Known[i], known.Counts[i] = true, uint64(100+i)
		}
	}
	for _, c := range []struct {
		name       string
		page, huge uint64
		events     cgroup.MemoryEvents
		has, hasNo []string
	}{
		{
			"pages of 4 KiB", 4096, 2 * mib, known,
			[]string{
				"nr_anon_pages 2048\n", "nr_anon_transparent_hugepages 2\n", "nr_kernel_stack 64\n",
				"pgpgin 3\n", "pgpgout 5\n", "oom_kill 124\n", "pgfault 112\n",
			},
			[]string{"pgscan", "workingset_refault_anon"},
		},
		{
			"pages of 64 KiB", 65536, 512 * mib, known,
			[]string{"nr_anon_pages 128\n", "nr_anon_transparent_hugepages 0\n", "nr_kernel_stack 64\n"},
			nil,
		},
		{
			"a kernel that counts nothing, without huge pages", 4096, 0,
			cgroup.MemoryEvents{},
			[]string{"pswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n"},
			[]string{"hugepages", "oom_kill", "workingset", "pgscan"},
		},
	} {
		m := unlimited()
		m.Detailed, m.Anon, m.AnonHuge, m.KernelStack = true, 8*mib, 4*mib, 64<<10
		r := pageReadings{memory: &m, events: &c.events, host: host, page: c.page, huge: c.huge}
		got := "\n" + string(appendVmstat(nil, &r, 7, 11))
		for _, line := range c.has {
			if !strings.Contains(got, "\n"+line) {
				t.Errorf("%s: no %q in %s", c.name, line, got)
			}
		}
		for _, key := range c.hasNo {
			if strings.Contains(got, key) {
				t.Errorf("%s: %q in %s", c.name, key, got)
			}
		}
		zone := string(appendZoneinfo(nil, &r))
		if want := "  pages free     " + strings.TrimPrefix(strings.SplitN(got, "\n", 3)[1], "nr_free_pages "); !strings.Contains(zone, want) {
			t.Errorf("%s: no %q in %s", c.name, want, zone)
		}
	}
}
