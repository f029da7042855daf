package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// group is a cgroup of a test's own, of one controller.
type group struct {
	dir string
	v2  bool
}

// newGroup makes a group below the root of the hierarchy that has the
// controller. "freezer" is in every group of v2.
func newGroup(t *testing.T, l *lab, controller string) group {
	t.Helper()
	g, err := hierarchyOf(controller)
	if err != nil {
		t.Skip(err)
	}
	g.dir = filepath.Join(g.dir, cgroupName(l.dir)+"-"+controller)
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 500 {
			pids, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(pids)) {
				_ = writeCgroup(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), pid)
			}
			if os.Remove(g.dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s is left", g.dir)
	})
	return g
}

func hierarchyOf(controller string) (group, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return group{}, err
	}
	var unified string
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		switch {
		case g[0] == "cgroup" && slices.Contains(strings.Split(g[len(g)-1], ","), controller):
			return group{dir: f[4]}, nil
		case g[0] == "cgroup2":
			unified = f[4]
		}
	}
	given, _ := os.ReadFile(unified + "/cgroup.subtree_control")
	if unified != "" && (controller == "freezer" || slices.Contains(strings.Fields(string(given)), controller)) {
		return group{dir: unified, v2: true}, nil
	}
	return group{}, fmt.Errorf("no cgroup hierarchy here gives its groups the controller %s", controller)
}

func (g group) write(t *testing.T, name, value string) {
	t.Helper()
	if err := writeCgroup(filepath.Join(g.dir, name), value); err != nil {
		t.Fatal(err)
	}
}

// enter moves a process into the group. One that has ended is no matter.
func (g group) enter(t *testing.T, pid int) {
	t.Helper()
	err := writeCgroup(filepath.Join(g.dir, "cgroup.procs"), fmt.Sprint(pid))
	if err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
}

// cpus gives the group so much of a CPU in each period.
func (g group) cpus(t *testing.T, quota, period time.Duration) {
	t.Helper()
	if g.v2 {
		g.write(t, "cpu.max", fmt.Sprint(quota.Microseconds(), " ", period.Microseconds()))
		return
	}
	g.write(t, "cpu.cfs_period_us", fmt.Sprint(period.Microseconds()))
	g.write(t, "cpu.cfs_quota_us", fmt.Sprint(quota.Microseconds()))
}

func (g group) freeze(t *testing.T) {
	t.Helper()
	if g.v2 {
		g.write(t, "cgroup.freeze", "1")
	} else {
		g.write(t, "freezer.state", "FROZEN")
	}
}

func (g group) thaw() {
	if g.v2 {
		_ = writeCgroup(filepath.Join(g.dir, "cgroup.freeze"), "0")
	} else {
		_ = writeCgroup(filepath.Join(g.dir, "freezer.state"), "THAWED")
	}
}

// hog starts a process in the group that computes until the test ends.
func (g group) hog(t *testing.T) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	g.enter(t, cmd.Process.Pid)
}
