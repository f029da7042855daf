package render

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview/layout"
)

var update = flag.Bool("update", false, "write the golden files")

// fixtures are trees in testdata, with the container that is looked at: those in
// testdata/hosts say there what shape they have and where it comes from.
//
// v1 is a hybrid host with 2 CPUs and no swap; the container has 256 MiB inside
// a group of 512 MiB and 0.8 CPUs, wanted by two tasks. v2 is a host with 8
// CPUs, swap and huge pages; the container has no limits of its own, its pod
// has 1 GiB, 256 MiB of swap, 2.5 CPUs and the CPUs 2-6.
func fixtures() map[string]ledger.View {
	v1 := map[string]string{"": "/"}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
		v1[c] = "/candor-test-rec/box"
	}
	v2 := map[string]string{"": "/kubepods.slice/pod1.slice/cri-1.scope"}
	v1Swap := map[string]string{}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "hugetlb", "pids"} {
		v1Swap[c] = "/kubepods/pod7/web"
	}
	hybrid := map[string]string{"": "/docker/9f2c"}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset"} {
		hybrid[c] = "/docker/9f2c"
	}
	return map[string]ledger.View{
		"v1-swap": {ID: 5, Cgroups: v1Swap, BoottimeOffset: -55320 * time.Second},
		"hybrid":  {ID: 6, Cgroups: hybrid, BoottimeOffset: -50321 * time.Second},
		"v2-numa": {
			ID: 7, Cgroups: map[string]string{"": "/kubepods.slice/kubepods-podab.slice/cri-containerd-77.scope"},
			BoottimeOffset: -36000 * time.Second,
		},
		"v2-old":    {ID: 8, Cgroups: map[string]string{"": "/user.slice/user-1000.slice/libpod-5.scope"}, BoottimeOffset: -1200 * time.Second},
		"v1":        {ID: 1, Cgroups: v1, BoottimeOffset: -(3196*time.Second + 123456789)},
		"v2":        {ID: 2, Cgroups: v2, BoottimeOffset: -86400 * time.Second},
		"v2-no-ns":  {ID: 3, Cgroups: v2},
		"v1-parent": {ID: 4, Cgroups: map[string]string{"memory": "/", "cpu": "/", "cpuacct": "/", "cpuset": "/", "blkio": "/", "pids": "/"}},
	}
}

func openFixture(t testing.TB, name string) *Container {
	t.Helper()
	host, err := NewHost(fixtureRoot(t, name))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(fixtures()[name], host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := host.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// paths are all that a container renders: its files, and whatever is in its
// directories.
func paths(t testing.TB, c *Container, now time.Time) []string {
	t.Helper()
	all := Names()
	for _, top := range []string{"cpu", "node", "pressure"} {
		all = append(all, pathsBelow(t, c, top, now)...)
	}
	return all
}

func pathsBelow(t testing.TB, c *Container, directory string, now time.Time) (all []string) {
	t.Helper()
	names, err := c.List(nil, directory, now)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		p := directory + "/" + name
		if node, known := c.host.layout.Find(p); !known {
			t.Errorf("%s is listed and has no node", p)
		} else if node.Kind() == layout.Directory {
			all = append(all, pathsBelow(t, c, p, now)...)
		} else {
			all = append(all, p)
		}
	}
	return all
}

// TestGolden compares the files one by one, and what is in the directories all
// together, each line after its path.
func TestGolden(t *testing.T) {
	now := time.Unix(1800000000, 0)
	for name := range fixtures() {
		t.Run(name, func(t *testing.T) {
			c := openFixture(t, name)
			var below bytes.Buffer
			for _, file := range paths(t, c, now) {
				got, err := c.Render([]byte("before|"), file, now)
				if err != nil {
					t.Errorf("%s: %v", file, err)
					continue
				}
				got, kept := bytes.CutPrefix(got, []byte("before|"))
				if !kept {
					t.Errorf("%s was not appended", file)
				}
				if strings.Contains(file, "/") {
					for line := range strings.Lines(string(got)) {
						fmt.Fprintf(&below, "%s: %s\n", file, strings.TrimSuffix(line, "\n"))
					}
					continue
				}
				compare(t, filepath.Join("testdata", name+".golden", file), got)
			}
			compare(t, filepath.Join("testdata", name+".golden", "directories"), below.Bytes())
		})
	}
}

func compare(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s:\n%s", golden, got)
	}
}
