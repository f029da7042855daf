package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWorkerHasTimerSlack(t *testing.T) {
	l := newLab(t)
	l.add("c1", 0, l.self())
	l.start()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", l.status().WorkerPID))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads of the worker: %v, %v", tasks, err)
	}
	for _, task := range tasks {
		// Which of a process's threads is meant is said by its own id alone.
		b, err := os.ReadFile("/proc/" + filepath.Base(task) + "/timerslack_ns")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(b)); got != fmt.Sprint(timerSlack.Nanoseconds()) {
			t.Errorf("thread %s has a slack of %s ns, want %v", filepath.Base(task), got, timerSlack)
		}
	}
}

func TestTimerSlackIsTheChildsAlone(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := withTimerSlack(func() (*os.Process, error) {
		return os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if state, err := p.Wait(); err != nil || !state.Success() {
		t.Errorf("%v, %v", state, err)
	}
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now != before {
		t.Errorf("this thread has a slack of %d ns now, and had %d; %v", now, before, err)
	}
}
