package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// held is what a process holds.
type held struct {
	rss         int // KiB
	descriptors int
	threads     int
}

func heldBy(t *testing.T, pid int) (h held) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &h.rss)
		_, _ = fmt.Sscanf(line, "Threads: %d", &h.threads)
	}
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || h.rss == 0 || h.threads == 0 {
		t.Fatalf("process %d: %+v, %v", pid, h, err)
	}
	h.descriptors = len(names)
	return h
}

func (h held) String() string {
	return fmt.Sprintf("%.1f MiB, %d descriptors, %d threads", float64(h.rss)/1024, h.descriptors, h.threads)
}

// However much is read, the worker holds what it held when each file of each
// container had been read for the first times.
//
//	CANDOR_VIEW_READS=8000   of each of 24 containers
func TestReadingCostsNoMemory(t *testing.T) {
	notInShort(t)
	containers, reads := 24, size(t, "CANDOR_VIEW_READS", 8000)
	l := newLabFor(t, 90*time.Second+time.Duration(reads*containers)*time.Millisecond)
	t.Setenv(rootEnv, "/")
	d := l.start()
	var all []*rereader
	for i := range containers {
		all = append(all, newRereader(t, l.container(fmt.Sprintf("c%d", i)).items(t)))
	}
	worker := l.status().WorkerPID
	began := time.Now()
	share := max(reads/20, 2*readsEach*len(all[0].paths)) // each file twice
	done := readOn(t, all, share)
	after := heldBy(t, worker)
	most := after
	for done < reads {
		done += readOn(t, all, min(share, reads-done))
		now := heldBy(t, worker)
		most.rss, most.descriptors, most.threads = max(most.rss, now.rss), max(most.descriptors, now.descriptors), max(most.threads, now.threads)
	}
	now := l.status()
	t.Logf("view: %d containers, %d reads of each: the worker holds %v after the first %d, at most %v later, and %v at the end; the supervisor %v; %v",
		containers, reads, after, share, most, heldBy(t, worker), heldBy(t, d.Process.Pid), time.Since(began).Round(time.Second))
	if now.WorkerPID != worker {
		t.Error("the worker was replaced")
	}
	// What Go's collector has not looked at yet comes and goes.
	if most.rss > after.rss+4<<10 {
		t.Errorf("resident memory grew by %d KiB", most.rss-after.rss)
	}
	if most.descriptors > after.descriptors+4 {
		t.Errorf("%d descriptors more", most.descriptors-after.descriptors)
	}
	if most.threads > after.threads+16 {
		t.Errorf("%d threads more", most.threads-after.threads)
	}
}

// readsEach is how often a file is read from its start until it is opened anew.
const readsEach = 10

// rereader reads the files of a container, one after the other.
type rereader struct {
	paths []string
	next  int
}

func newRereader(t *testing.T, all []item) *rereader {
	t.Helper()
	r := &rereader{}
	for _, it := range all {
		if info, err := os.Lstat(it.path); err == nil && info.Mode().IsRegular() {
			r.paths = append(r.paths, it.path)
		}
	}
	if len(r.paths) == 0 {
		t.Fatal("nothing to read")
	}
	return r
}

// readOn has all of them read n times, at the same time. It returns n.
func readOn(t *testing.T, all []*rereader, n int) int {
	t.Helper()
	var group sync.WaitGroup
	for _, r := range all {
		group.Go(func() {
			if err := r.read(n); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return n
}

func (r *rereader) read(n int) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		path := r.paths[r.next%len(r.paths)]
		r.next++
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		for range min(readsEach, n) {
			if _, err = unix.Pread(fd, buf, 0); err != nil && !errors.Is(err, unix.EINTR) {
				unix.Close(fd)
				return &os.PathError{Op: "read", Path: path, Err: err}
			}
			n--
		}
		unix.Close(fd)
	}
	return nil
}
