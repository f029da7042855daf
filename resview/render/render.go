// Package render makes the content of the files that show a container its own
// resources: /proc/meminfo, stat, cpuinfo, diskstats, loadavg, swaps, uptime,
// vmstat, zoneinfo, slabinfo and pressure, and /sys/devices/system/cpu and node.
//
// A [Host] holds what all containers of a node share; a [Container] gathers
// the readings of one and renders. The renderers proper are pure functions of
// those readings. Nothing here knows how the bytes reach a reader.
//
// docs/resource-view.md gives the formula of every field and its sources.
package render

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
)

// Reuse is how long a file's content is handed out again before it is made
// anew, so that a reader in a loop costs little.
const Reuse = 100 * time.Millisecond

// The files, in the order of [Names].
const (
	fileMeminfo = iota
	fileStat
	fileCPUInfo
	fileDiskstats
	fileLoadavg
	fileSwaps
	fileCPUOnline
	fileVmstat
	fileZoneinfo
	fileSlabinfo
	fileUptime
	fileCount
)

// ErrUnknownFile says that no file of the given name is rendered.
var ErrUnknownFile = errors.New("no such file in the resource view")

// Names are the files that [Container.Render] knows, but for those in the
// directories that [Container.List] knows.
func Names() []string {
	return []string{
		"meminfo", "stat", "cpuinfo", "diskstats", "loadavg", "swaps", "cpu-online",
		"vmstat", "zoneinfo", "slabinfo", "uptime",
	}
}

// indexOf is a file's place in Names, -1 for none.
func indexOf(file string) int {
	switch file {
	case "meminfo":
		return fileMeminfo
	case "stat":
		return fileStat
	case "cpuinfo":
		return fileCPUInfo
	case "diskstats":
		return fileDiskstats
	case "loadavg":
		return fileLoadavg
	case "swaps":
		return fileSwaps
	case "cpu-online":
		return fileCPUOnline
	case "vmstat":
		return fileVmstat
	case "zoneinfo":
		return fileZoneinfo
	case "slabinfo":
		return fileSlabinfo
	case "uptime":
		return fileUptime
	}
	return -1
}

// Container renders the files of one container. It is safe for concurrent use:
// of several readers of one file one gathers and the others get the same
// content, and readers of different files do not wait for each other.
type Container struct {
	view     ledger.View
	host     *Host
	reader   atomic.Pointer[cgroup.Reader]
	followed followState
	cells    [fileCount]cell
	// used is the Unix time of the last Render, in nanoseconds.
	used atomic.Int64

	stat     statState // guarded by cells[fileStat].render
	census   censusState
	load     loadState
	sampling atomic.Bool // a sample is being taken
	counters *counters
}

// cell is one file's content.
type cell struct {
	// render is held by the one who makes new content; content guards the
	// fields below it. The first is taken before the second.
	render  sync.Mutex
	content sync.Mutex
	at      time.Time
	ok      bool
	body    []byte
	spare   []byte // guarded by render
}

// Open prepares the rendering for the container that view describes. No file
// is opened before it is asked for.
func Open(view ledger.View, host *Host) (*Container, error) {
	group, err := host.hierarchies.Open(view.Cgroups)
	if err != nil {
		return nil, fmt.Errorf("open resource view %d: %w", view.ID, err)
	}
	c := &Container{view: view, host: host, counters: host.countersOf(view.ID)}
	c.reader.Store(group)
	c.followed.groups = view.Cgroups
	c.stat.restore(c.counters.get(counterStat))
	c.census.restore(c.counters.get(counterTasks))
	c.load.restore(c.counters.get(counterLoad))
	host.add(c)
	return c, nil
}

// Close gives up all that the container holds here. It may be called twice.
func (c *Container) Close() error {
	c.host.remove(c)
	return errors.Join(c.group().Close(), c.counters.close())
}

// Render appends the content of file to dst: one of [Names], or what lies in one
// of the directories ([Container.List]), by its path; of a link, its target.
//
// The content of the last [Reuse] before now is used again. When the readings
// fail, as they do once the container is dead and its cgroup gone, the last good
// content is the answer; without any the error is. Neither holds for what lies
// in directories: of those files there are too many to keep each.
func (c *Container) Render(dst []byte, file string, now time.Time) ([]byte, error) {
	c.used.Store(now.UnixNano())
	i := indexOf(file)
	if i < 0 {
		c.follow(now)
		dst, err := c.renderPath(dst, file, now)
		if err != nil {
			return dst, fmt.Errorf("render %q: %w", file, err)
		}
		return dst, nil
	}
	reuse := Reuse
	if i == fileUptime { // a clock
		reuse = 0
	}
	cl := &c.cells[i]
	if dst, ok := cl.fresh(dst, now, reuse); ok {
		return dst, nil
	}
	cl.render.Lock()
	defer cl.render.Unlock()
	if dst, ok := cl.fresh(dst, now, reuse); ok { // made while we waited
		return dst, nil
	}
	c.follow(now)
	body, err := c.gather(cl.spare[:0], i, now)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		c.host.shrink(c)
		body, err = c.gather(cl.spare[:0], i, now)
	}
	if err != nil {
		if dst, ok := cl.last(dst); ok {
			return dst, nil
		}
		return dst, fmt.Errorf("render %s: %w", file, err)
	}
	cl.content.Lock()
	defer cl.content.Unlock()
	cl.body, cl.spare = body, cl.body
	cl.at, cl.ok = now, true
	return append(dst, body...), nil
}

// Last appends the last good content of file to dst, however old, and reports
// whether there was any. It never waits for a Render that hangs.
func (c *Container) Last(dst []byte, file string) ([]byte, bool) {
	i := indexOf(file)
	if i < 0 {
		return dst, false
	}
	return c.cells[i].last(dst)
}

func (cl *cell) fresh(dst []byte, now time.Time, reuse time.Duration) ([]byte, bool) {
	cl.content.Lock()
	defer cl.content.Unlock()
	if age := now.Sub(cl.at); !cl.ok || age < 0 || age >= reuse {
		return dst, false
	}
	return append(dst, cl.body...), true
}

func (cl *cell) last(dst []byte) ([]byte, bool) {
	cl.content.Lock()
	defer cl.content.Unlock()
	if !cl.ok {
		return dst, false
	}
	return append(dst, cl.body...), true
}

// gather takes the readings for a file and renders it.
func (c *Container) gather(dst []byte, file int, now time.Time) ([]byte, error) {
	switch file {
	case fileMeminfo, fileSwaps:
		m, host, err := c.memory(now)
		if err != nil {
			return dst, err
		}
		if file == fileSwaps {
			return appendSwaps(dst, &m, &host), nil
		}
		huge, err := c.hugePages(&host, now)
		if err != nil {
			return dst, err
		}
		return appendMeminfo(dst, &m, &host, &huge), nil
	case fileDiskstats:
		s := c.host.borrow()
		defer c.host.giveBack(s)
		disks, err := c.readDisks(s, now)
		if err != nil {
			return dst, err
		}
		return appendDiskstats(dst, s.devices, disks), nil
	case fileLoadavg:
		return c.gatherLoadavg(dst, now)
	case fileVmstat, fileZoneinfo:
		return c.gatherPages(dst, file, now)
	case fileSlabinfo:
		return appendSlabinfo(dst), nil
	}

	s := c.host.borrow()
	defer c.host.giveBack(s)
	switch file {
	case fileStat:
		return c.gatherStat(dst, s, now)
	case fileUptime:
		return c.gatherUptime(dst, s, now)
	}
	if err := c.shownCPUs(s, now); err != nil {
		return dst, err
	}
	switch file {
	case fileCPUInfo:
		info, err := c.host.cpuinfo.get(now)
		if err != nil {
			return dst, err
		}
		return appendCPUInfo(dst, info, s.shown), nil
	default:
		return appendCPUOnline(dst, s.shown), nil
	}
}

// closeFiles gives up the descriptors; what is asked next opens them again.
func (c *Container) closeFiles() {
	c.group().Release()
	_ = c.counters.close() // all that is written is in the page cache
}

// release drops descriptors and contents of a container that nobody asks.
func (c *Container) release() {
	c.closeFiles()
	for i := range c.cells {
		cl := &c.cells[i]
		if !cl.render.TryLock() {
			continue
		}
		cl.content.Lock()
		cl.ok, cl.body, cl.spare = false, nil, nil
		cl.content.Unlock()
		cl.render.Unlock()
	}
}
