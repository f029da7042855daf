package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/resview/render"
)

// rootEnv has the test's candord render real contents: those of the machine with
// that root directory.
const rootEnv = "CANDORD_TEST_ROOT"

func realContents(root string) (resview.OpenFunc, []func(context.Context) error, error) {
	host, err := render.NewHost(root)
	if err != nil {
		return nil, nil, err
	}
	open := func(v ledger.View) (resview.Container, error) {
		c, err := render.Open(v, host)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	sample := func(ctx context.Context) error {
		host.Run(ctx, nil)
		return ctx.Err()
	}
	return open, []func(context.Context) error{sample}, nil
}

// container is a box with cgroups of its own, in which all files are bound. candord
// has to serve real contents.
func (l *lab) container(key string) *box {
	l.t.Helper()
	paths, enter := l.groups(key)
	p := l.namespace()
	enter(p.PID)
	b := &box{process: p, record: l.addView(key, p, ledger.View{Cgroups: paths}), enter: enter}
	bound, err := resview.Bind(l.dir, key, p, "/", resview.Files())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range resview.Files() {
		for _, target := range bound {
			if f.Target == target {
				b.bound = append(b.bound, f)
			}
		}
	}
	return b
}

// groups makes a group in each hierarchy that the view reads.
func (l *lab) groups(key string) (paths map[string]string, enter func(pid int)) {
	l.t.Helper()
	mounts, err := cgroup.Mounts()
	if err != nil {
		l.t.Skip(err)
	}
	name := cgroupName(l.dir) + "-" + key
	paths = map[string]string{}
	var made []group
	for _, controller := range []string{"memory", "cpu", "cpuacct", "cpuset", "blkio", "pids"} {
		m, ok := mounts.V1[controller]
		if !ok {
			continue
		}
		paths[controller] = "/" + name
		if _, err := os.Stat(filepath.Join(m.Dir, name)); err == nil {
			continue // mounted together with one before
		}
		g := group{dir: m.Dir}.below(l.t, name)
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group
			if text, err := os.ReadFile(filepath.Join(m.Dir, f)); err == nil {
				g.write(l.t, f, string(text))
			}
		}
		made = append(made, g)
	}
	if len(made) == 0 {
		paths[cgroup.Unified] = "/" + name
		made = append(made, group{dir: mounts.Unified.Dir, v2: true}.below(l.t, name))
	}
	return paths, func(pid int) {
		for _, g := range made {
			g.enter(l.t, pid)
		}
	}
}

// item is a file, a directory or a link of a container's view, and what is in it:
// of a file its shape.
type item struct{ path, want string }

// items are all that a container's view has.
func (b *box) items(t testing.TB) (all []item) {
	t.Helper()
	for _, f := range b.bound {
		err := filepath.WalkDir(b.path(f.Target), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			want, err := look(path)
			all = append(all, item{path, want})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// look gives the names in a directory, the target of a link, the shape of a file.
func look(path string) (string, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return "", err
	case info.Mode().Type() == fs.ModeSymlink:
		return os.Readlink(path)
	case info.IsDir():
		entries, err := os.ReadDir(path)
		return fmt.Sprint(entries), err
	}
	text, err := readAll(path, 16<<10)
	if filepath.Base(path) == "diskstats" {
		return "", errors.Join(err, wholeLines(text))
	}
	return shape(text), err
}

// wholeLines says whether text may be that of diskstats, which grows by a line with
// each device that the container comes to use.
func wholeLines(text []byte) error {
	for line := range strings.Lines(string(text)) {
		if len(strings.Fields(line)) < 14 || !strings.HasSuffix(line, "\n") {
			return fmt.Errorf("odd line %q", line)
		}
	}
	return nil
}

var number = regexp.MustCompile(`[0-9]+`)

// shape is a file's text without what changes in it: any number is 0, and as wide
// as any other.
func shape(text []byte) string {
	return strings.Join(strings.Fields(number.ReplaceAllString(string(text), "0")), " ")
}

// readItems starts n readers, each of which reads everything there is, from another
// place on.
func readItems(n int, all []item) *readers {
	rs := &readers{stop: make(chan struct{})}
	for i := range n {
		rs.group.Go(func() {
			for at := i * len(all) / n; ; at = (at + 1) % len(all) {
				select {
				case <-rs.stop:
					return
				default:
				}
				start := time.Now()
				got, err := look(all[at].path)
				took := time.Since(start)
				if err == nil && got != all[at].want {
					err = fmt.Errorf("%s: %q, want %q", all[at].path, got, all[at].want)
				}
				rs.note(took, err)
			}
		})
	}
	return rs
}

// allMended waits until every file of the container can be read.
func (b *box) allMended(t testing.TB) {
	t.Helper()
	for _, f := range b.bound {
		for end := time.Now().Add(3 * patience); ; time.Sleep(2 * time.Millisecond) {
			_, err := look(b.path(f.Target))
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s of %s is not mended: %v", f.Target, b.record.Key, err)
			}
		}
	}
}

// size is a number from the environment: how often, or of how many.
func size(t testing.TB, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	var n int
	if _, err := fmt.Sscan(text, &n); err != nil || n < 1 {
		t.Fatal(errors.Join(fmt.Errorf("%s=%s is no size", name, text), err))
	}
	return n
}

// notInShort skips what takes minutes on an emulated machine, and to which no kernel
// makes a difference that another test does not meet.
func notInShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("too long for -short: make soak runs it")
	}
}
