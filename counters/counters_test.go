package counters

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is a hook that counts, when it is called so.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COUNTERS_TEST_DIR"); dir != "" {
		for range 20 {
			if errors.Join(Failed(dir, Attach, Held), GaveBack(dir, 20*time.Millisecond)) != nil {
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func read(t *testing.T, dir string) Counts {
	t.Helper()
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNothingIsLostAmongProcessesAndThreads(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "COUNTERS_TEST_DIR="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		group.Go(func() {
			for range 20 {
				if err := Failed(dir, View, Daemon); err != nil {
					t.Error(err)
				}
				if _, err := Read(dir); err != nil { // never half a file
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	c := read(t, dir)
	want := map[Operation]map[Reason]uint64{Attach: {Held: 80}, View: {Daemon: 80}}
	if !reflect.DeepEqual(c.Failures, want) || c.GiveBack.Count != 80 || c.GiveBack.Buckets[2] != 80 || c.GiveBack.Sum < 1.59 || c.GiveBack.Sum > 1.61 {
		t.Errorf("counted %+v", c)
	}
}

func TestDurationsFallIntoTheirBuckets(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, 5 * time.Millisecond, 6 * time.Millisecond, 10 * time.Second, time.Minute} {
		h.add(d)
	}
	if h.Count != 5 || h.Buckets[0] != 2 || h.Buckets[1] != 1 || h.Buckets[len(h.Buckets)-1] != 1 {
		t.Errorf("%+v", h)
	}
}

func TestBrokenFileIsStartedAnew(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "cut": `{"format":1,"failures":{"attach"`, "garbage": "\x00\xff", "a list": "[]",
		"of another format": `{"format":99,"failures":{"attach":{"held":7}}}`, "negative": `{"format":1,"give_back":{"count":-1}}`,
		"of other buckets": `{"format":1,"give_back":{"count":3,"buckets":[1,2]}}`, "large": strings.Repeat(" ", maxBytes+1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(path(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		read(t, dir)
		if err := errors.Join(Failed(dir, Limit, Other), GaveBack(dir, time.Second)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c := read(t, dir); c.Failures[Limit][Other] != 1 || c.GiveBack.Count != 1 || len(c.GiveBack.Buckets) != len(Bounds()) {
			t.Errorf("%s: counted %+v", name, c)
		}
	}
}

func TestCountingEndsWhereItCannotBeDone(t *testing.T) {
	if err := Failed(filepath.Join(t.TempDir(), "none"), Attach, Other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a state directory: %v", err)
	}
	dir := t.TempDir()
	held, err := takeLock(filepath.Join(dir, "counters.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	start := time.Now()
	if err := Failed(dir, Attach, Other); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("behind one that does not let go: %v", err)
	}
	if took := time.Since(start); took < lockWait || took > 50*lockWait {
		t.Errorf("it waited for %v", took)
	}
}
