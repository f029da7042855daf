package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// kernelGroup makes groups in the real hierarchies, nested two deep, and gives
// the paths of the inner ones and the directories of the outer ones.
func kernelGroup(t *testing.T, controllers ...string) (h Hierarchies, paths map[string]string, outer map[string]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups takes root")
	}
	h, err := Mounts()
	if err != nil {
		t.Skip(err)
	}
	name := fmt.Sprintf("/candor-test-%d-%s", os.Getpid(), strconv.FormatInt(int64(len(t.Name())), 36))
	paths, outer = map[string]string{}, map[string]string{}
	for _, c := range controllers {
		m, ok := h.V1[c]
		if unified := len(h.V1) == 0; unified && c != "cpuacct" { // v2's cpu is both
			children, err := os.ReadFile(filepath.Join(h.Unified.Dir, "cgroup.subtree_control"))
			ok = err == nil && slices.Contains(strings.Fields(string(children)), c)
			m = h.Unified
		} else if unified {
			continue
		}
		if !ok {
			t.Skipf("no hierarchy for %s", c)
		}
		dir := filepath.Join(m.Dir, name)
		for _, d := range []string{dir, dir + "/inner"} {
			if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				t.Skip(err)
			}
			t.Cleanup(func() {
				if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			})
		}
		outer[c], paths[c] = dir, name+"/inner"
		if len(h.V1) == 0 {
			paths = map[string]string{"": name + "/inner"}
			put(t, dir+"/cgroup.subtree_control", "+"+c)
		}
	}
	return h, paths, outer
}

// setLimit sets a limit on either version, by v1's names.
func setLimit(t *testing.T, h Hierarchies, dir, file, value string) {
	t.Helper()
	if len(h.V1) == 0 {
		switch file {
		case "memory.limit_in_bytes":
			file = "memory.max"
		case "cpu.cfs_quota_us":
			file, value = "cpu.max", value+" 100000"
		}
	}
	put(t, dir+"/"+file, value)
}

func TestKernelLimitsOfTheOuterGroupBind(t *testing.T) {
	h, paths, outer := kernelGroup(t, "memory", "cpu", "cpuacct", "cpuset")
	r := open(t, h, paths)
	setLimit(t, h, outer["memory"], "memory.limit_in_bytes", "268435456")
	setLimit(t, h, outer["cpu"], "cpu.cfs_quota_us", "150000")
	put(t, outer["cpuset"]+"/cpuset.cpus", "0")
	put(t, outer["cpuset"]+"/inner/cpuset.cpus", "0")

	m, err := r.Memory()
	if err != nil || m.Limit != 268435456 || m.OuterFree > 268435456 {
		t.Errorf("memory: %+v, %v", m, err)
	}
	setLimit(t, h, outer["memory"]+"/inner", "memory.limit_in_bytes", "134217728")
	if m, err = r.Memory(); err != nil || m.Limit != 134217728 {
		t.Errorf("memory after an update: %+v, %v", m, err)
	}
	var c CPU
	if err := r.CPU(&c); err != nil || c.Count() != 2 || c.Quota != 150000 || len(c.PerCPU) == 0 && len(h.V1) > 0 {
		t.Errorf("cpu: %+v, %v", c, err)
	}
	setLimit(t, h, outer["cpu"]+"/inner", "cpu.cfs_quota_us", "40000")
	if err := r.CPU(&c); err != nil || c.Count() != 1 {
		t.Errorf("cpu after an update: %+v, %v", c, err)
	}
	ids, err := r.Cpuset(nil)
	if err != nil || !slices.Equal(ids, []int{0}) {
		t.Errorf("cpuset: %v, %v", ids, err)
	}
}

func TestKernelGroupRemovedAndMadeAgain(t *testing.T) {
	h, paths, outer := kernelGroup(t, "memory")
	r := open(t, h, paths)
	if _, err := r.Memory(); err != nil {
		t.Fatal(err)
	}
	inner := outer["memory"] + "/inner"
	if err := os.Remove(inner); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.Memory(); !errors.Is(err, ErrGone) {
			t.Errorf("got %v, want ErrGone", err)
		}
	}
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	setLimit(t, h, inner, "memory.limit_in_bytes", "8388608")
	if m, err := r.Memory(); err != nil || m.Limit != 8388608 {
		t.Errorf("made again: %+v, %v", m, err)
	}
}

func TestKernelReadsWhileGroupsComeAndGo(t *testing.T) {
	h, paths, outer := kernelGroup(t, "memory")
	r := open(t, h, paths)
	inner := outer["memory"] + "/inner"
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if m, err := r.Memory(); err != nil && !errors.Is(err, ErrGone) {
					t.Error(err)
				} else if err == nil && m.Limit != NoLimit {
					t.Errorf("limit %d of a group without", m.Limit)
				} else if err == nil && m.Usage > 1<<20 {
					t.Errorf("usage %d of an empty group: another's", m.Usage)
				}
				r.Release()
			}
		})
	}
	for range 100 {
		if err := errors.Join(os.Remove(inner), os.Mkdir(inner, 0o755)); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestOfFindsThisProcess(t *testing.T) {
	paths, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	h, err := Mounts()
	if err != nil {
		t.Skip(err)
	}
	r := open(t, h, paths)
	tids, total, err := r.Tasks(nil, 1<<20)
	if err != nil {
		t.Skip(err) // a cgroup namespace that does not show this group
	}
	if !slices.Contains(tids, os.Getpid()) || total < len(tids) {
		t.Errorf("%d is not among the %d of %d tasks of %v", os.Getpid(), len(tids), total, paths)
	}
	if _, err := Of(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}
