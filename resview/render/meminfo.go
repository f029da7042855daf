package render

import (
	"errors"
	"strconv"
	"time"

	"candor.dev/candor/cgroup"
)

// hostMemory is what the view needs of the host's /proc/meminfo, in bytes.
type hostMemory struct {
	Total, SwapTotal uint64
	HugePageSize     uint64 // of those that mmap(2) gives by default
}

func parseHostMemory(text []byte) (hostMemory, error) {
	var m hostMemory
	total, ok := fieldAfter(text, "MemTotal:")
	if !ok || total == 0 {
		return m, errors.New("no MemTotal line")
	}
	swap, _ := fieldAfter(text, "SwapTotal:")
	size, _ := fieldAfter(text, "Hugepagesize:")
	m.Total, m.SwapTotal, m.HugePageSize = total<<10, swap<<10, size<<10
	return m, nil
}

// memory takes the readings of memory: limited by what the container asked for,
// and made to add up.
func (c *Container) memory(now time.Time) (m cgroup.Memory, host hostMemory, err error) {
	if m, err = c.group().Memory(); err != nil {
		return m, host, err
	}
	if host, err = c.host.memory.get(now); err != nil {
		return m, host, err
	}
	limitToRequest(&m, &host, c.view.MemoryRequest)
	fit(&m, memoryTotal(&m, &host))
	return m, host, nil
}

// limitToRequest makes a request, 0 for none, the limit where the group's own is
// above it. Swap stays as it is: v1 limits it together with the memory.
func limitToRequest(m *cgroup.Memory, host *hostMemory, request uint64) {
	if request == 0 || request >= m.Limit {
		return
	}
	if m.MemSwapLimit != cgroup.NoLimit {
		m.MemSwapLimit = below(m.MemSwapLimit, memoryTotal(m, host)) + request
	}
	m.Limit = request
}

// fit cuts what the container holds to the given total: it may hold more than it
// asked for, and readings of one moment are not read in one moment. What can be
// given up goes first.
func fit(m *cgroup.Memory, total uint64) {
	m.Slab = min(m.Slab, total)
	m.SlabReclaimable = min(m.SlabReclaimable, m.Slab)
	m.Anon = min(m.Anon, total-m.Slab)
	// Pages in the swap cache are both of the page cache and anonymous.
	m.SwapCached = min(m.SwapCached, m.File)
	m.File = min(m.File, total-m.Slab-m.Anon+m.SwapCached)
}

// memoryTotal is the memory that the container may use.
func memoryTotal(m *cgroup.Memory, host *hostMemory) uint64 { return min(m.Limit, host.Total) }

// swapTotal is the swap that the container may use, and how much of it is left.
func swapTotal(m *cgroup.Memory, host *hostMemory) (total, free uint64) {
	if !m.SwapAccounted {
		return 0, 0
	}
	total = min(host.SwapTotal, m.SwapLimit)
	// v1 limits memory and swap together: what goes beyond the memory is the
	// swap, as Docker's --memory-swap has it.
	if m.MemSwapLimit != cgroup.NoLimit {
		total = min(total, below(m.MemSwapLimit, memoryTotal(m, host)))
	}
	return total, min(below(total, m.Swap), m.OuterSwapFree)
}

// watermarks are what the kernel would keep free on a machine with the given
// memory, in bytes: its min_free_kbytes of 4*sqrt(memory in kB) within 128 kB
// and 256 MB, and the step from it to the low watermark and from that to the
// high one, the larger of a quarter of it and a thousandth of the memory
// (mm/page_alloc.c: init_per_zone_wmark_min, __setup_per_zone_wmarks).
func watermarks(total uint64) (minimum, step uint64) {
	kb := total >> 10
	minimum = min(max(4*squareRoot(kb), 128), 256<<10)
	return minimum << 10, max(minimum/4, kb/1000) << 10
}

// lowWatermark is the one below which the kernel begins to reclaim, in bytes.
func lowWatermark(total uint64) uint64 {
	minimum, step := watermarks(total)
	return minimum + step
}

// squareRoot is the integer square root.
func squareRoot(v uint64) uint64 {
	if v < 2 {
		return v
	}
	x := v
	for next := (v + 1) / 2; next < x; next = (x + v/x) / 2 {
		x = next
	}
	return x
}

// below is a-b, 0 where b is larger.
func below(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// mem is a container's memory, made to add up.
type mem struct {
	total, free, available uint64
	cached                 uint64
	swapTotal, swapFree    uint64
}

func reckonMemory(m *cgroup.Memory, host *hostMemory) mem {
	r := mem{total: memoryTotal(m, host)}
	r.swapTotal, r.swapFree = swapTotal(m, host)
	// Usage and the lines of memory.stat are not read in one moment, and the
	// kernel batches both.
	r.cached = below(m.File, m.SwapCached)
	used := min(max(m.Usage, r.cached+m.Anon+m.Slab), r.total)
	r.free = min(r.total-used, m.OuterFree)
	r.cached = min(r.cached, used)

	// As si_mem_available() reckons it: half of the page cache and of the
	// reclaimable slab, but no more than the low watermark, stays in use.
	low := lowWatermark(r.total)
	cache := min(m.Cache(), used)
	cache -= min(cache/2, low)
	slab := min(m.SlabReclaimable, used-cache)
	slab -= min(slab/2, low)
	r.available = min(r.free+cache+slab, m.OuterAvailable, r.total)
	return r
}

// appendMeminfo renders /proc/meminfo in the kernel's order (fs/proc/meminfo.c).
func appendMeminfo(dst []byte, m *cgroup.Memory, host *hostMemory, huge *hugePages) []byte {
	r := reckonMemory(m, host)
	w := meminfoWriter{dst: dst}
	w.line("MemTotal:       ", r.total)
	w.line("MemFree:        ", r.free)
	w.line("MemAvailable:   ", r.available)
	w.line("Buffers:        ", 0) // no group's account tells them from Cached
	w.line("Cached:         ", r.cached)
	w.lists(m)
	w.line("SwapTotal:      ", r.swapTotal)
	w.line("SwapFree:       ", r.swapFree)
	if m.Detailed {
		w.line("Zswap:          ", m.Zswap)
		w.line("Zswapped:       ", m.Zswapped)
	}
	w.line("Dirty:          ", m.Dirty)
	w.line("Writeback:      ", m.Writeback)
	w.line("AnonPages:      ", m.Anon)
	w.line("Mapped:         ", m.Mapped)
	w.line("Shmem:          ", m.Shmem)
	w.line("KReclaimable:   ", m.SlabReclaimable)
	w.line("Slab:           ", m.Slab)
	w.line("SReclaimable:   ", m.SlabReclaimable)
	w.line("SUnreclaim:     ", below(m.Slab, m.SlabReclaimable))
	if m.Detailed {
		w.line("KernelStack:    ", m.KernelStack)
		w.line("PageTables:     ", m.PageTables)
		w.line("SecPageTables:  ", m.SecondaryPageTables)
		w.line("Percpu:         ", m.Percpu)
	}
	w.line("AnonHugePages:  ", m.AnonHuge)
	if m.Detailed {
		w.line("ShmemHugePages: ", m.ShmemHuge)
		w.line("FileHugePages:  ", m.FileHuge)
	}
	w.count("HugePages_Total:", huge.total)
	w.count("HugePages_Free: ", huge.free)
	w.count("HugePages_Rsvd: ", huge.reserved)
	w.count("HugePages_Surp: ", 0) // not accounted to groups
	if host.HugePageSize != 0 {
		// A constant of the machine that programs need for mmap.
		w.line("Hugepagesize:   ", host.HugePageSize)
	}
	w.line("Hugetlb:        ", huge.bytes)
	return w.dst
}

// appendNodeMeminfo renders /sys/devices/system/node/node0/meminfo in the
// kernel's order (drivers/base/node.c): all memory is the one node's.
func appendNodeMeminfo(dst []byte, m *cgroup.Memory, host *hostMemory, huge *hugePages) []byte {
	r := reckonMemory(m, host)
	w := meminfoWriter{dst: dst, prefix: "Node 0 "}
	w.line("MemTotal:       ", r.total)
	w.line("MemFree:        ", r.free)
	w.line("MemUsed:        ", r.total-r.free)
	w.lists(m)
	w.line("Dirty:          ", m.Dirty)
	w.line("Writeback:      ", m.Writeback)
	w.line("FilePages:      ", m.File)
	w.line("Mapped:         ", m.Mapped)
	w.line("AnonPages:      ", m.Anon)
	w.line("Shmem:          ", m.Shmem)
	if m.Detailed {
		w.line("KernelStack:    ", m.KernelStack)
		w.line("PageTables:     ", m.PageTables)
		w.line("SecPageTables:  ", m.SecondaryPageTables)
	}
	w.line("KReclaimable:   ", m.SlabReclaimable)
	w.line("Slab:           ", m.Slab)
	w.line("SReclaimable:   ", m.SlabReclaimable)
	w.line("SUnreclaim:     ", below(m.Slab, m.SlabReclaimable))
	w.line("AnonHugePages:  ", m.AnonHuge)
	if m.Detailed {
		w.line("ShmemHugePages: ", m.ShmemHuge)
		w.line("FileHugePages:  ", m.FileHuge)
	}
	w.count("HugePages_Total:", huge.total)
	w.count("HugePages_Free: ", huge.free)
	w.count("HugePages_Surp: ", 0)
	return w.dst
}

type meminfoWriter struct {
	dst    []byte
	prefix string // of each line
}

// lists writes what is on the kernel's lists of pages.
func (w *meminfoWriter) lists(m *cgroup.Memory) {
	w.line("SwapCached:     ", m.SwapCached)
	w.line("Active:         ", m.ActiveAnon+m.ActiveFile)
	w.line("Inactive:       ", m.InactiveAnon+m.InactiveFile)
	w.line("Active(anon):   ", m.ActiveAnon)
	w.line("Inactive(anon): ", m.InactiveAnon)
	w.line("Active(file):   ", m.ActiveFile)
	w.line("Inactive(file): ", m.InactiveFile)
	w.line("Unevictable:    ", m.Unevictable)
}

// line writes bytes as kB.
func (w *meminfoWriter) line(name string, bytes uint64) {
	w.dst = append(w.dst, w.prefix...)
	w.dst = append(w.dst, name...)
	w.dst = appendPadded(w.dst, bytes>>10, 8)
	w.dst = append(w.dst, " kB\n"...)
}

func (w *meminfoWriter) count(name string, n uint64) {
	w.dst = append(w.dst, w.prefix...)
	w.dst = append(w.dst, name...)
	w.dst = appendPadded(w.dst, n, 8)
	w.dst = append(w.dst, '\n')
}

// appendPadded appends v, right-aligned in the given width.
func appendPadded(dst []byte, v uint64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendUint(digits[:0], v, 10)
	for i := len(text); i < width; i++ {
		dst = append(dst, ' ')
	}
	return append(dst, text...)
}
