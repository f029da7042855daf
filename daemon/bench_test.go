package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRead is open, read to the end and close of one file: OPEN, READ, READ
// at the end, RELEASE.
func BenchmarkRead(b *testing.B) {
	l := newLab(b)
	r := l.add("c1", 0, l.self())
	l.start()
	path := l.file(r.Key, "meminfo")
	buf := make([]byte, 64<<10)
	worker := l.status().WorkerPID
	before, ours := cpuTime(b, worker), cpuTime(b, os.Getpid())
	for b.Loop() {
		readOnce(b, path, buf)
	}
	b.ReportMetric(float64((cpuTime(b, worker)-before).Nanoseconds())/float64(b.N), "server-ns/op")
	b.ReportMetric(float64((cpuTime(b, os.Getpid())-ours).Nanoseconds())/float64(b.N), "reader-ns/op")
}

// cpuTime is what a process has used so far: on a busy machine it says more
// than the time on the clock.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var sum time.Duration
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

func readOnce(b *testing.B, path string, buf []byte) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	for {
		n, err := unix.Read(fd, buf)
		if err != nil && err != unix.EINTR {
			b.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	unix.Close(fd)
}
