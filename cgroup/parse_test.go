package cgroup

import (
	"bytes"
	"maps"
	"slices"
	"testing"
)

func TestParseProcSplitsControllersAndKeepsColonsInPaths(t *testing.T) {
	got, err := ParseProc([]byte("9:name=systemd:/a\n4:memory:/x:y\n2:cpu,cpuacct:/z\n0::/u\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"name=systemd": "/a", "memory": "/x:y", "cpu": "/z", "cpuacct": "/z", "": "/u",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "\n", "garbage\n", "1:memory\n", "1:memory:relative\n"} {
		if got, err := ParseProc([]byte(bad)); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 master:2 - cgroup cgroup rw,memory
36 31 0:32 /docker/x /mnt/one\040more rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
short line
`
	h := ParseMounts([]byte(hybrid))
	want := map[string]Mount{
		"cpu": {"/sys/fs/cgroup/cpu,cpuacct", "/"}, "cpuacct": {"/sys/fs/cgroup/cpu,cpuacct", "/"},
		"memory": {"/sys/fs/cgroup/memory", "/"}, "name=systemd": {"/sys/fs/cgroup/systemd", "/"},
	}
	if !maps.Equal(h.V1, want) {
		t.Errorf("v1: got %v, want %v", h.V1, want)
	}
	if want := (Mount{"/sys/fs/cgroup/unified", "/"}); h.Unified != want {
		t.Errorf("v2: got %v, want %v", h.Unified, want)
	}

	h = ParseMounts([]byte(`36 31 0:32 /docker/x /mnt/one\040more rw - cgroup2 none rw` + "\n"))
	if want := (Mount{"/mnt/one more", "/docker/x"}); h.Unified != want {
		t.Errorf("v2 in a container: got %v, want %v", h.Unified, want)
	}
}

func TestDirsClimbToWhatIsVisible(t *testing.T) {
	h := Hierarchies{
		V1: map[string]Mount{
			"memory": {"/cg/memory", "/"},
			"cpu":    {"/cg/cpu", "/docker/abc"},
		},
		Unified: Mount{"/cg/unified", "/"},
	}
	paths := map[string]string{"memory": "/a/b", "cpu": "/docker/abc/c", "": "/u"}
	for _, c := range []struct {
		controller string
		paths      map[string]string
		dirs       []string // nil: an error
		version    int
	}{
		{"memory", paths, []string{"/cg/memory/a/b", "/cg/memory/a", "/cg/memory"}, 1},
		{"memory", map[string]string{"memory": "/"}, []string{"/cg/memory"}, 1},
		{"cpu", paths, []string{"/cg/cpu/c", "/cg/cpu"}, 1},
		{"cpu", map[string]string{"cpu": "/docker/abc"}, []string{"/cg/cpu"}, 1},
		{"cpu", map[string]string{"cpu": "/docker/abcd"}, nil, 0},
		{"cpu", map[string]string{"cpu": "/elsewhere"}, nil, 0},
		{"memory", map[string]string{"memory": "/../up"}, nil, 0},
		{"memory", map[string]string{"memory": "/.."}, nil, 0},
		{"memory", map[string]string{"memory": "relative"}, nil, 0},
		{"pids", paths, []string{"/cg/unified/u", "/cg/unified"}, 2},
		{"pids", map[string]string{}, nil, 0},
	} {
		dirs, version, err := h.dirs(c.paths, c.controller)
		if (err == nil) != (c.dirs != nil) {
			t.Errorf("%s in %v: error %v", c.controller, c.paths, err)
			continue
		}
		if err == nil && (!slices.Equal(dirs, c.dirs) || version != c.version) {
			t.Errorf("%s in %v: got %v of v%d, want %v of v%d", c.controller, c.paths, dirs, version, c.dirs, c.version)
		}
	}
}

func TestListsParseAndPrintBack(t *testing.T) {
	for text, want := range map[string][]int{
		"":          nil,
		"\n":        nil,
		"0\n":       {0},
		"0-3,8\n":   {0, 1, 2, 3, 8},
		"1,3-4,127": {1, 3, 4, 127},
	} {
		got, err := ParseList(nil, []byte(text))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if back := AppendList(nil, got); !bytes.Equal(back, bytes.TrimSpace([]byte(text))) {
			t.Errorf("%q: printed as %q", text, back)
		}
	}
	for _, bad := range []string{"a", "1-", "-1", "3-1", "1,", ",1", "1,,2", "2,1", "1,1", "0-99999999", "1 2", "0-18446744073709551616"} {
		if got, err := ParseList(nil, []byte(bad)); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestLimitsWithoutAValueAreNone(t *testing.T) {
	for text, want := range map[string]uint64{
		"max\n": NoLimit, "-1\n": NoLimit, "9223372036854771712\n": NoLimit, "9223372036854710272\n": NoLimit,
		"99999999999999999999999\n": NoLimit, "268435456\n": 268435456, "0\n": 0,
	} {
		if got := limit([]byte(text)); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestMemoryEventsOfBothVersions(t *testing.T) {
	for _, c := range []struct {
		text    string
		version int
		want    map[string]uint64
	}{
		{
			// v1's own pgpgin counts pages charged: not what /proc/vmstat means by it.
			"pgfault 1\npgpgin 2\ntotal_pgfault 30\ntotal_pgmajfault 0\ntotal_pgpgin 5\n", 1,
			map[string]uint64{"pgfault": 30, "pgmajfault": 0},
		},
		{
			"anon 4096\npgfault 7\npswpin 3\ntotal_pgfault 9\npgsteal 8\n", 2,
			map[string]uint64{"pgfault": 7, "pswpin": 3},
		},
		{"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2, map[string]uint64{"oom_kill": 2}},
	} {
		var e MemoryEvents
		e.parse([]byte(c.text), c.version)
		got := map[string]uint64{}
		for i, name := range MemoryEventNames() {
			if e.Known[i] {
				got[name] = e.Counts[i]
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%q: got %v, want %v", c.text, got, c.want)
		}
	}
}

func TestBlkioTakesTheLargerOfTwoLayers(t *testing.T) {
	var got []DeviceIO
	got = parseBlkio(got, []byte("8:0 Read 512\n8:0 Write 0\n8:0 Sync 512\n8:0 Total 512\n253:1 Discard 7\nTotal 519\n"), false)
	got = parseBlkio(got, []byte("8:0 Read 4\n8:0 Write 1\n"), true)
	got = parseBlkio(got, []byte("8:0 Read 1024\n"), false)
	want := []DeviceIO{
		{Major: 8, ReadBytes: 1024, ReadIOs: 4, WriteIOs: 1},
		{Major: 253, Minor: 1, DiscardBytes: 7},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = parseIOStat(nil, []byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n7:1 \nbad\n"))
	want = []DeviceIO{{8, 0, 1, 3, 2, 4, 5, 6}, {Major: 7, Minor: 1}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"0-3,8\n", "", "5", "1,2,3", "0-8191", "0-", "9-1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, err := ParseList(nil, text)
		if err != nil {
			return
		}
		again, err := ParseList(nil, AppendList(nil, ids))
		if err != nil || !slices.Equal(ids, again) {
			t.Errorf("%q: %v came back as %v, %v", text, ids, again, err)
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add([]byte("total_cache 104857600\nhierarchical_memory_limit 9223372036854771712\n"))
	f.Add([]byte("anon 1\nfile 2\nslab_reclaimable 3\n"))
	f.Add([]byte("cpu user system\n0 63377059552 18863038435\n1 1 1\n"))
	f.Add([]byte("8:0 rbytes=1 wbytes=2\n8:0 Read 12\n"))
	f.Add([]byte("8191 1 1\n8192 1 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parseMemoryStatV1(text)
		parseMemoryStatV2(text)
		var events MemoryEvents
		events.parse(text, 1)
		events.parse(text, 2)
		all := parseUsageAll(nil, text)
		if n := len(all); n > maxCPUs {
			t.Errorf("%d CPUs", n)
		}
		parseUsagePerCPU(all, text)
		parseBlkio(nil, text, true)
		parseIOStat(nil, text)
		_, _ = ParseProc(text)
		ParseMounts(text)
	})
}
