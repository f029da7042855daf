package ledger

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T) (*exec.Cmd, Process) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p
}

func TestRunningProcessIsAlive(t *testing.T) {
	_, p := start(t)
	if !p.Alive() {
		t.Error("a running process is not alive")
	}
	f, err := p.OpenPidfd()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestZombieIsNotAlive(t *testing.T) {
	cmd, p := start(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); p.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a killed process that nobody has waited for is alive")
		}
	}
	if _, err := p.OpenPidfd(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("OpenPidfd of a zombie = %v, want process done", err)
	}
}

// Out of descriptors, a reconciler must not take every container for dead.
func TestAliveWhereThereIsNoTelling(t *testing.T) {
	_, p := start(t)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/null") // the next number is the first one that is refused
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(f.Fd()), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	alive := p.Alive()
	_, pidfdErr := p.OpenPidfd()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !alive {
		t.Error("a process that cannot be looked at is taken for dead")
	}
	if pidfdErr == nil || errors.Is(pidfdErr, os.ErrProcessDone) {
		t.Errorf("OpenPidfd = %v, want why it cannot be opened", pidfdErr)
	}
}

func TestReusedPidIsAnotherProcess(t *testing.T) {
	_, p := start(t)
	p.StartTime++
	if p.Alive() {
		t.Error("a process with another start time is taken for ours")
	}
	if _, err := p.OpenPidfd(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("OpenPidfd = %v, want process done", err)
	}
}

func TestNoProcessIsNeverAlive(t *testing.T) {
	if (Process{}).Alive() {
		t.Error("the zero process is alive")
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n"
	for _, name := range []string{"sh", "a b", ") R 1 (", "\n)", ""} {
		st, err := parseStat([]byte("77 (" + name + ")" + rest))
		if err != nil || st != (stat{state: 'S', threads: 3, startTime: 4711}) {
			t.Errorf("%q: %+v, %v", name, st, err)
		}
	}
	for _, bad := range []string{"", "77 sh S 1", "77 (sh) S 1 2 3", "77 (sh) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 x 0 4711\n", "77 (sh) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 -1\n"} {
		if st, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, st)
		}
	}
}

// A process chooses its own name.
func FuzzParseStat(f *testing.F) {
	f.Add([]byte("sh"))
	f.Add([]byte("a) b) R (c"))
	f.Add([]byte("77 (sh) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n"))
	f.Fuzz(func(t *testing.T, name []byte) {
		_, _ = parseStat(name)
		const rest = ") S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n"
		st, err := parseStat([]byte("77 (" + string(name) + rest))
		if err != nil || st != (stat{state: 'S', threads: 3, startTime: 4711}) {
			t.Errorf("%q: %+v, %v", name, st, err)
		}
	})
}
