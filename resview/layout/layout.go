// Package layout says what the directories of the resource view may hold, and
// gives each path in them a number.
//
// It is a list of what passes and not of what does not: what a newer kernel adds
// below /sys/devices/system/cpu is not shown before somebody has looked whether
// it is a constant of the machine or says what the machine does. Left out on
// purpose: counters and states (cpuidle, power, hotplug, cpufreq policies),
// the processor's serial number (topology/ppin), and cpuN/thermal_throttle, which
// container engines mask (moby GHSA-6fw5-f8r9-fgfm).
package layout

import (
	"strconv"
	"strings"
)

// Kind is what a path is.
type Kind uint8

// The kinds. All from File on are regular files.
const (
	Directory Kind = iota
	Link
	File
	// CPUList and CPUMask are files that name CPUs, in the kernel's two forms
	// (cpuset(7)).
	CPUList
	CPUMask
)

// IsFile reports whether the kind is one of regular files.
func (k Kind) IsFile() bool { return k >= File }

type entry struct {
	// pattern is the path, with # in the place of a CPU's id and @ in that of a
	// cache's index.
	pattern string
	kind    Kind
}

// entries are all there is. The position of an entry is part of node ids that
// the kernel keeps while candord is upgraded: an entry is added at the end, and
// none is ever taken out.
func entries() []entry {
	all := []entry{
		{"cpu/online", File},
		{"cpu/present", File},
		{"cpu/possible", File},
		{"cpu/offline", File},
		{"cpu/isolated", File},
		{"cpu/enabled", File},
		{"cpu/kernel_max", File},
		{"cpu/modalias", File},
		{"cpu/smt", Directory},
		{"cpu/smt/active", File},
		{"cpu/smt/control", File},
		{"cpu/vulnerabilities", Directory},

		{"cpu/cpu#", Directory},
		{"cpu/cpu#/online", File},
		{"cpu/cpu#/node0", Link},
		{"cpu/cpu#/subsystem", Link},
		{"cpu/cpu#/cpu_capacity", File},
		{"cpu/cpu#/topology", Directory},
		{"cpu/cpu#/cache", Directory},
		{"cpu/cpu#/cache/index@", Directory},
		{"cpu/cpu#/cache/index@/shared_cpu_list", CPUList},
		{"cpu/cpu#/cache/index@/shared_cpu_map", CPUMask},
		{"cpu/cpu#/cpufreq", Directory},
		{"cpu/cpu#/acpi_cppc", Directory},
		{"cpu/cpu#/regs", Directory},
		{"cpu/cpu#/regs/identification", Directory},

		{"node/online", File},
		{"node/possible", File},
		{"node/has_cpu", File},
		{"node/has_memory", File},
		{"node/has_normal_memory", File},
		{"node/node0", Directory},
		{"node/node0/cpu#", Link},
		{"node/node0/cpulist", File},
		{"node/node0/cpumap", File},
		{"node/node0/distance", File},
		{"node/node0/meminfo", File},
		{"node/node0/numastat", File},

		{"pressure/cpu", File},
		{"pressure/io", File},
		{"pressure/irq", File},
		{"pressure/memory", File},
	}
	add := func(directory string, kind Kind, names ...string) {
		for _, name := range names {
			all = append(all, entry{directory + "/" + name, kind})
		}
	}
	// drivers/base/cpu.c, Linux 6.18.
	add("cpu/vulnerabilities", File,
		"gather_data_sampling", "ghostwrite", "indirect_target_selection", "itlb_multihit", "l1tf", "mds",
		"meltdown", "mmio_stale_data", "old_microcode", "reg_file_data_sampling", "retbleed",
		"spec_rstack_overflow", "spec_store_bypass", "spectre_v1", "spectre_v2", "srbds", "tsa",
		"tsx_async_abort", "vmscape")
	// drivers/base/topology.c.
	add("cpu/cpu#/topology", File,
		"physical_package_id", "die_id", "cluster_id", "core_id", "book_id", "drawer_id")
	for _, name := range [...]string{
		"thread_siblings", "core_siblings", "core_cpus", "cluster_cpus", "die_cpus", "package_cpus",
		"book_siblings", "drawer_siblings",
	} {
		add("cpu/cpu#/topology", CPUMask, name)
		add("cpu/cpu#/topology", CPUList, name+"_list")
	}
	// drivers/base/cacheinfo.c.
	add("cpu/cpu#/cache/index@", File,
		"id", "type", "level", "coherency_line_size", "ways_of_associativity", "number_of_sets", "size",
		"write_policy", "allocation_policy", "physical_line_partition")
	// drivers/cpufreq: what the CPU can do, and its clock, which /proc/cpuinfo has too.
	add("cpu/cpu#/cpufreq", File,
		"base_frequency", "cpuinfo_max_freq", "cpuinfo_min_freq", "cpuinfo_transition_latency",
		"scaling_cur_freq", "scaling_driver", "scaling_governor", "scaling_max_freq", "scaling_min_freq")
	// drivers/acpi/cppc_acpi.c.
	add("cpu/cpu#/acpi_cppc", File,
		"highest_perf", "lowest_perf", "lowest_nonlinear_perf", "nominal_perf", "guaranteed_perf",
		"reference_perf", "lowest_freq", "nominal_freq", "wraparound_time")
	// arch/arm64/kernel/cpuinfo.c.
	add("cpu/cpu#/regs/identification", File, "midr_el1", "revidr_el1", "smidr_el1")
	return all
}

const (
	// Bits is how many bits a node's number has.
	Bits = entryBits + cacheBits + cpuBits

	entryBits = 9
	cacheBits = 4
	cpuBits   = 13 // the kernel's own bound (CONFIG_NR_CPUS)
)

// Node is a path below one of the view's directories.
type Node struct {
	entry, cache, cpu int
	kind              Kind
}

// Kind is what the path is, where there is such a path.
func (n Node) Kind() Kind { return n.kind }

// OfCPU reports whether the path's last name is that of a CPU: such names come
// and go.
func (l *Layout) OfCPU(n Node) bool { return strings.HasSuffix(l.entries[n.entry].pattern, "/cpu#") }

// Number is the node's number; [Layout.Node] gives the node back.
func (n Node) Number() uint64 {
	return uint64(n.cpu)<<(entryBits+cacheBits) | uint64(n.cache)<<entryBits | uint64(n.entry)
}

// Layout finds paths by their number and numbers by their path. It never changes.
type Layout struct {
	entries  []entry
	patterns map[string]int
}

// New makes the one layout there is.
func New() *Layout {
	l := &Layout{entries: entries(), patterns: map[string]int{}}
	for i, e := range l.entries {
		l.patterns[e.pattern] = i
	}
	return l
}

// Find returns the node of a path such as "cpu/cpu3/topology".
func (l *Layout) Find(path string) (n Node, found bool) {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if cpu, ok := number(part, "cpu"); ok && cpu < 1<<cpuBits {
			n.cpu, parts[i] = cpu, "cpu#"
		} else if cache, ok := number(part, "index"); ok && cache < 1<<cacheBits {
			n.cache, parts[i] = cache, "index@"
		}
	}
	if n.entry, found = l.patterns[strings.Join(parts, "/")]; !found {
		return Node{}, false
	}
	n.kind = l.entries[n.entry].kind
	// "cpu#" itself, or two CPUs in one path, are no paths.
	return n, l.Path(n) == path
}

// Node returns the node of a number; nothing is believed of it.
func (l *Layout) Node(number uint64) (n Node, ok bool) {
	n.entry = int(number & (1<<entryBits - 1))
	n.cache = int(number >> entryBits & (1<<cacheBits - 1))
	n.cpu = int(number >> (entryBits + cacheBits))
	if n.entry >= len(l.entries) || n.cpu >= 1<<cpuBits {
		return Node{}, false
	}
	e := l.entries[n.entry]
	if n.cpu != 0 && !strings.Contains(e.pattern, "#") || n.cache != 0 && !strings.Contains(e.pattern, "@") {
		return Node{}, false // each path has one number
	}
	n.kind = e.kind
	return n, true
}

// Path is the path of a node.
func (l *Layout) Path(n Node) string {
	path := strings.Replace(l.entries[n.entry].pattern, "#", strconv.Itoa(n.cpu), 1)
	return strings.Replace(path, "@", strconv.Itoa(n.cache), 1)
}

// number returns the number of a name such as "cpu12", written as the kernel
// writes it.
func number(name, prefix string) (number int, ok bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(digits)
	return number, err == nil && strconv.Itoa(number) == digits && number >= 0
}
