package render

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/resview/layout"
)

const (
	// hostReuse is how long readings of the host are used again; they change
	// by hot-plug, swapon and the like only.
	hostReuse = time.Second
	// fixedReuse is for what is fixed but for hot-plug and dear to read: making
	// /proc/cpuinfo costs the kernel more than all other files together, and of
	// it only MHz changes; of diskstats only names and numbers are used.
	fixedReuse = 10 * time.Second
	// idleAfter is how long a container is kept at hand, and its load is
	// sampled, after it was last asked.
	idleAfter = 5 * time.Minute
)

// Host holds what the containers of a node share: readings of the host's own
// files, which are kept open, and the list of the containers. It is safe for
// concurrent use.
type Host struct {
	root        string
	live        bool // root is this machine's own
	hierarchies cgroup.Hierarchies
	layout      *layout.Layout
	proc        int // descriptor of root/proc
	// pageSize and hugePageSize, of transparent ones (0: the kernel has none),
	// are in bytes.
	pageSize, hugePageSize uint64
	pools                  []*hugePool

	memory  cached[hostMemory]
	online  cached[[]int]
	cpuinfo cached[*hostCPUInfo]
	disks   cached[[]hostDisk]
	uptime  cached[time.Duration]
	boot    cached[int64]

	scratches sync.Pool // of *scratch
	counters  *os.File  // the directory of [Host.KeepCounters], nil for none
	noted     atomic.Pointer[error]

	mu         sync.Mutex
	containers map[*Container]struct{}
	// maxDescriptors bounds what the containers' readers hold together.
	maxDescriptors int
}

// scratch are readings of one rendering, kept for their slices.
type scratch struct {
	cpu            cgroup.CPU
	allowed, shown []int
	devices        []cgroup.DeviceIO
}

// NewHost opens the files of the machine whose root directory is at root: "/",
// or a fixture with the files of a recorded one.
func NewHost(root string) (*Host, error) {
	hierarchies, err := cgroup.MountsAt(root)
	if err != nil {
		return nil, err
	}
	h := &Host{
		root: root, live: filepath.Clean(root) == "/", hierarchies: hierarchies, layout: layout.New(),
		containers: map[*Container]struct{}{}, maxDescriptors: 4096, pageSize: 4096,
	}
	if h.live {
		h.pageSize = uint64(os.Getpagesize())
	}
	huge := source(root, "sys/kernel/mm/transparent_hugepage/hpage_pmd_size", 0, parseHugePageSize)
	defer huge.close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/2 < 1<<20 {
		h.maxDescriptors = int(limit.Cur / 2)
	}
	h.proc, err = unix.Open(filepath.Join(root, "proc"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s/proc: %w", root, err)
	}
	h.memory = source(root, "proc/meminfo", hostReuse, parseHostMemory)
	h.online = source(root, "sys/devices/system/cpu/online", hostReuse, parseOnline)
	h.cpuinfo = source(root, "proc/cpuinfo", fixedReuse, parseCPUInfo)
	h.disks = source(root, "proc/diskstats", fixedReuse, parseDisks)
	h.uptime = source(root, "proc/uptime", 0, parseUptime)
	h.boot = source(root, "proc/stat", hostReuse, parseBootTime)
	now := time.Now()
	if h.hugePageSize, err = huge.get(now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, h.Close())
	}
	memory, err := h.memory.get(now)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if h.pools, err = openPools(root, memory.HugePageSize); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if _, err := h.online.get(now); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close closes the host's files. Containers of the host are to be closed first.
func (h *Host) Close() error {
	for _, f := range []interface{ close() }{&h.memory, &h.online, &h.cpuinfo, &h.disks, &h.uptime, &h.boot} {
		f.close()
	}
	for _, pool := range h.pools {
		pool.pages.close()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc < 0 {
		return nil
	}
	err := unix.Close(h.proc)
	h.proc = -1
	if h.counters != nil {
		err = errors.Join(err, h.counters.Close())
	}
	return err
}

func (h *Host) borrow() *scratch {
	if s, ok := h.scratches.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

func (h *Host) giveBack(s *scratch) { h.scratches.Put(s) }

// note remembers a failure that readers do not suffer from, for [Host.Sample] to
// return it.
func (h *Host) note(err error) {
	if err != nil {
		kept := err // err itself would be allocated at each call, also for none
		h.noted.Store(&kept)
	}
}

func (h *Host) add(c *Container) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.containers[c] = struct{}{}
}

func (h *Host) remove(c *Container) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.containers, c)
}

// list gives the containers, those that were asked longest ago first.
func (h *Host) list() []*Container {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*Container, 0, len(h.containers))
	used := make(map[*Container]int64, len(h.containers)) // it changes while we sort
	for c := range h.containers {
		all = append(all, c)
		used[c] = c.used.Load()
	}
	slices.SortFunc(all, func(a, b *Container) int { return cmp.Compare(used[a], used[b]) })
	return all
}

// trim takes descriptors and contents from the containers that nobody asked
// for idleAfter, and descriptors from those asked longest ago until all
// together hold at most maxDescriptors.
func (h *Host) trim(now time.Time) {
	all := h.list()
	held := 0
	for _, c := range all {
		held += c.group().Descriptors()
	}
	for _, c := range all {
		used := c.used.Load()
		switch n := c.group().Descriptors(); {
		case used != 0 && now.Sub(time.Unix(0, used)) > idleAfter:
			c.release()
			c.used.Store(0)
			held -= n
		case held > h.maxDescriptors:
			c.closeFiles()
			held -= n
		}
	}
}

// shrink takes the descriptors from the less recently asked half of the
// containers, sparing one: the process has run out of them.
func (h *Host) shrink(spare *Container) {
	all := h.list()
	for _, c := range all[:(len(all)+1)/2] {
		if c != spare {
			c.closeFiles()
		}
	}
}

// clocks gives the host's CLOCK_BOOTTIME, and the wall-clock time at which that
// clock was 0 in nanoseconds since 1970: what the kernel prints as uptime and
// btime.
func (h *Host) clocks(now time.Time) (uptime time.Duration, boot int64, err error) {
	if !h.live {
		if uptime, err = h.uptime.get(now); err != nil {
			return 0, 0, err
		}
		seconds, err := h.boot.get(now)
		return uptime, seconds * int64(time.Second), err
	}
	// A thread that is stopped between the two readings would move the boot
	// time: read again until they were close together.
	var before, wall, after unix.Timespec
	for range 8 {
		err = errors.Join(
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &before),
			unix.ClockGettime(unix.CLOCK_REALTIME, &wall),
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &after))
		if err != nil {
			return 0, 0, fmt.Errorf("read the clocks: %w", err)
		}
		if after.Nano()-before.Nano() < int64(time.Microsecond) {
			break
		}
	}
	return time.Duration(after.Nano()), wall.Nano() - before.Nano(), nil
}

// fieldAfter gives the number that follows the given key at a line's start.
func fieldAfter(text []byte, key string) (uint64, bool) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if v, n := cgroup.LeadingNumber(bytes.TrimLeft(rest, " \t")); n > 0 {
				return v, true
			}
		}
	}
	return 0, false
}

func parseBootTime(text []byte) (int64, error) {
	v, ok := fieldAfter(text, "btime ")
	if !ok || v > 1<<40 {
		return 0, errors.New("no btime line")
	}
	return int64(v), nil
}

// parseUptime parses /proc/uptime ("829.62 1480.05").
func parseUptime(text []byte) (time.Duration, error) {
	whole, n := cgroup.LeadingNumber(text)
	if n == 0 || len(text) < n+3 || text[n] != '.' || whole > 1<<32 {
		return 0, fmt.Errorf("%q is not an uptime", text)
	}
	part, _ := cgroup.LeadingNumber(text[n+1 : n+3])
	return time.Duration(whole)*time.Second + time.Duration(part)*10*time.Millisecond, nil
}
