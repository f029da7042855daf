package render

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	vmstat, zoneinfo := b.render("vmstat"), b.render("zoneinfo")
	pages := os.Getpagesize() >> 10
	within(t, "nr_anon_pages", field(t, vmstat, "nr_anon_pages")*pages, field(t, text, "AnonPages"), jitter)
	within(t, "nr_free_pages", field(t, vmstat, "nr_free_pages")*pages, field(t, text, "MemFree"), jitter)
	if faults := field(t, vmstat, "pgfault"); faults < 64>>1 { // in huge pages
		t.Errorf("%d faults for 64 MiB", faults)
	}
	if !strings.Contains(zoneinfo, fmt.Sprintf("managed  %d\n", 262144/pages)) {
		t.Errorf("zoneinfo: %s", zoneinfo)
	}

	dir, err := os.MkdirTemp(".", "cache") // on a disk: /tmp may be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	before := text
	b.load("cache 33554432", filepath.Join(dir, "file"))
	text = b.render("meminfo")
	within(t, "Cached", field(t, text, "Cached"), field(t, before, "Cached")+32768, jitter)
	within(t, "MemFree with cache", field(t, text, "MemFree"), 262144-int(b.get("memory", "memory.usage_in_bytes")>>10), 1024)
	// What is available and what the loads' programs hold is constant...
	held := func(text string) int { return field(t, text, "MemAvailable") + field(t, text, "AnonPages") }
	// ... with clean cache, but for the low watermark's part of it,
	within(t, "MemAvailable", held(text), held(before), jitter+2560)
	before = text
	b.load("anon 16777216", "")
	shm := "/dev/shm/candor-test-" + strconv.Itoa(os.Getpid())
	t.Cleanup(func() { os.Remove(shm) })
	b.load("dirty 16777216", shm)
	text = b.render("meminfo")
	within(t, "Shmem", field(t, text, "Shmem"), 16384, 64)
	// ... and not with shmem.
	within(t, "MemAvailable after shmem", held(text), held(before)-16384, jitter)

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
	// The reader, whom the running ones include, is not in the box.
	if want := fmt.Sprintf("/%d ", max(b.tasks(), 3)); !strings.Contains(load, want) {
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
		if offset < -uptime {
			continue // a machine of this moment: the kernel refuses a time before its boot
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
	b.load("direct 100", "/dev/"+name)
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
	vmstat := b.render("vmstat")
	if field(t, vmstat, "pgpgin") != 100*64 || field(t, vmstat, "pgpgout") != 0 {
		t.Errorf("100 reads of 64 KiB show as:\n%s", vmstat)
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
