package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// latencies are how long reads took.
type latencies []time.Duration

// at is a percentile.
func (l latencies) at(percent int) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func (l latencies) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
	return fmt.Sprintf("%d reads, p50 %v, p99 %v, longest %v", len(l), round(l.at(50)), round(l.at(99)), round(l.at(100)))
}

// readFor reads a file again and again for so long: open, read to the end, close.
func readFor(d time.Duration, path string, check func([]byte) error) (took latencies, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		start := time.Now()
		text, err := readAll(path, 64<<10)
		took = append(took, time.Since(start))
		if err == nil {
			err = check(text)
		}
		if err != nil {
			return took, err
		}
	}
	return took, nil
}

// A cgroup file that hangs, as one of a kernel in trouble does: its readers get the
// last good content after 200 ms, and everybody else is answered as ever.
func TestACgroupFileThatHangsDelaysNobodyElse(t *testing.T) {
	notInShort(t)
	root := filepath.Join(t.TempDir(), "root")
	if err := os.CopyFS(root, os.DirFS("../resview/render/testdata/v1")); err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	stat := filepath.Join(root, "sys/fs/cgroup/memory/candor-test-rec/box/memory.stat")
	hanging := l.hangingFile(stat)
	inner := map[string]string{"": "/"}
	outer := map[string]string{}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
		inner[c], outer[c] = "/candor-test-rec/box", "/candor-test-rec"
	}
	l.addView("hangs", l.self(), ledger.View{Cgroups: inner})
	l.addView("twin", l.self(), ledger.View{Cgroups: inner}) // two have all threads for themselves
	l.addView("other", l.self(), ledger.View{Cgroups: outer})
	t.Setenv(rootEnv, root)
	l.start()
	before := l.status()

	good := map[string][]byte{}
	paths := map[string]string{}
	for _, key := range []string{"hangs", "twin", "other"} {
		for _, f := range resview.Files() {
			name := key + "/" + f.Name
			if f.Directory {
				continue
			}
			paths[name] = l.file(key, f.Name)
			text, err := readAll(paths[name], 64<<10)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			good[name] = text
		}
	}
	asBefore := func(name string) func([]byte) error {
		return func(text []byte) error {
			if !bytes.Equal(text, good[name]) {
				return fmt.Errorf("%s: %q, before it %q", name, text, good[name])
			}
			return nil
		}
	}

	hanging.letHang()
	time.Sleep(150 * time.Millisecond) // until the contents are too old
	began := time.Now()
	text, err := readAll(paths["hangs/meminfo"], 64<<10)
	cut := time.Since(began)
	if err = errors.Join(err, asBefore("hangs/meminfo")(text)); err != nil {
		t.Error(err)
	}
	if hanging.waiting() == 0 {
		t.Fatal("nothing hangs: the test shows nothing")
	}
	if cut > patience/2 {
		t.Errorf("the last good content came after %v", cut)
	}

	// Longer than the reader of the cgroups takes to look again for what was not
	// there, and than the supervisor is patient.
	var mu sync.Mutex
	var group sync.WaitGroup
	took := map[string]latencies{}
	read := func(name string, readers int) {
		for range readers {
			group.Go(func() {
				l, err := readFor(3*time.Second, paths[name], asBefore(name))
				mu.Lock()
				defer mu.Unlock()
				if took[name] = append(took[name], l...); err != nil {
					t.Error(err)
				}
			})
		}
	}
	stuck := []string{"hangs/meminfo", "hangs/vmstat", "twin/meminfo", "twin/vmstat"}
	for _, name := range stuck {
		read(name, 4)
	}
	others := []string{"hangs/stat", "hangs/cpuinfo", "hangs/diskstats", "other/meminfo", "other/vmstat", "other/stat"}
	for _, name := range others {
		read(name, 1)
	}
	// One that nobody read before has no last good content of what hangs, and all
	// else.
	l.addView("late", l.self(), ledger.View{Cgroups: inner})
	late, rest := l.file("late", "meminfo"), l.file("late", "stat")
	group.Go(func() {
		for range 2 {
			if _, err := readAll(late, 4096); !errors.Is(err, unix.EIO) {
				t.Errorf("what was never read: %v, want %v", err, unix.EIO)
			}
			if _, err := readAll(rest, 4096); err != nil {
				t.Errorf("another file of the same container: %v", err)
			}
		}
	})
	group.Wait()
	all := func(names []string) (sum latencies) {
		for _, name := range names {
			sum = append(sum, took[name]...)
		}
		return sum
	}
	for _, name := range others {
		if p50 := took[name].at(50); p50 > patience/500 {
			t.Errorf("%s is delayed: %v", name, took[name])
		}
	}
	t.Logf("view: a cgroup file hangs: the last good content came after %v; 16 later readers of two containers: %v; 6 of their other files and of a third: %v",
		cut.Round(time.Millisecond), all(stuck), all(others))
	if now := l.status(); now.WorkerPID != before.WorkerPID {
		t.Error("the worker was replaced for a file that hangs")
	}

	hanging.letGo(bytes.Replace(hanging.text, []byte("total_cache "), []byte("total_cache 1"), 1))
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if text, err := readAll(paths["hangs/meminfo"], 64<<10); err == nil && !bytes.Equal(text, good["hangs/meminfo"]) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("once nothing hangs, the old content stays")
		}
	}
}

// A list of tasks that hangs stops one container's load average, and no other's.
func TestLoadIsSampledBesideOneThatHangs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.CopyFS(root, os.DirFS("../resview/render/testdata/v1")); err != nil {
		t.Fatal(err)
	}
	inner, twin := map[string]string{"": "/"}, map[string]string{"": "/"}
	for _, c := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
		inner[c], twin[c] = "/candor-test-rec/box", "/twin"
		dir := filepath.Join(root, "sys/fs/cgroup", c)
		if err := os.CopyFS(dir+"/twin", os.DirFS(dir+"/candor-test-rec/box")); err != nil {
			t.Fatal(err)
		}
	}
	l := newLab(t)
	hanging := l.hangingFile(filepath.Join(root, "sys/fs/cgroup/pids/candor-test-rec/box/tasks"))
	l.addView("hangs", l.self(), ledger.View{Cgroups: inner})
	l.addView("twin", l.self(), ledger.View{Cgroups: twin})
	t.Setenv(rootEnv, root)
	l.start()
	loadavg := l.file("twin", "loadavg")
	for _, path := range []string{l.file("hangs", "loadavg"), loadavg} {
		if b, err := readAll(path, 4096); err != nil || !bytes.HasPrefix(b, []byte("2.00 ")) {
			t.Fatalf("%q, %v, want the two tasks that run", b, err)
		}
	}
	hanging.letHang()
	// All that run go to sleep.
	stats, err := filepath.Glob(filepath.Join(root, "proc/[0-9]*/task/*/stat"))
	if err != nil || len(stats) == 0 {
		t.Fatalf("%v, %v", stats, err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, bytes.Replace(text, []byte(") R "), []byte(") S "), 1), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(3 * patience); ; time.Sleep(100 * time.Millisecond) {
		b, err := readAll(loadavg, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte("1.")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q: it is not sampled", b)
		}
	}
}

// readerName is the test binary's name as a program that reads in a container's
// place: what a reader's process costs is not the server's doing, nor another
// reader's.
const readerName = "reader"

// reader is that program: THREADS DURATION PAUSE PATH. It prints how long its reads
// took, in nanoseconds.
func reader(args []string) int {
	var threads int
	var pause, d time.Duration
	_, err := fmt.Sscan(args[0], &threads)
	d, err2 := time.ParseDuration(args[1])
	pause, err3 := time.ParseDuration(args[2])
	if err = errors.Join(err, err2, err3); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	runtime.GOMAXPROCS(threads + 1)
	end := time.Now().Add(d)
	all := make([]latencies, threads)
	failed := make([]error, threads)
	var group sync.WaitGroup
	for i := range threads {
		group.Go(func() {
			runtime.LockOSThread()
			buf := make([]byte, 64<<10)
			for time.Now().Before(end) && failed[i] == nil {
				start := time.Now()
				failed[i] = readWhole(args[3], buf)
				all[i] = append(all[i], time.Since(start))
				time.Sleep(pause)
			}
		})
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := bufio.NewWriter(os.Stdout)
	for _, took := range slices.Concat(all...) {
		fmt.Fprintln(out, int64(took))
	}
	if err := out.Flush(); err != nil {
		return 1
	}
	return 0
}

// readWhole is open, read to the end and close.
func readWhole(path string, buf []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			return err
		}
	}
}

// readIn has a process in the cgroups of a container read one of its files, and
// returns what waits for its end.
func (b *box) readIn(t testing.TB, threads int, d, pause time.Duration, path string) func() latencies {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(threads), d.String(), pause.String(), b.path(path))
	cmd.Args[0] = readerName
	cmd.Stderr = os.Stderr
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.enter(cmd.Process.Pid)
	return func() (took latencies) {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for word := range bytes.FieldsSeq(out.Bytes()) {
			ns, err := strconv.ParseInt(string(word), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Duration(ns))
		}
		return took
	}
}

// However many read one container in a loop, the others are answered.
func TestManyReadersOfOneContainerLeaveTheOthersTheirAnswers(t *testing.T) {
	notInShort(t)
	l := newLab(t)
	t.Setenv(rootEnv, "/")
	l.start()
	crowd, neighbour := l.container("crowd"), l.container("neighbour")
	all := neighbour.items(t)
	const meminfo = "/proc/meminfo"
	alone := neighbour.readIn(t, 1, time.Second, time.Millisecond, meminfo)()
	crowded := crowd.readIn(t, 64, 4*time.Second, 0, meminfo)
	time.Sleep(200 * time.Millisecond)
	beside := neighbour.readIn(t, 1, 3*time.Second, time.Millisecond, meminfo)
	rs := readItems(1, all)
	time.Sleep(3 * time.Second)
	took := beside()
	rs.end(l, patience)
	busy := crowded()
	t.Logf("view: a container's reader alone: %v; beside 64 readers of another: %v; each of those: %v", alone, took, busy)
	if len(took) < 20 || rs.reads.Load() < 20 {
		t.Errorf("hardly answered in 3 s: %d and %d reads", len(took), rs.reads.Load())
	}
	if len(busy) < 64*20 {
		t.Errorf("only %d reads of 64 readers: the test shows nothing", len(busy))
	}
	if longest := max(took.at(100), busy.at(100)); longest > patience {
		t.Errorf("a read took %v", longest)
	}
}

// BenchmarkNeighbour is what a reader of one container notices of 64 in a loop in
// another: its own latency alone, beside them, and beside 64 that read a file of the
// kernel's own, which need the CPUs as much, and no server. Each round has all
// three; the figures are medians over the rounds.
func BenchmarkNeighbour(b *testing.B) {
	l := newLabFor(b, time.Hour)
	b.Setenv(rootEnv, "/")
	d := l.start()
	// In cgroups of its own, as everywhere: else each of its threads would be weighed
	// against a whole container.
	_, enter := l.groups("candord")
	enter(d.Process.Pid)
	enter(l.status().WorkerPID)
	crowd, neighbour := l.container("crowd"), l.container("neighbour")
	const meminfo = "/proc/meminfo"
	beside := []struct{ name, path string }{{"alone", ""}, {"view", meminfo}, {"kernel", "/proc/interrupts"}}
	p50, p99 := make([]latencies, len(beside)), make([]latencies, len(beside))
	for b.Loop() {
		for i, other := range beside {
			wait := func() latencies { return nil }
			if other.path != "" {
				wait = crowd.readIn(b, 64, 1500*time.Millisecond, 0, other.path)
				time.Sleep(200 * time.Millisecond)
			}
			took := neighbour.readIn(b, 1, time.Second, time.Millisecond, meminfo)()
			wait()
			p50[i], p99[i] = append(p50[i], took.at(50)), append(p99[i], took.at(99))
		}
	}
	for i, other := range beside {
		b.ReportMetric(float64(p50[i].at(50).Microseconds()), other.name+"-p50-us")
		b.ReportMetric(float64(p99[i].at(50).Microseconds()), other.name+"-p99-us")
		if i > 0 {
			b.ReportMetric(float64(p99[i].at(50))/float64(p99[0].at(50)), other.name+"-p99-ratio")
		}
	}
	b.ReportMetric(0, "ns/op")
}
