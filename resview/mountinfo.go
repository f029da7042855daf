package resview

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountLine is what mountinfo says of one mount.
type mountLine struct {
	id, parent int
	device     uint64
	at         string
	fsType     string
}

// viewMounts returns, for each path on which a file of a view is the topmost
// mount, its device. The paths are as the process's root sees them.
func viewMounts(pid int) (map[string]uint64, error) {
	name := fmt.Sprintf("/proc/%d/mountinfo", pid)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	mounts, err := topmostViews(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return mounts, nil
}

// topmostViews goes by the parents and not by the order of the lines: a mount
// that was put beneath another comes after it (proc_pid_mountinfo(5) promises no
// order; it is that of the ids since Linux 6.8).
func topmostViews(mountinfo string) (map[string]uint64, error) {
	stacks := map[string][]mountLine{}
	for line := range strings.Lines(mountinfo) {
		m, err := parseMount(line)
		if err != nil {
			return nil, err
		}
		stacks[m.at] = append(stacks[m.at], m)
	}
	views := map[string]uint64{}
	for at, stack := range stacks {
		covered := map[int]bool{}
		for _, m := range stack {
			covered[m.parent] = true
		}
		for _, m := range stack {
			if !covered[m.id] && m.fsType == FSType {
				views[at] = m.device
			}
		}
	}
	return views, nil
}

func parseMount(line string) (m mountLine, err error) {
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !ok || len(f) < 6 || len(g) < 1 {
		return m, fmt.Errorf("odd line %q", line)
	}
	major, minor, _ := strings.Cut(f[2], ":")
	var numbers [4]uint64
	for i, s := range []string{f[0], f[1], major, minor} {
		if numbers[i], err = strconv.ParseUint(s, 10, 32); err != nil {
			return m, fmt.Errorf("odd line %q", line)
		}
	}
	return mountLine{
		id:     int(numbers[0]),
		parent: int(numbers[1]),
		device: unix.Mkdev(uint32(numbers[2]), uint32(numbers[3])),
		at:     unescape(f[4]),
		fsType: g[0],
	}, nil
}

// unescape undoes the octal escapes of white space and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
