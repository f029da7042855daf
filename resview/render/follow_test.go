package render

import (
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

func TestFollowedGroups(t *testing.T) {
	recorded := map[string]string{"memory": "/a", "cpu": "/a"}
	for _, c := range []struct {
		name           string
		read, is, want map[string]string
	}{
		{"where it was", recorded, map[string]string{"memory": "/a", "cpu": "/a", "devices": "/z"}, recorded},
		{"below its own", recorded, map[string]string{"memory": "/a/init.scope", "cpu": "/a"}, recorded},
		{"moved in one hierarchy", recorded, map[string]string{"memory": "/ab", "cpu": "/a"}, map[string]string{"memory": "/ab", "cpu": "/a"}},
		{"below where it was moved to", map[string]string{"memory": "/b", "cpu": "/a"}, map[string]string{"memory": "/b/in", "cpu": "/a"}, map[string]string{"memory": "/b", "cpu": "/a"}},
		{"moved again", map[string]string{"memory": "/b", "cpu": "/b"}, map[string]string{"memory": "/c", "cpu": "/c/d"}, map[string]string{"memory": "/c", "cpu": "/c/d"}},
		{"moved back", map[string]string{"memory": "/b", "cpu": "/b"}, map[string]string{"memory": "/a/x", "cpu": "/a"}, recorded},
		{"in the machine's own", recorded, map[string]string{"memory": "/", "cpu": "/"}, recorded},
		{"in none", recorded, map[string]string{"": "/a"}, recorded},
	} {
		before := maps.Clone(c.read)
		if got := followed(recorded, c.read, c.is); !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if !maps.Equal(c.read, before) {
			t.Errorf("%s: what is read was changed", c.name)
		}
	}
}

func TestKernelGroupsAreFollowed(t *testing.T) {
	b := newBox(t)
	b.set("memory", "memory.limit_in_bytes", "268435456")
	own := b.path("memory", "")
	inner, other := own+"/inner", strings.TrimSuffix(own, "/")+"-other"
	for _, dir := range []string{inner, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			var err error
			for range 100 { // the load leaves a moment after its death
				if err = unix.Rmdir(dir); err == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("remove %s: %v", dir, err)
		})
	}
	limit := "memory.limit_in_bytes"
	if b.unified {
		limit = "memory.max"
	}
	write(t, other+"/"+limit, "134217728")
	b.load("anon 16777216", "")
	text, err := os.ReadFile(b.path("memory", "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if b.c.view.Init, err = ledger.FindProcess(pid); err != nil {
		t.Fatal(err)
	}
	before := numbers(t, b.render("stat"), "cpu")
	for _, step := range []struct {
		dir  string
		want int
	}{{own, 262144}, {inner, 262144}, {other, 131072}, {inner, 262144}, {other, 131072}} {
		write(t, step.dir+"/cgroup.procs", strconv.Itoa(pid))
		if got := field(t, b.render("meminfo"), "MemTotal"); got != step.want {
			t.Errorf("in %s: MemTotal is %d, want %d", step.dir, got, step.want)
		}
		after := numbers(t, b.render("stat"), "cpu")
		for i := range before {
			if after[i] < before[i] {
				t.Errorf("in %s: the times went from %v to %v", step.dir, before, after)
			}
		}
		before = after
	}
	// A process that has the pid of one that is dead is not followed.
	b.c.view.Init.StartTime++
	write(t, own+"/cgroup.procs", strconv.Itoa(pid))
	if got := field(t, b.render("meminfo"), "MemTotal"); got != 131072 {
		t.Errorf("another process was followed: MemTotal is %d", got)
	}
}
