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
	if err := os.WriteFile(file+".ready", nil, 0o600); err != nil {
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

// box is a container's cgroups on a v1 host, without the container.
type box struct {
	t    *testing.T
	dirs map[string]string // by controller
	c    *Container
}

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
	for _, controller := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
		m, ok := mounts.V1[controller]
		if !ok {
			t.Skipf("no v1 hierarchy for %s", controller)
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
	}
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
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

func (b *box) set(controller, file, value string) {
	b.t.Helper()
	write(b.t, filepath.Join(b.dirs[controller], file), value)
}

func (b *box) get(controller, file string) uint64 {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dirs[controller], file))
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// load starts a load in the box and returns once it is done with its work, or
// burns. The load ends with the test.
func (b *box) load(what, file string) {
	b.t.Helper()
	if file == "" {
		file = filepath.Join(b.t.TempDir(), "load")
	}
	signal := file
	if strings.HasPrefix(file, "/dev/") {
		signal = filepath.Join(b.t.TempDir(), "load")
		what, file = what+" "+file, signal
	} else {
		what += " " + file
	}
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
	for _, controller := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
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

func within(t *testing.T, what string, got, want, tolerance int) {
	t.Helper()
	if got < want-tolerance || got > want+tolerance {
		t.Errorf("%s: got %d, want %d +- %d", what, got, want, tolerance)
	}
}

func TestKernelMemory(t *testing.T) {
	b := newBox(t)
	b.set("memory", "memory.limit_in_bytes", "268435456")
	empty := b.render("meminfo")
	if field(t, empty, "MemTotal") != 262144 {
		t.Errorf("empty: %s", empty)
	}
	b.load("anon 67108864", "")
	text := b.render("meminfo")
	const jitter = 6 * 1024 // the program itself, and what the kernel batches
	within(t, "AnonPages", field(t, text, "AnonPages"), field(t, empty, "AnonPages")+65536, jitter)
	within(t, "MemFree", field(t, text, "MemFree"), 262144-int(b.get("memory", "memory.usage_in_bytes")>>10), 1024)

	dir, err := os.MkdirTemp(".", "cache") // on a disk: /tmp may be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	before := text
	b.load("cache 33554432", filepath.Join(dir, "file"))
	text = b.render("meminfo")
	within(t, "Cached", field(t, text, "Cached"), field(t, before, "Cached")+32768, jitter)
	within(t, "MemFree with cache", field(t, text, "MemFree"), field(t, before, "MemFree")-32768, jitter)
	// Clean cache counts as available, but for the low watermark's part.
	within(t, "MemAvailable", field(t, text, "MemAvailable"), field(t, before, "MemAvailable"), jitter+2560)
	before = text
	b.load("anon 16777216", "")
	b.load("dirty 16777216", "/dev/shm/candor-test-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() { os.Remove("/dev/shm/candor-test-" + strconv.Itoa(os.Getpid())) })
	os.Remove("/dev/shm/candor-test-" + strconv.Itoa(os.Getpid()) + ".ready")
	text = b.render("meminfo")
	within(t, "Shmem", field(t, text, "Shmem"), 16384, 64)
	within(t, "MemAvailable after shmem", field(t, text, "MemAvailable"), field(t, before, "MemAvailable")-32768, jitter)

	b.set("memory", "memory.limit_in_bytes", "402653184")
	if got := field(t, b.render("meminfo"), "MemTotal"); got != 393216 {
		t.Errorf("after an update MemTotal is %d", got)
	}
}

func TestKernelCPU(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("takes two CPUs")
	}
	b := newBox(t)
	first := b.render("stat")
	if idle := numbers(t, first, "cpu")[3]; idle > 200*runtime.NumCPU() {
		t.Errorf("a container of this moment was idle for %d ticks", idle)
	}
	b.set("cpu", "cpu.cfs_quota_us", "50000")
	if got := b.render("cpu-online"); got != "0\n" {
		t.Errorf("half a CPU: online is %q", got)
	}
	b.load("burn 2", "")
	began := time.Now()
	old := numbers(t, b.render("stat"), "cpu")
	usage := b.get("cpuacct", "cpuacct.usage")
	time.Sleep(2 * time.Second)
	text := b.render("stat")
	now := numbers(t, text, "cpu")
	usage = b.get("cpuacct", "cpuacct.usage") - usage
	elapsed := int(time.Since(began) / 10 / time.Millisecond)
	delta := make([]int, len(now))
	for i := range now {
		delta[i] = now[i] - old[i]
	}
	within(t, "user and system", delta[0]+delta[2], int(usage/1e7), 10)
	within(t, "all times against the clock", delta[0]+delta[2]+delta[3]+delta[7], elapsed, 15)
	if int(usage/1e7) > elapsed*48/100 { // other loads of the machine may take the CPU before the quota does
		within(t, "idle while the quota is used up", delta[3], 0, 15)
		within(t, "steal of half a CPU of one", delta[7], elapsed/2, 15)
	}
	if running := field(t, text, "procs_running"); running != 3 { // and the reader
		t.Errorf("two tasks burn: procs_running is %d", running)
	}

	load := b.render("loadavg")
	if !strings.HasPrefix(load, "2.00 2.00 2.00 3/") {
		t.Errorf("loadavg %q", load)
	}
	tasks, err := os.ReadFile(b.dirs["pids"] + "/tasks")
	if err != nil {
		t.Fatal(err)
	}
	// The reader, whom the running ones include, is not in the box.
	if want := fmt.Sprintf("/%d ", max(strings.Count(string(tasks), "\n"), 3)); !strings.Contains(load, want) {
		t.Errorf("loadavg %q of %s tasks", load, want)
	}

	b.set("cpu", "cpu.cfs_quota_us", "-1")
	last := runtime.NumCPU() - 1
	b.set("cpuset", "cpuset.cpus", strconv.Itoa(last))
	if got := b.render("cpu-online"); got != strconv.Itoa(last)+"\n" {
		t.Errorf("cpuset %d: online is %q", last, got)
	}
	old = numbers(t, b.render("stat"), "cpu"+strconv.Itoa(last))
	usage = b.get("cpuacct", "cpuacct.usage")
	time.Sleep(2 * time.Second)
	text = b.render("stat")
	now = numbers(t, text, "cpu"+strconv.Itoa(last))
	usage = b.get("cpuacct", "cpuacct.usage") - usage
	within(t, "user and system of the one CPU", now[0]+now[2]-old[0]-old[2], int(usage/1e7), 10)
	if strings.Contains(text, "cpu0 ") {
		t.Errorf("a CPU outside the cpuset is shown:\n%s", text)
	}
}

// TestKernelBtime compares with what the kernel itself shows in a time
// namespace.
func TestKernelBtime(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a time namespace takes root")
	}
	host, err := NewHost("/")
	if err != nil {
		t.Skip(err)
	}
	defer host.Close()
	for _, offset := range []time.Duration{0, -1, -15*time.Second - 500*time.Millisecond, 77*time.Second + 999999999} {
		uptime, boot, err := host.clocks(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		age, btime := containerAge(uptime, boot, offset)
		stat, err := inTimeNamespace(offset, "/proc/stat")
		if err != nil {
			t.Skip(err)
		}
		if got := field(t, stat, "btime"); got != int(btime) {
			t.Errorf("offset %v: btime is %d, the kernel's %d", offset, btime, got)
		}
		text, err := inTimeNamespace(offset, "/proc/uptime")
		if err != nil {
			t.Fatal(err)
		}
		kernel, err := parseUptime([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := kernel - age; diff < -10*time.Millisecond || diff > 5*time.Second {
			t.Errorf("offset %v: age is %v, the kernel's uptime a moment later %v", offset, age, kernel)
		}
	}
}

// inTimeNamespace reads a file in a new time namespace.
func inTimeNamespace(offset time.Duration, file string) (string, error) {
	seconds, nanos := int64(offset/time.Second), int64(offset%time.Second)
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result)
	go func() { // on a thread that ends with this function, never unlocked
		runtime.LockOSThread()
		text, err := func() ([]byte, error) {
			if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
				return nil, err
			}
			offsets := fmt.Sprintf("boottime %d %d\n", seconds, nanos)
			tid := unix.Gettid()
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", tid), []byte(offsets), 0); err != nil {
				return nil, err
			}
			// Unlike other namespaces it holds for children, until entered; and
			// only a process of one thread may enter it.
			return exec.Command("cat", file).Output()
		}()
		done <- result{text, err}
	}()
	r := <-done
	return string(r.text), r.err
}

func TestKernelDiskstats(t *testing.T) {
	b := newBox(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	name, number := loopDevice(t, image)
	// Without any rule newer kernels do not count on v1.
	b.set("blkio", "blkio.throttle.read_bps_device", number+" 107374182400")
	b.load("direct 100 /dev/"+name, "/dev/"+name)
	text := b.render("diskstats")
	var row []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); slices.Contains(f, name) {
			row = f
		}
	}
	if len(row) != 20 || row[3] != "100" || row[5] != strconv.Itoa(100*65536/512) {
		t.Errorf("100 reads of 64 KiB from %s show as:\n%s", name, text)
	}
	if strings.Count(text, "\n") != 1 {
		t.Errorf("other devices are shown:\n%s", text)
	}
}

// loopDevice gives the name and number of a loop device on the image.
func loopDevice(t *testing.T, image string) (name, number string) {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Skip(err)
	}
	name = "loop" + strconv.Itoa(n)
	device, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer device.Close()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		device, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer device.Close()
		if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile("/sys/block/" + name + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	return name, strings.TrimSpace(string(text))
}
