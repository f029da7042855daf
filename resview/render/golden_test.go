package render

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"candor.dev/candor/ledger"
)

var update = flag.Bool("update", false, "write the golden files")

// fixtures are recorded trees in testdata, with the container that is looked at.
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
	return map[string]ledger.View{
		"v1":        {ID: 1, Cgroups: v1, BoottimeOffset: -(3196*time.Second + 123456789)},
		"v2":        {ID: 2, Cgroups: v2, BoottimeOffset: -86400 * time.Second},
		"v2-no-ns":  {ID: 3, Cgroups: v2},
		"v1-parent": {ID: 4, Cgroups: map[string]string{"memory": "/", "cpu": "/", "cpuacct": "/", "cpuset": "/", "blkio": "/", "pids": "/"}},
	}
}

func openFixture(t testing.TB, name string) *Container {
	t.Helper()
	host, err := NewHost(filepath.Join("testdata", name[:2]))
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

func TestGolden(t *testing.T) {
	for name := range fixtures() {
		t.Run(name, func(t *testing.T) {
			c := openFixture(t, name)
			for _, file := range Names() {
				got, err := c.Render([]byte("before|"), file, time.Unix(1800000000, 0))
				if err != nil {
					t.Errorf("%s: %v", file, err)
					continue
				}
				got, kept := bytes.CutPrefix(got, []byte("before|"))
				if !kept {
					t.Errorf("%s was not appended", file)
				}
				golden := filepath.Join("testdata", name+".golden", file)
				if *update {
					if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
					continue
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs from %s:\n%s", file, golden, got)
				}
			}
		})
	}
}
