package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Mount is where a hierarchy can be seen.
type Mount struct {
	// Dir is the mount point.
	Dir string
	// Root is the group that lies at Dir, "/" for the whole hierarchy; an
	// agent that runs in a container without a cgroup namespace of its own
	// sees only the part below its group.
	Root string
}

// Hierarchies are the mounted cgroup hierarchies of a host.
type Hierarchies struct {
	// V1 is by controller ("memory", ..., "name=systemd").
	V1 map[string]Mount
	// Unified is the cgroup v2 mount; its Dir is empty where there is none.
	Unified Mount
}

// Mounts reads the hierarchies that this process sees.
func Mounts() (Hierarchies, error) { return MountsAt("/") }

// MountsAt is [Mounts] of the tree at root: root/proc/self/mountinfo says what
// is mounted, and the mount points are taken below root.
func MountsAt(root string) (Hierarchies, error) {
	name := filepath.Join(root, "proc/self/mountinfo")
	text, err := os.ReadFile(name)
	if err != nil {
		return Hierarchies{}, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	h := ParseMounts(text)
	if len(h.V1) == 0 && h.Unified.Dir == "" {
		return Hierarchies{}, fmt.Errorf("find the cgroup mounts: none in %s", name)
	}
	for controller, m := range h.V1 {
		m.Dir = filepath.Join(root, m.Dir)
		h.V1[controller] = m
	}
	if h.Unified.Dir != "" {
		h.Unified.Dir = filepath.Join(root, h.Unified.Dir)
	}
	return h, nil
}

// ParseMounts picks the cgroup mounts from the text of a mountinfo file
// (proc_pid_mountinfo(5)). Of several mounts of a hierarchy it keeps the one
// that shows most of it, and of equals the first.
func ParseMounts(mountinfo []byte) Hierarchies {
	h := Hierarchies{V1: map[string]Mount{}}
	for line := range bytes.Lines(mountinfo) {
		fields := strings.Fields(string(line))
		// The optional fields end at a lone "-"; type, source and super
		// options follow it.
		end := -1
		for i := 6; i < len(fields); i++ {
			if fields[i] == "-" {
				end = i
				break
			}
		}
		if end < 0 || len(fields) < end+4 {
			continue
		}
		m := Mount{Dir: unescape(fields[4]), Root: unescape(fields[3])}
		switch fields[end+1] {
		case "cgroup2":
			if h.Unified.Dir == "" || showsMore(m, h.Unified) {
				h.Unified = m
			}
		case "cgroup":
			for option := range strings.SplitSeq(fields[end+3], ",") {
				if !isController(option) {
					continue
				}
				if old, ok := h.V1[option]; !ok || showsMore(m, old) {
					h.V1[option] = m
				}
			}
		}
	}
	return h
}

// isController tells a v1 mount's controllers from its other options.
func isController(option string) bool {
	switch option {
	case controllerMemory, controllerCPU, controllerCPUAcct, controllerCPUSet, controllerBlkio, controllerHugetlb, controllerPids,
		"devices", "freezer", "net_cls", "net_prio", "perf_event", "rdma", "misc":
		return true
	}
	return strings.HasPrefix(option, "name=")
}

// showsMore reports whether a's root is above b's.
func showsMore(a, b Mount) bool { return len(a.Root) < len(b.Root) }

// unescape undoes the kernel's octal escapes (\040 for a space).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }

// dirs gives the directories of a controller's groups, from the container's
// own up to the topmost one that is visible, and the cgroup version that they
// speak. A controller without a v1 mount is looked for in the unified
// hierarchy. paths are as [Of] gives them.
func (h Hierarchies) dirs(paths map[string]string, controller string) (dirs []string, version int, err error) {
	m, isV1 := h.V1[controller]
	group, known := paths[controller]
	version = 1
	if !isV1 || !known {
		m, version = h.Unified, 2
		group, known = paths[Unified]
		if m.Dir == "" || !known {
			return nil, 0, fmt.Errorf("%s: %w", controller, ErrNoController)
		}
	}
	// A path that climbs is a group outside this process's cgroup namespace
	// (cgroup_namespaces(7)).
	if !strings.HasPrefix(group, "/") || strings.Contains(group+"/", "/../") {
		return nil, 0, fmt.Errorf("%s: group %q is not visible from here", controller, group)
	}
	group = path.Clean(group)
	rel, inside := strings.CutPrefix(group, strings.TrimSuffix(m.Root, "/"))
	if !inside || (rel != "" && rel[0] != '/') {
		return nil, 0, fmt.Errorf("%s: group %s is not below %s, all that %s shows", controller, group, m.Root, m.Dir)
	}
	for dir := path.Join(m.Dir, rel); ; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
		if len(dir) <= len(m.Dir) {
			return dirs, version, nil
		}
	}
}
