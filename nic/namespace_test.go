package nic

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOpenTakesOnlyNetworkNamespaces(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/self/ns/mnt": "another kind", "/etc/passwd": "no namespace", "/nonexistent": "no such file",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDoRunsInTheNamespaceAndGoesHome(t *testing.T) {
	l := newLab(t, "veth")
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for range 50 {
		var there string
		err := l.containerNS.Do(func() (err error) {
			if there, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) || there == home {
			t.Fatalf("error %v in %s", err, there)
		}
	}
	// Every thread is home again, the main one among them.
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if at, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && at != home {
			t.Errorf("thread %s stays in %s", task.Name(), at)
		}
	}
}

func TestCurrentIsThisProcesssNamespace(t *testing.T) {
	a, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.ID() != b.ID() || a.ID().Inode == 0 {
		t.Errorf("%v and %v", a.ID(), b.ID())
	}
}

func TestDumpAsksAgainUntilItIsWhole(t *testing.T) {
	for name, c := range map[string]struct {
		errs []error
		want error
	}{
		"whole at once":     {[]error{nil}, nil},
		"interrupted twice": {[]error{netlink.ErrDumpInterrupted, unix.EINTR, nil}, nil},
		"another error":     {[]error{netlink.ErrDumpInterrupted, unix.EPERM, nil}, unix.EPERM},
		"never comes whole": {nil, netlink.ErrDumpInterrupted},
	} {
		calls := 0
		_, err := dump(func() (int, error) {
			if calls++; calls > len(c.errs) {
				return 0, netlink.ErrDumpInterrupted
			}
			return calls, c.errs[calls-1]
		})
		if !errors.Is(err, c.want) || calls > dumpTries {
			t.Errorf("%s: %v after %d calls", name, err, calls)
		}
	}
}
