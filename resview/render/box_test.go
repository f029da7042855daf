package render

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
)

// loadVariable makes the test binary a load instead: see runLoad.
const loadVariable = "CANDOR_TEST_LOAD"

func TestMain(m *testing.M) {
	if load := os.Getenv(loadVariable); load != "" {
		if err := runLoad(load); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runLoad does as "KIND NUMBER FILE" says, prints a line and waits for the end
// of its standard input.
func runLoad(load string) error {
	var kind, file string
	var n int
	if _, err := fmt.Sscan(load, &kind, &n, &file); err != nil {
		return err
	}
	// Go on only in the cgroups: the starter moves this process there.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var hold []byte
	switch kind {
	case "anon":
		var err error
		hold, err = unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < n; i += 4096 {
			hold[i] = 1
		}
	case "cache", "dirty":
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, n)); err != nil {
			return err
		}
		if kind == "cache" {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	case "burn":
		// Not this program: under a quota its runtime's own threads stand in
		// the queue, too. The others die with this one, the namespace's init.
		loop := []string{"sh", "-c", "while :; do :; done"}
		for range n - 1 {
			if err := exec.Command("/bin/sh", loop[1:]...).Start(); err != nil {
				return err
			}
		}
		fmt.Println("done")
		return syscall.Exec("/bin/sh", loop, nil)
	case "direct":
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		buf, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for range n {
			if _, err := unix.Read(fd, buf); err != nil {
				return err
			}
		}
	}
	fmt.Println("done")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	runtime.KeepAlive(hold)
	return nil
}

// box is a container's cgroups, without the container. Files and values are
// named as on v1.
type box struct {
	t       *testing.T
	unified bool
	dirs    map[string]string // by controller; on v2 all the same
	c       *Container
}

var boxControllers = []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"}

func newBox(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups takes root")
	}
	mounts, err := cgroup.Mounts()
	if err != nil {
		t.Skip(err)
	}
	b := &box{t: t, dirs: map[string]string{}}
	group := fmt.Sprintf("/candor-test-view-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	view := ledger.View{ID: 1, Cgroups: map[string]string{}}
	b.unified = len(mounts.V1) == 0
	for _, controller := range boxControllers {
		m, ok := mounts.V1[controller]
		if b.unified {
			m, ok, controller = mounts.Unified, hasControllers(mounts.Unified.Dir), ""
		}
		if !ok {
			t.Skipf("no hierarchy for %q", controller)
		}
		dir := filepath.Join(m.Dir, group)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Skip(err)
		}
		t.Cleanup(func() {
			// The tasks are dead, but leave their group a moment later.
			for range 100 {
				if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("remove %s: %v", dir, err)
		})
		b.dirs[controller], view.Cgroups[controller] = dir, group
		if b.unified {
			break
		}
	}
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		if b.unified {
			break // an empty set is the parent's
		}
		text, err := os.ReadFile(filepath.Join(mounts.V1["cpuset"].Dir, f))
		if err != nil {
			t.Fatal(err)
		}
		b.set("cpuset", f, string(text))
	}
	host, err := NewHost("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	// The container is as old as this moment.
	uptime, _, err := host.clocks(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	view.BoottimeOffset = -uptime
	if b.c, err = Open(view, host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.c.Close() })
	return b
}

// hasControllers says whether new groups below dir have what a box needs.
func hasControllers(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	have := strings.Fields(string(text))
	for _, c := range []string{"memory", "cpu", "cpuset", "io", "pids"} {
		if err != nil || !slices.Contains(have, c) {
			return false
		}
	}
	return true
}

// path is where a file of v1 is found.
func (b *box) path(controller, file string) string {
	if b.unified {
		controller = ""
	}
	return filepath.Join(b.dirs[controller], file)
}

// set writes a file. Its v2 counterpart takes the same, but for a word or two.
func (b *box) set(controller, file, value string) {
	b.t.Helper()
	if b.unified {
		switch file {
		case "memory.limit_in_bytes":
			file = "memory.max"
		case "cpu.cfs_quota_us":
			file, value = "cpu.max", strings.Replace(value, "-1", "max", 1)+" 100000"
		case "blkio.throttle.read_bps_device":
			file, value = "io.max", strings.Replace(value, " ", " rbps=", 1)
		}
	}
	write(b.t, b.path(controller, file), value)
}

func (b *box) get(controller, file string) uint64 {
	b.t.Helper()
	unit := uint64(1)
	if b.unified {
		switch file {
		case "memory.usage_in_bytes":
			file = "memory.current"
		case "cpuacct.usage":
			file, unit = "cpu.stat", 1000
		}
	}
	text, err := os.ReadFile(b.path(controller, file))
	if err != nil {
		b.t.Fatal(err)
	}
	value, _, _ := strings.Cut(strings.TrimPrefix(string(text), "usage_usec "), "\n")
	v, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return v * unit
}

// tasks is the number of tasks in the box.
func (b *box) tasks() int {
	b.t.Helper()
	file := "tasks"
	if b.unified {
		file = "cgroup.threads"
	}
	text, err := os.ReadFile(b.path("pids", file))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

// load starts a load in the box and returns once it is done with its work, or
// burns. The load ends with the test.
func (b *box) load(what, file string) {
	b.t.Helper()
	if file == "" {
		file = "-"
	}
	what += " " + file
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{loadVariable + "=" + what, "GOMAXPROCS=4", "GOGC=off"}
	cmd.Stderr = os.Stderr
	// Of its own pid namespace, as a container is.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for _, controller := range boxControllers {
		b.set(controller, "cgroup.procs", strconv.Itoa(cmd.Process.Pid))
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		b.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "done\n" {
		b.t.Fatalf("load %q: %q, %v", what, line, err)
	}
}

// render renders anew.
func (b *box) render(file string) string {
	b.t.Helper()
	time.Sleep(Reuse)
	return mustRender(b.t, b.c, file, time.Now())
}
