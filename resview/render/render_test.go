package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
	"candor.dev/candor/resview/layout"
)

// copied gives a container of a fixture whose files the test may change, and
// the container's directory.
func copied(t testing.TB, name, group string) (c *Container, dir string) {
	t.Helper()
	root := fixtureRoot(t, name)
	if !filepath.IsAbs(root) { // recorded, and not made for this test
		recorded := root
		root = t.TempDir()
		if err := os.CopyFS(root, os.DirFS(recorded)); err != nil {
			t.Fatal(err)
		}
	}
	host, err := NewHost(root)
	if err != nil {
		t.Fatal(err)
	}
	c, err = Open(fixtures()[name], host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); host.Close() })
	return c, filepath.Join(root, "sys/fs/cgroup", group)
}

const v2Group = "kubepods.slice/pod1.slice/cri-1.scope"

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustRender(t testing.TB, c *Container, file string, now time.Time) string {
	t.Helper()
	b, err := c.Render(nil, file, now)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// field gives the number after key at a line's start.
func field(t testing.TB, text, key string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(key) + `[: ]\s*(\d+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in:\n%s", key, text)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// numbers gives the numbers after the first word of the line that key begins.
func numbers(t testing.TB, text, key string) (n []int) {
	t.Helper()
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != key {
			continue
		}
		for _, f := range fields[1:] {
			v, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, v)
		}
		return n
	}
	t.Fatalf("no %s line in:\n%s", key, text)
	return nil
}

func TestContentIsReusedAndThenFollowsTheLimits(t *testing.T) {
	c, dir := copied(t, "v2", v2Group)
	now := time.Unix(1800000000, 0)
	for _, step := range []struct {
		after       time.Duration
		memory, cpu string
		total       int
		online      string
	}{
		{0, "max", "max 100000", 1 << 20, "2-4\n"},
		{Reuse - 1, "104857600", "100000 100000", 1 << 20, "2-4\n"},
		{Reuse, "104857600", "100000 100000", 102400, "2\n"},
		{2 * Reuse, "max", "1000000 100000", 1 << 20, "2-4\n"},
	} {
		write(t, dir+"/memory.max", step.memory)
		write(t, dir+"/cpu.max", step.cpu)
		at := now.Add(step.after)
		if got := field(t, mustRender(t, c, "meminfo", at), "MemTotal"); got != step.total {
			t.Errorf("after %v: MemTotal %d, want %d", step.after, got, step.total)
		}
		if got := mustRender(t, c, "cpu-online", at); got != step.online {
			t.Errorf("after %v: online %q, want %q", step.after, got, step.online)
		}
	}
}

func TestADeadContainerShowsItsLastContent(t *testing.T) {
	c, dir := copied(t, "v2", v2Group)
	now := time.Unix(1800000000, 0)
	last := mustRender(t, c, "meminfo", now)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.group().Release() // plain files outlive their directory, kernfs files do not
	now = now.Add(time.Second)
	if got := mustRender(t, c, "meminfo", now); got != last {
		t.Errorf("got %q, want the last content", got)
	}
	if got, ok := c.Last([]byte("x"), "meminfo"); !ok || string(got) != "x"+last {
		t.Errorf("Last: %q, %v", got, ok)
	}
	for _, file := range []string{"stat", "loadavg", "swaps"} {
		got, err := c.Render([]byte("x"), file, now)
		if !errors.Is(err, cgroup.ErrGone) || string(got) != "x" {
			t.Errorf("%s, never read before: %q, %v", file, got, err)
		}
		if _, ok := c.Last(nil, file); ok {
			t.Errorf("Last of %s", file)
		}
	}
}

func TestUnknownFilesAreRefused(t *testing.T) {
	c := openFixture(t, "v2")
	for _, file := range []string{"", "version", "meminfo2"} {
		if _, err := c.Render(nil, file, time.Now()); !errors.Is(err, ErrUnknownFile) {
			t.Errorf("%q: %v", file, err)
		}
	}
	for i, name := range Names() {
		if indexOf(name) != i {
			t.Errorf("%s is at %d", name, indexOf(name))
		}
	}
	if _, err := Open(ledger.View{ID: 1}, c.host); err == nil {
		t.Error("a view without cgroups was opened")
	}
}

func TestManyReadersOfManyFiles(t *testing.T) {
	c := openFixture(t, "v2")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 300 {
				for _, file := range Names() {
					now := time.Unix(1800000000, int64(i)*int64(Reuse)/3)
					if b, err := c.Render(nil, file, now); err != nil || len(b) == 0 {
						t.Errorf("%s: %q, %v", file, b, err)
					}
				}
				if i%50 == 0 {
					c.group().Release()
					c.host.trim(time.Unix(1800000000, 0))
				}
			}
		})
	}
	wg.Wait()
}

func TestIdleContainersHoldNothing(t *testing.T) {
	c := openFixture(t, "v2")
	now := time.Unix(1800000000, 0)
	mustRender(t, c, "meminfo", now)
	if c.group().Descriptors() == 0 {
		t.Fatal("nothing is kept open")
	}
	c.host.trim(now.Add(idleAfter))
	if c.group().Descriptors() == 0 {
		t.Error("trimmed too early")
	}
	c.host.trim(now.Add(idleAfter + 1))
	if n := c.group().Descriptors(); n != 0 {
		t.Errorf("%d descriptors are held for an idle container", n)
	}
	mustRender(t, c, "meminfo", now.Add(2*idleAfter))
}

func TestDescriptorsAreTakenFromThoseAskedLongestAgo(t *testing.T) {
	host, err := NewHost("testdata/v2")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	now := time.Unix(1800000000, 0)
	var all []*Container
	for i := range 4 {
		c, err := Open(fixtures()["v2"], host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		mustRender(t, c, "meminfo", now.Add(time.Duration(3-i)*time.Second))
		all = append(all, c)
	}
	host.maxDescriptors = 2 * all[0].group().Descriptors()
	host.trim(now)
	for i, want := range []bool{true, true, false, false} {
		if held := all[i].group().Descriptors() > 0; held != want {
			t.Errorf("container %d, asked %d s ago, holds descriptors: %v", i, i, held)
		}
	}
	host.shrink(all[1])
	if all[1].group().Descriptors() == 0 {
		t.Error("the spared one lost its descriptors")
	}
}

// TestNoHostLineLeaks changes every number of the host's files and checks that
// no line but those that are the machine's by their nature follows.
func TestNoHostLineLeaks(t *testing.T) {
	for _, name := range []string{"v2", "v2-numa", "v1", "v1-swap", "hybrid"} { // v2-old has no limit
		t.Run(name, func(t *testing.T) { noHostLineLeaks(t, name) })
	}
}

func noHostLineLeaks(t *testing.T, name string) {
	now := time.Unix(1800000000, 0)
	before, _ := copied(t, name, "")
	after, _ := copied(t, name, "")
	root := after.host.root
	for _, file := range []string{"meminfo", "diskstats", "stat", "uptime"} {
		text, err := os.ReadFile(filepath.Join(root, "proc", file))
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(`(?m)(\d+)( kB)?$`).ReplaceAllFunc(text, func(b []byte) []byte {
			return append([]byte("1"), b...)
		})
		// A constant, what the container's age is reckoned from, and no swap at all.
		changed = regexp.MustCompile(`(?m)^(btime|Hugepagesize:|SwapTotal: +10 ).*$`).ReplaceAllFunc(changed, func(b []byte) []byte {
			return regexp.MustCompile(`(?m)^` + string(bytes.Fields(b)[0]) + `.*$`).Find(text)
		})
		if bytes.Equal(changed, text) {
			t.Fatal(file, "was not changed")
		}
		write(t, filepath.Join(root, "proc", file), string(changed))
	}
	// Of the pools of huge pages the container has what its pod is limited to.
	pools, err := filepath.Glob(filepath.Join(root, "sys/kernel/mm/hugepages/*/nr_hugepages"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pool := range pools {
		if text, err := os.ReadFile(pool); err != nil {
			t.Fatal(err)
		} else if string(text) != "0\n" {
			write(t, pool, "1"+string(text))
		}
	}
	// Of the CPUs below sys only constants are shown; of the nodes nothing is read.
	system := filepath.Join(root, "sys/devices/system")
	write(t, filepath.Join(system, "node/online"), "0-7\n")
	write(t, filepath.Join(system, "node/node0/cpulist"), "0-63\n")
	for _, name := range []string{"present", "possible", "offline", "isolated"} {
		write(t, filepath.Join(system, "cpu", name), "1-63\n")
	}
	if name == "v2" {
		for _, name := range []string{"topology/core_siblings_list", "cache/index3/shared_cpu_list"} {
			write(t, filepath.Join(system, "cpu/cpu3", name), "0-63\n")
		}
		write(t, filepath.Join(system, "cpu/cpu3/topology/core_siblings"), "ffffffff,ffffffff\n")
		write(t, filepath.Join(system, "cpu/enabled"), "1-63\n")
	}
	for _, file := range paths(t, after, now) {
		a, b := mustRender(t, before, file, now), mustRender(t, after, file, now.Add(time.Hour))
		if a != b {
			t.Errorf("%s follows the host:\n%s\n%s", file, a, b)
		}
	}
}

func TestFilesAgreeOnTheMemory(t *testing.T) {
	for name := range fixtures() {
		c := openFixture(t, name)
		now := time.Unix(1800000000, 0)
		meminfo, vmstat, zoneinfo := mustRender(t, c, "meminfo", now), mustRender(t, c, "vmstat", now), mustRender(t, c, "zoneinfo", now)
		node := strings.ReplaceAll(mustRender(t, c, "node/node0/meminfo", now), "Node 0 ", "")
		for _, key := range []string{"MemTotal", "MemFree", "Dirty", "Shmem", "AnonPages", "Mapped", "Slab", "Inactive(file)"} {
			if a, b := field(t, meminfo, key), field(t, node, key); a != b {
				t.Errorf("%s: %s: %d kB, the node's %d kB", name, key, a, b)
			}
		}
		zone := func(key string) int {
			m := regexp.MustCompile(`(?m)^ +` + key + ` +(\d+)$`).FindStringSubmatch(zoneinfo)
			if m == nil {
				t.Fatalf("no %s in:\n%s", key, zoneinfo)
			}
			n, _ := strconv.Atoi(m[1])
			return n
		}
		if zone("managed") != field(t, meminfo, "MemTotal")/4 || zone("pages free") != field(t, meminfo, "MemFree")/4 {
			t.Errorf("%s: zoneinfo %s\nmeminfo %s", name, zoneinfo, meminfo)
		}
		for key, want := range map[string]string{
			"nr_free_pages": "MemFree", "nr_anon_pages": "AnonPages", "nr_mapped": "Mapped", "nr_shmem": "Shmem", "nr_dirty": "Dirty",
			"nr_slab_unreclaimable": "SUnreclaim", "nr_active_file": "Active(file)",
		} {
			if got := field(t, vmstat, key); got != field(t, meminfo, want)/4 || got != zone(key) {
				t.Errorf("%s: %s: %d in vmstat, %d in zoneinfo, %s %d kB", name, key, got, zone(key), want, field(t, meminfo, want))
			}
		}
	}
}

func TestUptimeAgreesWithStat(t *testing.T) {
	for name := range fixtures() {
		c := openFixture(t, name)
		now := time.Unix(1800000000, 0)
		stat := mustRender(t, c, "stat", now)
		uptime, idle, _ := strings.Cut(mustRender(t, c, "uptime", now), " ")
		if want := fmt.Sprintf("%d.%02d\n", numbers(t, stat, "cpu")[3]/100, numbers(t, stat, "cpu")[3]%100); idle != want {
			t.Errorf("%s: idle for %q, by stat %q", name, idle, want)
		}
		age, err := parseUptime([]byte(uptime))
		if err != nil {
			t.Fatal(err)
		}
		hostAge, boot, err := c.host.clocks(now)
		if err != nil {
			t.Fatal(err)
		}
		// The present, by both, to the second that btime is cut to.
		off := age + time.Duration(field(t, stat, "btime"))*time.Second - hostAge - time.Duration(boot)
		if off > 10*time.Millisecond || off < -time.Second-10*time.Millisecond {
			t.Errorf("%s: uptime and btime are %v off", name, off)
		}
	}
}

func TestFilesAgreeOnTheCPUs(t *testing.T) {
	for name := range fixtures() {
		c := openFixture(t, name)
		now := time.Unix(1800000000, 0)
		online, err := cgroup.ParseList(nil, []byte(mustRender(t, c, "cpu-online", now)))
		if err != nil {
			t.Fatal(err)
		}
		var stat, info []int
		for _, m := range regexp.MustCompile(`(?m)^cpu(\d+) `).FindAllStringSubmatch(mustRender(t, c, "stat", now), -1) {
			n, _ := strconv.Atoi(m[1])
			stat = append(stat, n)
		}
		for _, m := range regexp.MustCompile(`(?m)^processor\s*: (\d+)`).FindAllStringSubmatch(mustRender(t, c, "cpuinfo", now), -1) {
			n, _ := strconv.Atoi(m[1])
			info = append(info, n)
		}
		if a := fmt.Sprint(online); a != fmt.Sprint(stat) || a != fmt.Sprint(info) {
			t.Errorf("%s: online %v, stat %v, cpuinfo %v", name, online, stat, info)
		}
		list := string(appendCPUOnline(nil, online))
		for _, file := range []string{"cpu/online", "cpu/present", "node/node0/cpulist"} {
			if got := mustRender(t, c, file, now); got != list {
				t.Errorf("%s: %s says %q, online %q", name, file, got, list)
			}
		}
		possible, err := cgroup.ParseList(nil, []byte(mustRender(t, c, "cpu/possible", now)))
		if err != nil || possible[0] != 0 || len(possible) <= slices.Max(online) {
			t.Errorf("%s: possible %v, %v, online %v", name, possible, err, online)
		}
		mask, err := parseCPUMask(nil, []byte(mustRender(t, c, "node/node0/cpumap", now)))
		if err != nil || !slices.Equal(mask, online) {
			t.Errorf("%s: cpumap %v, %v, online %v", name, mask, err, online)
		}
		for _, directory := range []string{"cpu", "node/node0"} {
			names, err := c.List(nil, directory, now)
			if name == "v2-old" && directory == "node/node0" && errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without NUMA
			}
			if err != nil {
				t.Fatal(err)
			}
			names = slices.DeleteFunc(names, func(name string) bool { _, is := numbered(name, "cpu"); return !is })
			if want := appendNumbered(nil, "cpu", online); !slices.Equal(names, want) {
				t.Errorf("%s: %s has %v, want %v", name, directory, names, want)
			}
		}
		// No list and no mask names a CPU that is not shown.
		for _, file := range paths(t, c, now) {
			node, ok := c.host.layout.Find(file)
			if !ok || node.Kind() != layout.CPUList && node.Kind() != layout.CPUMask {
				continue
			}
			parse := cgroup.ParseList
			if node.Kind() == layout.CPUMask {
				parse = parseCPUMask
			}
			ids, err := parse(nil, []byte(mustRender(t, c, file, now)))
			if err != nil || len(ids) == 0 {
				t.Errorf("%s: %s: %v, %v", name, file, ids, err)
			}
			for _, id := range ids {
				if !slices.Contains(online, id) {
					t.Errorf("%s: %s names CPU %d", name, file, id)
				}
			}
		}
	}
}
