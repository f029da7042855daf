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
// limited and killed with the engine, or with the first container. The device
// list of cgroup v1 is no such thing but a matter of rights: it stays.
func enterOwnCgroups(stateDir string) ownCgroups {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ownCgroups{}
	}
	var own ownCgroups
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		// Only hierarchies that are mounted from their root, each once.
		if !ok || len(f) < 5 || len(g) < 1 || g[0] != "cgroup" && g[0] != "cgroup2" || f[3] != "/" || seen[f[2]] {
			continue
		}
		if g[0] == "cgroup" && slices.Contains(strings.Split(g[len(g)-1], ","), "devices") {
			continue
		}
		seen[f[2]] = true
		dir := filepath.Join(f[4], cgroupName(stateDir))
		if err := enterCgroup(dir); err == nil {
			own.dirs = append(own.dirs, dir)
		}
	}
	return own
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
	if err := joinCgroup(dir, os.Getpid()); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}

func joinCgroup(dir string, pid int) error {
	return writeCgroup(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
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

// leaveTimeout is how long a group is waited for in which a process is dying.
const leaveTimeout = 2 * time.Second

// leave moves what is in the groups to the root of each hierarchy, and removes the
// groups: the next candord may be systemd's, whose unit lacks the right to. Beside this
// process that is a worker that serves on, one that is killed and not dead, a healer.
func (o ownCgroups) leave() error {
	var errs []error
	for _, dir := range o.dirs {
		if err := leaveCgroup(dir); err != nil {
			errs = append(errs, fmt.Errorf("leave %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func leaveCgroup(dir string) error {
	for end := time.Now().Add(leaveTimeout); ; time.Sleep(readyInterval) {
		err := emptyCgroup(dir)
		removed := os.Remove(dir)
		if removed == nil || errors.Is(removed, os.ErrNotExist) {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(err, removed)
		}
	}
}

// emptyCgroup moves all processes of the group to the one above it.
func emptyCgroup(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(b)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err == nil {
			err = joinCgroup(filepath.Dir(dir), pid)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
