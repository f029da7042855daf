package statedir

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func prepareDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := Prepare(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // removing twice is no error
			if err := Remove(dir); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

func mountsOf(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[4] == dir {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestPrepareMountsOnceAndUnbindable(t *testing.T) {
	dir := prepareDir(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := Prepare(dir); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	lines := mountsOf(t, dir)
	if len(lines) != 1 || !strings.Contains(lines[0], " unbindable ") {
		t.Errorf("mounts on the state directory: %q, want one that is unbindable", lines)
	}
}

// Killed between the two steps: the next one finds a mount that hands on what is
// mounted in it, where nothing may be bound that a mount namespace is kept by.
func TestPrepareGoesOnWhereAnotherWasKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, "state")
	if err := errors.Join(unix.Mount("candor-test", parent, "tmpfs", 0, ""), unix.Mount("", parent, "", unix.MS_SHARED, ""), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(Remove(dir), unix.Unmount(parent, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(dir); err != nil {
		t.Fatal(err)
	}
	if lines := mountsOf(t, dir); len(lines) != 1 || !strings.Contains(lines[0], " unbindable ") {
		t.Errorf("mounts on the state directory: %q, want one that is unbindable", lines)
	}
}

// What `-v /run:/host/run` does: a copy of the mount namespace, everything slave
// or private, then a recursive bind of the parent.
func TestNoCopyOfTheMountsHasPinsOrView(t *testing.T) {
	dir := prepareDir(t)
	err := InMounts(dir, func() error { return unix.Mount("candor-test", ViewDir, "tmpfs", 0, "") })
	if err != nil {
		t.Fatal(err)
	}
	ns := newNetns(t)
	defer ns.Close()
	if err := PinNetns(dir, Pin{Name: "c1-1", Netns: ns}); err != nil {
		t.Fatal(err)
	}
	for _, propagation := range []string{"slave", "private", "unchanged"} {
		// Undone here: an unchanged copy of a shared mount hands it on to the machine.
		script := `mount --rbind "$(dirname "$2")" "$1" && cat /proc/self/mountinfo && umount -l "$1"`
		out, err := exec.Command("unshare", "-m", "--propagation", propagation, "sh", "-c", script, "sh", t.TempDir(), dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "candor-test") || strings.Contains(line, dir) && strings.Contains(line, "nsfs") {
				t.Errorf("%s copy: %s", propagation, line)
			}
		}
	}
}

func TestHostMountsAreKnownFromACopy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mount namespaces need root")
	}
	if same, err := inHostMounts(); err != nil || !same {
		t.Skipf("the test itself does not run in pid 1's mount namespace (%v)", err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread is thrown away
		err := unix.Unshare(unix.CLONE_NEWNS)
		if same, hostErr := inHostMounts(); same {
			err = errors.Join(err, hostErr, errors.New("a copy is taken for pid 1's"))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	p := filepath.Join(elem...)
	if err := os.Mkdir(p, 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPrepareRefusesWhatIsNotRootsAlone(t *testing.T) {
	parent := t.TempDir()
	open := mkdir(t, parent, "open")
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp", filepath.Join(parent, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(parent, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, filepath.Join(parent, "link"), filepath.Join(parent, "file"), "relative", "/"} {
		if err := Prepare(dir); err == nil {
			t.Errorf("Prepare(%q) succeeded", dir)
		}
	}
}

func TestPinKeepsTheNamespace(t *testing.T) {
	dir := prepareDir(t)
	ns := newNetns(t)
	want, err := NamespaceOf(ns)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second pin replaces the first
		if err := PinNetns(dir, Pin{Name: "c1-1", Netns: ns}); err != nil {
			t.Fatal(err)
		}
	}
	ns.Close()
	pinned, err := OpenPin(dir, "c1-1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := NamespaceOf(pinned)
	pinned.Close()
	if err != nil || got != want {
		t.Errorf("pinned %v, %v; want %v", got, err, want)
	}
	for range 2 {
		if err := Unpin(dir, "c1-1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenPin(dir, "c1-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenPin = %v, want not exist", err)
	}
	if pins, err := Pins(dir); err != nil || len(pins) != 0 {
		t.Errorf("Pins = %v, %v; want none", pins, err)
	}
}

func TestPinThatWasNeverBoundCountsAsAbsent(t *testing.T) {
	dir := prepareDir(t)
	err := InMounts(dir, func() error { return os.WriteFile(pinPath("c1-1"), nil, 0o600) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPin(dir, "c1-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenPin = %v, want not exist", err)
	}
}

func newNetns(t *testing.T) *os.File {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread is thrown away
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- result{f, err}
	}()
	r := <-c
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.f
}
