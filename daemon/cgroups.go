package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ownCgroups are the groups that candord made for itself.
type ownCgroups struct {
	dirs []string
}

// cgroupName is unique to a state directory.
func cgroupName(stateDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(stateDir)))
	return "candord-" + hex.EncodeToString(sum[:4])
}

// enterOwnCgroups moves this process into a group below the root of every
// hierarchy that lets it. A candord that an engine started would else be frozen,
// limited and killed with the engine, or with the first container.
func enterOwnCgroups(stateDir string) ownCgroups {
	var own ownCgroups
	for _, dir := range ownCgroupDirs(stateDir) {
		if err := enterCgroup(dir); err == nil {
			own.dirs = append(own.dirs, dir)
		}
	}
	return own
}

// removeOwnCgroups removes the groups that a candord before this one left, which
// an engine had started. Its worker, just killed, may take a moment to die.
func removeOwnCgroups(stateDir string) {
	for _, dir := range ownCgroupDirs(stateDir) {
		go func() {
			for range 100 {
				if !errors.Is(os.Remove(dir), unix.EBUSY) {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
}

// ownCgroupDirs returns where candord's own group would be in each hierarchy
// that is mounted from its root. The device list of cgroup v1 is none of them:
// it is a matter of rights, which stay.
func ownCgroupDirs(stateDir string) (dirs []string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 1 || g[0] != "cgroup" && g[0] != "cgroup2" || f[3] != "/" || seen[f[2]] {
			continue
		}
		if g[0] == "cgroup" && slices.Contains(strings.Split(g[len(g)-1], ","), "devices") {
			continue
		}
		seen[f[2]] = true
		dirs = append(dirs, filepath.Join(f[4], cgroupName(stateDir)))
	}
	return dirs
}

func enterCgroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// A new cpuset of cgroup v1 is empty, and nothing may enter it.
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil || len(strings.TrimSpace(string(b))) == 0 {
			continue
		}
		_ = writeCgroup(filepath.Join(dir, name), strings.TrimSpace(string(b)))
	}
	if err := joinCgroup(dir); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}

func joinCgroup(dir string) error {
	return writeCgroup(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid()))
}

// writeCgroup opens without O_CREATE and O_TRUNC, which cgroupfs knows nothing
// of.
func writeCgroup(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// leave goes back to the root of each hierarchy and removes the groups. A child
// that was just killed may take a moment to die.
func (o ownCgroups) leave() error {
	var errs []error
	end := time.Now().Add(time.Second)
	for _, dir := range o.dirs {
		if err := joinCgroup(filepath.Dir(dir)); err != nil {
			errs = append(errs, fmt.Errorf("leave %s: %w", dir, err))
			continue
		}
		err := os.Remove(dir)
		for errors.Is(err, unix.EBUSY) && time.Now().Before(end) {
			time.Sleep(readyInterval)
			err = os.Remove(dir)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
