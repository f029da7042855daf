package layout

import (
	"strings"
	"testing"
)

// TestNumbersStayAsTheyAre: the kernel of a node keeps them while candord is
// upgraded. Whoever has to change this test breaks running containers.
func TestNumbersStayAsTheyAre(t *testing.T) {
	l := New()
	for path, want := range map[string]uint64{
		"cpu/online":                            0,
		"cpu/cpu0":                              12,
		"cpu/cpu3":                              3<<13 | 12,
		"cpu/cpu3/cache/index2":                 3<<13 | 2<<9 | 19,
		"cpu/cpu3/cache/index2/shared_cpu_map":  3<<13 | 2<<9 | 21,
		"node/node0/numastat":                   37,
		"pressure/memory":                       41,
		"cpu/vulnerabilities/vmscape":           60,
		"cpu/cpu8191/topology/core_id":          8191<<13 | 64,
		"cpu/cpu1/topology/drawer_siblings":     1<<13 | 81,
		"cpu/cpu1/cache/index15/size":           1<<13 | 15<<9 | 89,
		"cpu/cpu1/cpufreq/base_frequency":       1<<13 | 93,
		"cpu/cpu1/acpi_cppc/wraparound_time":    1<<13 | 110,
		"cpu/cpu1/regs/identification/midr_el1": 1<<13 | 111,
	} {
		n, ok := l.Find(path)
		if !ok || n.Number() != want {
			t.Errorf("%s: number %d, found %v, want %d", path, n.Number(), ok, want)
		}
	}
}

func TestPathsAndNumbersAreOneToOne(t *testing.T) {
	l := New()
	if len(l.patterns) != len(l.entries) || len(l.entries) > 1<<entryBits {
		t.Fatalf("%d patterns, %d entries", len(l.patterns), len(l.entries))
	}
	seen := map[uint64]string{}
	for _, e := range l.entries {
		path := strings.NewReplacer("#", "8191", "@", "15").Replace(e.pattern)
		n, ok := l.Find(path)
		if !ok || n.Kind() != e.kind || l.Path(n) != path {
			t.Fatalf("%s: %+v, %v", path, n, ok)
		}
		if other := seen[n.Number()]; other != "" || n.Number() >= 1<<Bits {
			t.Errorf("%s and %s have the number %d", path, other, n.Number())
		}
		seen[n.Number()] = path
		if back, ok := l.Node(n.Number()); !ok || back != n {
			t.Errorf("%s: %+v came back as %+v, %v", path, n, back, ok)
		}
		if parent, _, _ := cutLast(path); strings.Contains(parent, "/") {
			if p, ok := l.Find(parent); !ok || p.Kind() != Directory {
				t.Errorf("%s is in no directory", path)
			}
		}
	}
}

func cutLast(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:], i >= 0
}

func TestWhatIsNoPath(t *testing.T) {
	l := New()
	for _, path := range []string{
		"", "cpu", "cpu/", "/cpu/online", "cpu/cpu", "cpu/cpu#", "cpu/cpu01", "cpu/cpu-1", "cpu/cpu+1", "cpu/cpu8192",
		"cpu/cpu99999999999999999999", "cpu/cpu1/cache/index16", "cpu/cpu1/cache/index@", "cpu/../node/online",
		"cpu/cpu1/thermal_throttle", "cpu/cpu1/topology/ppin", "cpu/cpu1/cpuidle", "cpu/cpu1/uevent", "cpu/cpu1/node1", "cpu/cpufreq", "node/node1",
		"node/node0/cpu1/online",
	} {
		if n, ok := l.Find(path); ok {
			t.Errorf("%q: %+v", path, n)
		}
	}
	for _, number := range []uint64{511, 1 << 13, 1<<9 | 12, 1 << 26, ^uint64(0)} {
		if n, ok := l.Node(number); ok {
			t.Errorf("%d: %+v, %s", number, n, l.Path(n))
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("cpu/cpu3/topology", uint64(12))
	f.Fuzz(func(t *testing.T, path string, number uint64) {
		l := New()
		if n, ok := l.Find(path); ok && (l.Path(n) != path || n.Number() >= 1<<Bits) {
			t.Errorf("%q is %q, %d", path, l.Path(n), n.Number())
		}
		if n, ok := l.Node(number); ok && n.Number() != number {
			t.Errorf("%d is %d", number, n.Number())
		}
	})
}
