package cgroup

import (
	"bytes"
	"errors"
)

const (
	// WorkingsetEvents is how many of the events come first: those that
	// /proc/vmstat shows among the page counts.
	WorkingsetEvents = 7
	eventCount       = 34
)

// MemoryEventNames are the events that the kernel counts for a group as it does
// for the machine: lines of memory.stat, and oom_kill of memory.events, that
// bear the names of /proc/vmstat, in its order (mm/vmstat.c, Linux 6.18).
//
// pgpgin and pgpgout are not among them: in v1's memory.stat they count pages
// charged, in /proc/vmstat block I/O.
func MemoryEventNames() [eventCount]string {
	return [...]string{
		"workingset_refault_anon", "workingset_refault_file",
		"workingset_activate_anon", "workingset_activate_file",
		"workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim",

		"pswpin", "pswpout", "pgactivate", "pgdeactivate", "pglazyfree",
		"pgfault", "pgmajfault", "pglazyfreed", "pgrefill",
		"pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgsteal_proactive",
		"pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgscan_proactive",
		"oom_kill",
		"thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback",
		"swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb",
	}
}

// MemoryEvents are counts since the container's start, of the whole subtree, in
// the order of [MemoryEventNames]. Known tells those that the kernel counts for
// groups; most of them it does on v2 only, the more the newer it is.
type MemoryEvents struct {
	Counts [eventCount]uint64
	Known  [eventCount]bool
}

// MemoryEvents reads what happened to the container's memory.
func (r *Reader) MemoryEvents() (MemoryEvents, error) {
	var e MemoryEvents
	c := &r.memory
	if c.version == 0 {
		return e, c.err
	}
	s := r.borrow()
	defer r.giveBack(s)
	text, err := r.readNearest(c, memoryStatFile, memoryName(c.version, memoryStatFile), s)
	if err != nil {
		return e, err
	}
	e.parse(text, c.version)
	text, err = r.readNearest(c, memoryEventsFile, memoryName(c.version, memoryEventsFile), s)
	if errors.Is(err, ErrNoController) { // before Linux 4.13 and 4.19
		return e, nil
	} else if err != nil {
		return e, err
	}
	e.parse(text, 2) // neither file has the totals of v1's memory.stat
	return e, nil
}

// parse takes the known lines of a file; on v1 those of the whole subtree.
func (e *MemoryEvents) parse(text []byte, version int) {
	names := MemoryEventNames()
	eachPair(text, func(key []byte, v uint64) {
		if version == 1 {
			var total bool
			if key, total = bytes.CutPrefix(key, []byte("total_")); !total {
				return
			}
		}
		for i, name := range names {
			if string(key) == name {
				e.Counts[i], e.Known[i] = v, true
				return
			}
		}
	})
}
