package ledger

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
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
