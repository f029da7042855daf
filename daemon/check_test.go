package daemon

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"candor.dev/candor/resview"
)

func TestCheckSeesWhatIsBound(t *testing.T) {
	l := newLab(t)
	l.start()
	b := l.box("c1")
	view := *b.record.View
	var err error
	if view.Files, err = resview.Bind(l.dir, "c1", b.process, "/", resview.Files()); err != nil {
		t.Fatal(err)
	}
	device, mounted, err := resview.Mounted(l.dir)
	if err != nil || !mounted {
		t.Fatalf("Mounted = %v, %v", mounted, err)
	}
	check := func(device uint64) string {
		t.Helper()
		found, err := resview.Check(b.process, view, device)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, d := range found {
			lines = append(lines, d.String())
		}
		return strings.Join(lines, "\n")
	}
	if got := check(device); got != "" {
		t.Errorf("all files are bound, and: %s", got)
	}
	if got := check(device + 1); strings.Count(got, "is bound from a mount that is dead") != len(view.Files) {
		t.Errorf("another mount is the living one, and: %s", got)
	}
	if out, err := exec.Command("nsenter", "--mount", "--target", strconv.Itoa(b.process.PID), "umount", "/proc/meminfo").CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	if got, want := check(device), "resource view: expected /proc/meminfo bound, is not bound"; !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
		t.Errorf("%q, want one line with %q", got, want)
	}
}
