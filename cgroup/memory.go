package cgroup

import "errors"

// Memory is what the kernel accounts to a container, in bytes. The figures
// include the groups below the container's own.
type Memory struct {
	// Limit is the smallest memory limit of the container's group and the
	// groups above it; NoLimit where none is set.
	Limit uint64
	// Usage is what the container's group is charged with: anonymous memory,
	// page cache and kernel memory.
	Usage uint64
	// OuterFree and OuterAvailable are what the limits of the groups above
	// leave: the smallest of limit - usage, and the same plus the page cache
	// and slab that those groups could give up. NoLimit without such a limit.
	OuterFree, OuterAvailable uint64

	// SwapLimit is the smallest swap limit (v2); NoLimit where none is set.
	SwapLimit uint64
	// MemSwapLimit is the smallest limit of memory and swap together (v1);
	// NoLimit where none is set.
	MemSwapLimit uint64
	// SwapAccounted says that the kernel accounts swap to groups at all.
	SwapAccounted bool
	// OuterSwapFree is what the swap limits of the groups above leave: the
	// smallest of limit - usage, on v1 of memory and swap together. NoLimit
	// without such a limit.
	OuterSwapFree uint64

	MemoryStat
}

// MemoryStat are the lines of memory.stat, in bytes; on v1 those of the whole
// subtree (total_*).
type MemoryStat struct {
	File, Anon, Shmem, Mapped           uint64
	Dirty, Writeback                    uint64
	Swap, SwapCached                    uint64
	ActiveAnon, InactiveAnon            uint64
	ActiveFile, InactiveFile            uint64
	Unevictable                         uint64
	AnonHuge, ShmemHuge, FileHuge       uint64
	Slab, SlabReclaimable               uint64
	KernelStack, PageTables             uint64
	SecondaryPageTables, Percpu         uint64
	Zswap, Zswapped                     uint64
	hierarchicalLimit, hierarchicalSwap uint64 // v1: the kernel's own minimum over the hierarchy
	hasSwap                             bool   // v1: there is a hierarchicalSwap
	// Detailed says that the kernel tells the parts of its own memory apart
	// (v2); else Slab is all of it and the other parts are 0.
	Detailed bool
}

// Cache is the page cache that can be dropped at once: on the file lists,
// so neither shmem nor unevictable, and neither dirty nor under writeback.
func (s *MemoryStat) Cache() uint64 {
	return sub(s.ActiveFile+s.InactiveFile, s.Dirty+s.Writeback)
}

// The memory controller's files, by version.
const (
	memoryStatFile = iota
	memoryUsageFile
	memoryLimitFile
	memorySwapUsageFile // of swap alone (v2), as the next, or with the memory (v1)
	memorySwapLimitFile
	memoryKernelFile // v1 only: v2 has it in memory.stat
	memoryEventsFile
	memoryFiles
)

func memoryName(version, file int) string {
	if version == 1 {
		return [memoryFiles]string{
			"memory.stat", "memory.usage_in_bytes", "memory.limit_in_bytes",
			"memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes",
			"memory.kmem.usage_in_bytes", "memory.oom_control",
		}[file]
	}
	return [memoryFiles]string{
		"memory.stat", "memory.current", "memory.max",
		"memory.swap.current", "memory.swap.max", "", "memory.events",
	}[file]
}

// Memory reads the container's memory. Where the controller is enabled only
// above the container's group (v2), the nearest group that has it counts as
// the container's.
func (r *Reader) Memory() (Memory, error) {
	c := &r.memory
	if c.version == 0 {
		return Memory{}, c.err
	}
	s := r.borrow()
	defer r.giveBack(s)

	m := Memory{
		Limit: NoLimit, OuterFree: NoLimit, OuterAvailable: NoLimit,
		SwapLimit: NoLimit, MemSwapLimit: NoLimit, OuterSwapFree: NoLimit,
	}
	own, err := r.ownMemory(&m, s)
	if err != nil {
		return Memory{}, err
	}
	if c.version == 1 {
		// The kernel's own minimum over the hierarchy saves reading every
		// limit, and knows groups that are not visible from here.
		m.Limit, m.MemSwapLimit = m.hierarchicalLimit, m.hierarchicalSwap
		m.SwapAccounted = m.hasSwap
		if m.Limit == NoLimit {
			return m, nil
		}
	} else if err := r.groupLimits(&m, own, s); err != nil {
		return Memory{}, err
	}
	for g := own + 1; g < len(c.groups); g++ {
		if err := r.outerMemory(&m, g, s); err != nil {
			return Memory{}, err
		}
	}
	return m, nil
}

// ownMemory reads usage and memory.stat of the container's group, and gives
// its index.
func (r *Reader) ownMemory(m *Memory, s *scratch) (int, error) {
	for g := range r.memory.groups {
		usage, err := r.memoryValue(g, memoryUsageFile, s)
		if errors.Is(err, errAbsent) {
			continue
		} else if err != nil {
			return 0, err
		}
		m.Usage = usage
		return g, r.memoryStat(&m.MemoryStat, g, s)
	}
	return 0, errNoFile(&r.memory, memoryName(r.memory.version, memoryUsageFile))
}

// groupLimits takes a v2 group's limits into m.
func (r *Reader) groupLimits(m *Memory, g int, s *scratch) error {
	v, err := r.memoryValue(g, memoryLimitFile, s)
	if err == nil {
		m.Limit = min(m.Limit, v)
	} else if !errors.Is(err, errAbsent) {
		return err
	}
	v, err = r.memoryValue(g, memorySwapLimitFile, s)
	if err == nil {
		m.SwapAccounted, m.SwapLimit = true, min(m.SwapLimit, v)
	} else if !errors.Is(err, errAbsent) {
		return err
	}
	return nil
}

// outerMemory takes into m what a group above the container's allows.
func (r *Reader) outerMemory(m *Memory, g int, s *scratch) error {
	if r.memory.version == 2 {
		if err := r.groupLimits(m, g, s); err != nil {
			return err
		}
	}
	if err := r.outerSwap(m, g, s); err != nil {
		return err
	}
	if m.Limit == NoLimit {
		return nil
	}
	max, err := r.memoryValue(g, memoryLimitFile, s)
	if errors.Is(err, errAbsent) || err == nil && max == NoLimit {
		return nil // the root, or nothing to heed
	} else if err != nil {
		return err
	}
	if r.memory.version == 1 && max < m.Limit {
		return nil // a group without use_hierarchy (before Linux 5.11) does not bind those below
	}
	usage, err := r.memoryValue(g, memoryUsageFile, s)
	if err != nil {
		return err
	}
	var outer MemoryStat
	if err := r.memoryStat(&outer, g, s); err != nil {
		return err
	}
	free := sub(max, usage)
	m.OuterFree = min(m.OuterFree, free)
	m.OuterAvailable = min(m.OuterAvailable, free+outer.Cache()+outer.SlabReclaimable)
	return nil
}

// outerSwap takes into m what swap a group above the container's leaves.
func (r *Reader) outerSwap(m *Memory, g int, s *scratch) error {
	smallest := m.SwapLimit
	if r.memory.version == 1 {
		smallest = m.MemSwapLimit
	}
	if smallest == NoLimit {
		return nil
	}
	max, err := r.memoryValue(g, memorySwapLimitFile, s)
	// Below the smallest: a v1 group that does not bind those below.
	if errors.Is(err, errAbsent) || err == nil && (max == NoLimit || max < smallest) {
		return nil
	} else if err != nil {
		return err
	}
	used, err := r.memoryValue(g, memorySwapUsageFile, s)
	if err != nil {
		return err
	}
	m.OuterSwapFree = min(m.OuterSwapFree, sub(max, used))
	return nil
}

// memoryValue reads a file that holds one number.
func (r *Reader) memoryValue(g, file int, s *scratch) (uint64, error) {
	text, err := r.read(&r.memory, g, file, memoryName(r.memory.version, file), s)
	if err != nil {
		return 0, err
	}
	return limit(text), nil
}

// memoryStat reads memory.stat and what v1 and v2 keep beside it.
func (r *Reader) memoryStat(st *MemoryStat, g int, s *scratch) error {
	c := &r.memory
	text, err := r.read(c, g, memoryStatFile, memoryName(c.version, memoryStatFile), s)
	if err != nil {
		return err
	}
	if c.version == 1 {
		*st = parseMemoryStatV1(text)
		st.Slab, err = r.memoryValue(g, memoryKernelFile, s)
	} else {
		*st = parseMemoryStatV2(text)
		st.Swap, err = r.memoryValue(g, memorySwapUsageFile, s)
	}
	if errors.Is(err, errAbsent) { // nokmem, no swap accounting, old kernel
		return nil
	}
	return err
}

func parseMemoryStatV1(text []byte) MemoryStat {
	st := MemoryStat{hierarchicalLimit: NoLimit, hierarchicalSwap: NoLimit}
	eachPair(text, func(key []byte, v uint64) {
		switch string(key) {
		case "total_cache":
			st.File = v
		case "total_rss":
			st.Anon = v
		case "total_rss_huge":
			st.AnonHuge = v
		case "total_shmem":
			st.Shmem = v
		case "total_mapped_file":
			st.Mapped = v
		case "total_dirty":
			st.Dirty = v
		case "total_writeback":
			st.Writeback = v
		case "total_swap":
			st.Swap = v
		case "total_swapcached":
			st.SwapCached = v
		case "total_active_anon":
			st.ActiveAnon = v
		case "total_inactive_anon":
			st.InactiveAnon = v
		case "total_active_file":
			st.ActiveFile = v
		case "total_inactive_file":
			st.InactiveFile = v
		case "total_unevictable":
			st.Unevictable = v
		case "hierarchical_memory_limit":
			st.hierarchicalLimit = orNoLimit(v)
		case "hierarchical_memsw_limit":
			st.hasSwap, st.hierarchicalSwap = true, orNoLimit(v)
		}
	})
	return st
}

func orNoLimit(v uint64) uint64 {
	if v >= v1Unlimited {
		return NoLimit
	}
	return v
}

func parseMemoryStatV2(text []byte) MemoryStat {
	st := MemoryStat{Detailed: true, hierarchicalLimit: NoLimit, hierarchicalSwap: NoLimit}
	eachPair(text, func(key []byte, v uint64) {
		switch string(key) {
		case "file":
			st.File = v
		case "anon":
			st.Anon = v
		case "anon_thp":
			st.AnonHuge = v
		case "shmem_thp":
			st.ShmemHuge = v
		case "file_thp":
			st.FileHuge = v
		case "shmem":
			st.Shmem = v
		case "file_mapped":
			st.Mapped = v
		case "file_dirty":
			st.Dirty = v
		case "file_writeback":
			st.Writeback = v
		case "swapcached":
			st.SwapCached = v
		case "active_anon":
			st.ActiveAnon = v
		case "inactive_anon":
			st.InactiveAnon = v
		case "active_file":
			st.ActiveFile = v
		case "inactive_file":
			st.InactiveFile = v
		case "unevictable":
			st.Unevictable = v
		case "slab":
			st.Slab = v
		case "slab_reclaimable":
			st.SlabReclaimable = v
		case "kernel_stack":
			st.KernelStack = v
		case "pagetables":
			st.PageTables = v
		case "sec_pagetables":
			st.SecondaryPageTables = v
		case "percpu":
			st.Percpu = v
		case "zswap":
			st.Zswap = v
		case "zswapped":
			st.Zswapped = v
		}
	})
	return st
}
