package render

import (
	"strconv"
	"time"

	"candor.dev/candor/cgroup"
)

// pageReadings are the readings that /proc/vmstat and /proc/zoneinfo are made of.
type pageReadings struct {
	memory *cgroup.Memory
	events *cgroup.MemoryEvents
	host   *hostMemory
	// page and huge are the sizes of a page and of a transparent huge page, in
	// bytes; huge is 0 where the kernel has none.
	page, huge uint64
}

// gatherPages takes the readings for /proc/vmstat or /proc/zoneinfo and renders it.
func (c *Container) gatherPages(dst []byte, file int, now time.Time) ([]byte, error) {
	memory, host, err := c.memory(now)
	if err != nil {
		return dst, err
	}
	events, err := c.group().MemoryEvents()
	if err != nil {
		return dst, err
	}
	r := pageReadings{memory: &memory, events: &events, host: &host, page: c.host.pageSize, huge: c.host.hugePageSize}
	if file == fileZoneinfo {
		return appendZoneinfo(dst, &r), nil
	}
	s := c.host.borrow()
	defer c.host.giveBack(s)
	disks, err := c.readDisks(s, now)
	if err != nil {
		return dst, err
	}
	read, written := sectorsOf(s.devices, disks)
	return appendVmstat(dst, &r, read, written), nil
}

// countWriter writes counts by name, in one of the kernel's two forms.
type countWriter struct {
	dst []byte
	// indented is zoneinfo's form ("\n      %-12s %lu"), else vmstat's ("%s %lu\n").
	indented bool
}

func (w *countWriter) count(name string, v uint64) {
	if w.indented {
		w.dst = append(w.dst, "\n      "...)
	}
	w.dst = append(w.dst, name...)
	if w.indented {
		for i := len(name); i < 12; i++ {
			w.dst = append(w.dst, ' ')
		}
	}
	w.dst = append(w.dst, ' ')
	w.dst = strconv.AppendUint(w.dst, v, 10)
	if !w.indented {
		w.dst = append(w.dst, '\n')
	}
}

// zoneCounts writes the counts that the kernel keeps for each zone
// (include/linux/mmzone.h: zone_stat_item).
func (r *pageReadings) zoneCounts(w *countWriter, free uint64) {
	m := r.memory
	w.count("nr_free_pages", free/r.page)
	w.count("nr_zone_inactive_anon", m.InactiveAnon/r.page)
	w.count("nr_zone_active_anon", m.ActiveAnon/r.page)
	w.count("nr_zone_inactive_file", m.InactiveFile/r.page)
	w.count("nr_zone_active_file", m.ActiveFile/r.page)
	w.count("nr_zone_unevictable", m.Unevictable/r.page)
	w.count("nr_zone_write_pending", (m.Dirty+m.Writeback)/r.page)
}

// nodeCounts writes the counts that the kernel keeps for each node
// (include/linux/mmzone.h: node_stat_item).
func (r *pageReadings) nodeCounts(w *countWriter) {
	m := r.memory
	w.count("nr_inactive_anon", m.InactiveAnon/r.page)
	w.count("nr_active_anon", m.ActiveAnon/r.page)
	w.count("nr_inactive_file", m.InactiveFile/r.page)
	w.count("nr_active_file", m.ActiveFile/r.page)
	w.count("nr_unevictable", m.Unevictable/r.page)
	w.count("nr_slab_reclaimable", m.SlabReclaimable/r.page)
	w.count("nr_slab_unreclaimable", below(m.Slab, m.SlabReclaimable)/r.page)
	for i, name := range cgroup.MemoryEventNames() {
		if i < cgroup.WorkingsetEvents && r.events.Known[i] {
			w.count(name, r.events.Counts[i])
		}
	}
	w.count("nr_anon_pages", m.Anon/r.page)
	w.count("nr_mapped", m.Mapped/r.page)
	w.count("nr_file_pages", m.File/r.page)
	w.count("nr_dirty", m.Dirty/r.page)
	w.count("nr_writeback", m.Writeback/r.page)
	w.count("nr_shmem", m.Shmem/r.page)
	if r.huge != 0 { // these three count huge pages (mm/vmstat.c: vmstat_item_print_in_thp)
		if m.Detailed {
			w.count("nr_shmem_hugepages", m.ShmemHuge/r.huge)
			w.count("nr_file_hugepages", m.FileHuge/r.huge)
		}
		w.count("nr_anon_transparent_hugepages", m.AnonHuge/r.huge)
	}
	if m.Detailed {
		w.count("nr_kernel_stack", m.KernelStack>>10) // in KiB, as the kernel has it
		w.count("nr_page_table_pages", m.PageTables/r.page)
		w.count("nr_sec_page_table_pages", m.SecondaryPageTables/r.page)
	}
	w.count("nr_swapcached", m.SwapCached/r.page)
}

// appendVmstat renders /proc/vmstat in the kernel's order (mm/vmstat.c:
// vmstat_text). read and written are the sectors of diskstats.
func appendVmstat(dst []byte, r *pageReadings, read, written uint64) []byte {
	w := &countWriter{dst: dst}
	r.zoneCounts(w, reckonMemory(r.memory, r.host).free)
	r.nodeCounts(w)
	w.count("pgpgin", read/2) // in KiB
	w.count("pgpgout", written/2)
	for i, name := range cgroup.MemoryEventNames() {
		// vmstat(8) and sar(1) look for these whatever the kernel counts.
		always := name == "pswpin" || name == "pswpout" || name == "pgfault" || name == "pgmajfault"
		if i >= cgroup.WorkingsetEvents && (r.events.Known[i] || always) {
			w.count(name, r.events.Counts[i])
		}
	}
	return w.dst
}

// appendZoneinfo renders /proc/zoneinfo (mm/vmstat.c: zoneinfo_show_print): one
// node with one zone, which is all of the container's memory.
func appendZoneinfo(dst []byte, r *pageReadings) []byte {
	memory := reckonMemory(r.memory, r.host)
	w := &countWriter{dst: append(dst, "Node 0, zone   Normal\n  per-node stats"...), indented: true}
	r.nodeCounts(w)
	minimum, step := watermarks(memory.total)
	for _, line := range [...]struct {
		name  string
		bytes uint64
	}{
		{"\n  pages free     ", memory.free},
		{"\n        min      ", minimum},
		{"\n        low      ", minimum + step},
		{"\n        high     ", minimum + 2*step},
		{"\n        spanned  ", memory.total},
		{"\n        present  ", memory.total},
		{"\n        managed  ", memory.total},
	} {
		w.dst = append(w.dst, line.name...)
		w.dst = strconv.AppendUint(w.dst, line.bytes/r.page, 10)
	}
	w.dst = append(w.dst, "\n        protection: (0)"...) // against allocations for another zone: there is none
	r.zoneCounts(w, memory.free)
	return append(w.dst, "\n  node_unreclaimable:  0\n  start_pfn:           0\n"...)
}

// appendSlabinfo renders /proc/slabinfo (mm/slab_common.c): no slab at all, for
// the kernel does not tell a group's apart.
func appendSlabinfo(dst []byte) []byte {
	return append(dst, "slabinfo - version: 2.1\n"+
		"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"+
		" : tunables <limit> <batchcount> <sharedfactor>"+
		" : slabdata <active_slabs> <num_slabs> <sharedavail>\n"...)
}

// parseHugePageSize parses hpage_pmd_size, a number of bytes.
func parseHugePageSize(text []byte) (uint64, error) {
	v, n := cgroup.LeadingNumber(text)
	if n == 0 || v == 0 {
		return 0, strconv.ErrSyntax
	}
	return v, nil
}
