package resview_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/resview/render"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// TestAPlatformOfItsOwnNeedsNoLedger mounts for real what the example shows.
func TestAPlatformOfItsOwnNeedsNoLedger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	groups, err := cgroup.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	host, err := render.NewHost("/")
	if err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "platform")
	if err := statedir.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := statedir.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	fd, _, err := resview.OpenMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	slots, err := resview.NewSlots()
	if err != nil {
		t.Fatal(err)
	}
	server := resview.NewServer(resview.Config{
		FD: fd, Slots: slots, Generation: 1, Store: platform{"web-1": {ID: 1, Cgroups: groups}},
		Open: func(view ledger.View) (resview.Container, error) { return render.Open(view, host) },
	})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve() }()
	err = statedir.InMounts(dir, func() error {
		root := filepath.Join(statedir.ViewDir, "web-1")
		if _, err := os.Stat(filepath.Join(statedir.ViewDir, "another")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a container that the platform does not have: %v", err)
		}
		entries, err := os.ReadDir(root)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		for _, f := range resview.Files() {
			if !slices.Contains(names, f.Name) {
				t.Errorf("%s is not among %v", f.Name, names)
			}
		}
		// Every group has CPUs, the root of cgroup v2 too.
		info, err := os.ReadFile(filepath.Join(root, "cpuinfo"))
		if err == nil && !strings.Contains(string(info), "processor\t: ") {
			t.Errorf("cpuinfo: %s", info)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := resview.Unmount(dir); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, resview.ErrDisconnected) {
			t.Errorf("without its mount the server ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server does not end without its mount")
	}
}
