package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/resview/layout"
)

// The directories of the view: what stands in the place of
// /sys/devices/system/cpu, /sys/devices/system/node and /proc/pressure.
const (
	cpuDirectory      = "cpu"
	nodeDirectory     = "node"
	pressureDirectory = "pressure"
)

// maxSysfsFile bounds the reading of a file of sysfs, which is a page at most
// but for lists and masks of CPUs.
const maxSysfsFile = 64 << 10

// List appends to dst the names in a directory of the view (package layout), such
// as "cpu/cpu3/topology". [fs.ErrNotExist]: the container has no such directory.
func (c *Container) List(dst []string, directory string, now time.Time) ([]string, error) {
	c.used.Store(now.UnixNano())
	c.follow(now)
	top, below, _ := strings.Cut(directory, "/")
	start := len(dst)
	var err error
	switch top {
	case pressureDirectory:
		dst, err = c.listPressure(dst, below)
	case cpuDirectory, nodeDirectory:
		s := c.host.borrow()
		defer c.host.giveBack(s)
		if err = c.shownCPUs(s, now); err != nil {
			break
		}
		if top == cpuDirectory {
			dst, err = c.listCPU(dst, below, s.shown)
		} else {
			dst, err = c.listNode(dst, below, s.shown)
		}
	default:
		err = fs.ErrNotExist
	}
	if err != nil {
		return dst[:start], fmt.Errorf("list %s: %w", directory, err)
	}
	names := slices.DeleteFunc(dst[start:], func(name string) bool {
		_, known := c.host.layout.Find(directory + "/" + name)
		return !known
	})
	return dst[:start+len(names)], nil
}

// renderPath renders what is in one of the view's directories: a file's content,
// or a link's target.
func (c *Container) renderPath(dst []byte, file string, now time.Time) ([]byte, error) {
	node, known := c.host.layout.Find(file)
	if !known || node.Kind() == layout.Directory {
		return dst, ErrUnknownFile
	}
	top, below, _ := strings.Cut(file, "/")
	switch top {
	case pressureDirectory:
		dst, err := c.group().Pressure(dst, below)
		if errors.Is(err, cgroup.ErrNoController) {
			err = errors.Join(fs.ErrNotExist, err)
		}
		return dst, err
	}
	s := c.host.borrow()
	defer c.host.giveBack(s)
	if err := c.shownCPUs(s, now); err != nil {
		return dst, err
	}
	if top == cpuDirectory {
		return c.renderCPU(dst, below, s, node.Kind())
	}
	return c.renderNode(dst, below, s.shown, now)
}

// shownCPUs works out s.shown alone.
func (c *Container) shownCPUs(s *scratch, now time.Time) error {
	if err := c.group().Quota(&s.cpu); err != nil {
		return err
	}
	return c.cpus(s, now)
}

func (c *Container) listPressure(dst []string, below string) ([]string, error) {
	if below != "" {
		return dst, fs.ErrNotExist
	}
	found := false
	for _, kind := range cgroup.PressureKinds() {
		_, err := c.group().Pressure(nil, kind)
		if errors.Is(err, cgroup.ErrNoController) {
			continue
		} else if err != nil {
			return dst, err
		}
		dst, found = append(dst, kind), true
	}
	if !found {
		return dst, fs.ErrNotExist
	}
	return dst, nil
}

func (c *Container) listCPU(dst []string, below string, shown []int) ([]string, error) {
	if _, known := ofShownCPU(below, shown); !known {
		return dst, fs.ErrNotExist
	}
	entries, err := os.ReadDir(c.host.sysfs(cpuDirectory, below))
	if err != nil {
		return dst, err
	}
	if below == "" {
		dst = append(dst, "isolated", "offline", "online", "possible", "present")
		dst = appendNumbered(dst, "cpu", shown)
	}
	for _, e := range entries {
		name := e.Name()
		_, isCPU := numbered(name, "cpu")
		_, isNode := numbered(name, "node")
		switch {
		case below == "" && (isCPU || slices.Contains(dst, name)):
		case isNode: // all memory is shown as one node
			dst = append(dst, "node0")
		default:
			dst = append(dst, name)
		}
	}
	return dst, nil
}

func (c *Container) renderCPU(dst []byte, below string, s *scratch, kind layout.Kind) ([]byte, error) {
	shown := s.shown
	rest, known := ofShownCPU(below, shown)
	if !known {
		return dst, fs.ErrNotExist
	}
	switch below {
	case "online", "present", "enabled":
		return appendCPUOnline(dst, shown), nil
	case "possible":
		// The bound of the ids that a task can meet, which a quota does not lower:
		// allocators make their tables by it, and look in them by the CPU they run on
		// (rseq(2), sched_getcpu(3); rr-debugger/rr#3105). With fewer they would write
		// behind the table.
		last := s.allowed[len(s.allowed)-1]
		if last == 0 {
			return append(dst, "0\n"...), nil
		}
		dst = append(dst, "0-"...)
		return append(strconv.AppendInt(dst, int64(last), 10), '\n'), nil
	case "offline", "isolated":
		return append(dst, '\n'), nil
	}
	switch rest {
	case "node0":
		return append(dst, "../../node/node0"...), nil
	case "subsystem":
		return append(dst, "../../../../bus/cpu"...), nil
	}
	start := len(dst)
	dst, err := appendSysfs(dst, c.host.sysfs(cpuDirectory, below))
	if err != nil {
		return dst, err
	}
	if kind == layout.File {
		return dst, nil
	}
	// What names CPUs names no others than those shown.
	parse := cgroup.ParseList
	if kind == layout.CPUMask {
		parse = parseCPUMask
	}
	ids, err := parse(nil, dst[start:])
	dst = dst[:start]
	if err != nil {
		return dst, err
	}
	ids = slices.DeleteFunc(ids, func(id int) bool { return !slices.Contains(shown, id) })
	if kind == layout.CPUMask {
		return appendCPUMask(dst, ids, shown), nil
	}
	return appendCPUOnline(dst, ids), nil
}

func (c *Container) listNode(dst []string, below string, shown []int) ([]string, error) {
	if _, err := os.Lstat(c.host.sysfs(nodeDirectory, "")); err != nil {
		return dst, err // a kernel without NUMA
	}
	switch below {
	case "":
		return append(dst, "has_cpu", "has_memory", "has_normal_memory", "node0", "online", "possible"), nil
	case "node0":
		dst = append(dst, "cpulist", "cpumap", "distance", "meminfo", "numastat")
		return appendNumbered(dst, "cpu", shown), nil
	}
	return dst, fs.ErrNotExist
}

// renderNode renders what is below /sys/devices/system/node (drivers/base/node.c):
// one node, which has all that the container has.
func (c *Container) renderNode(dst []byte, below string, shown []int, now time.Time) ([]byte, error) {
	switch below {
	case "online", "possible", "has_cpu", "has_memory", "has_normal_memory":
		return append(dst, "0\n"...), nil
	case "node0/cpulist":
		return appendCPUOnline(dst, shown), nil
	case "node0/cpumap":
		return appendCPUMask(dst, shown, shown), nil
	case "node0/distance":
		return append(dst, "10\n"...), nil
	case "node0/numastat":
		return append(dst, "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n"...), nil
	case "node0/meminfo":
		m, host, err := c.memory(now)
		if err != nil {
			return dst, err
		}
		huge, err := c.hugePages(&host, now)
		if err != nil {
			return dst, err
		}
		return appendNodeMeminfo(dst, &m, &host, &huge), nil
	}
	cpu, ok := strings.CutPrefix(below, "node0/")
	if id, isCPU := numbered(cpu, "cpu"); ok && isCPU && slices.Contains(shown, id) {
		return append(append(dst, "../../cpu/"...), cpu...), nil
	}
	return dst, fs.ErrNotExist
}

// ofShownCPU reports whether a path below the CPUs' directory is of no CPU in
// particular or of one that is shown, and gives what follows the CPU.
func ofShownCPU(below string, shown []int) (rest string, known bool) {
	first, rest, _ := strings.Cut(below, "/")
	id, isCPU := numbered(first, "cpu")
	return rest, !isCPU || slices.Contains(shown, id)
}

// numbered returns the number of a name such as "cpu12", by its prefix.
func numbered(name, prefix string) (number int, ok bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || digits == "" || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	number, err := strconv.Atoi(digits)
	return number, err == nil
}

func appendNumbered(dst []string, prefix string, ids []int) []string {
	for _, id := range ids {
		dst = append(dst, prefix+strconv.Itoa(id))
	}
	return dst
}

// parseCPUMask appends the ids of a mask such as "00000001,0000ff00", ascending.
func parseCPUMask(dst []int, text []byte) ([]int, error) {
	id := 0
	for _, c := range slices.Backward(text) {
		if c == '\n' || c == ',' {
			continue
		}
		digit, err := strconv.ParseUint(string(c), 16, 4)
		if err != nil || id >= 8192 { // the kernel's own bound
			return dst, fmt.Errorf("mask %q: no CPU mask", text)
		}
		for bit := range 4 {
			if digit&(1<<bit) != 0 {
				dst = append(dst, id+bit)
			}
		}
		id += 4
	}
	return dst, nil
}

// appendCPUMask appends ids, which ascend, as the mask that a machine would show
// of which shown are all CPUs: as wide as the last one demands, in groups of 32
// (lib/vsprintf.c: bitmap_string).
func appendCPUMask(dst []byte, ids, shown []int) []byte {
	width := 1
	if len(shown) > 0 {
		width = shown[len(shown)-1] + 1
	}
	digits := (width + 3) / 4
	for at := digits - 1; at >= 0; at-- {
		digit := uint64(0)
		for _, id := range ids {
			if id/4 == at {
				digit |= 1 << (id % 4)
			}
		}
		dst = strconv.AppendUint(dst, digit, 16)
		if at%8 == 0 && at > 0 {
			dst = append(dst, ',')
		}
	}
	return append(dst, '\n')
}

// sysfs is the path of what lies below a directory of /sys/devices/system.
func (h *Host) sysfs(directory, below string) string {
	return filepath.Join(h.root, "sys/devices/system", directory, below)
}

// appendSysfs appends a file of the machine's that everyone may read. Others are
// as good as absent: who hides files of sysfs from users hides them from
// containers, too.
func appendSysfs(dst []byte, name string) (_ []byte, err error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return dst, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name) // not in the poller: see cached
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return dst, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return dst, fs.ErrNotExist
	}
	dst = slices.Grow(dst, 4096)
	for start := len(dst); len(dst)-start < maxSysfsFile; dst = slices.Grow(dst, 4096) {
		n, err := f.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if n == 0 || err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return dst, err
		}
	}
	return dst, fmt.Errorf("read %s: more than %d bytes", name, maxSysfsFile)
}
