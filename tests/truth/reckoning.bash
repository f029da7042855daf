# shellcheck shell=bash
# The truth about the container c1, read on the host, without a look at how the
# view reckons: what the load was told, what the kernel counts for its process
# and its disk, and the cgroup's own counters.

# What is said may be off by TOLERANCE per cent, as no two readings are of one
# moment: the kernel hands out memory to a group in batches of 64 pages per CPU and
# counts CPU time by ticks of 10 ms.
TOLERANCE=3

# near WHAT TRUTH SAID [SLACK]: within the tolerance, or within SLACK where that is more.
near() {
	awk -v truth="$2" -v said="$3" -v slack="${4:-0}" -v percent="$TOLERANCE" 'BEGIN {
		if (said !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/) exit 1
		off = said - truth; if (off < 0) off = -off
		allowed = (truth < 0 ? -truth : truth) * percent / 100; if (allowed < slack) allowed = slack
		exit off > allowed
	}' || fail "$1: '$3' is said, $2 is true (allowed: $TOLERANCE %${4:+ or $4})"
}

# reckon EXPRESSION prints a number; awk's, for there are fractions in it.
reckon() { awk "BEGIN { printf \"%.6g\", ($1) }"; }

# since TIME: seconds since then, as EPOCHREALTIME gave it.
since() { reckon "($EPOCHREALTIME) - ($1)"; }

##### CPU

# cpu_seconds: what c1's group used.
cpu_seconds() {
	if is_v1; then
		awk '{ printf "%.6f\n", $1 / 1e9 }' "$(group cpuacct "$C1")/cpuacct.usage"
	else
		awk '$1 == "usage_usec" { printf "%.6f\n", $2 / 1e6 }' "$(group cpu "$C1")/cpu.stat"
	fi
}

# cpu_system_seconds: the part of it that the kernel used.
cpu_system_seconds() {
	if is_v1; then
		awk '$1 == "system" { printf "%.2f\n", $2 / 100 }' "$(group cpuacct "$C1")/cpuacct.stat"
	else
		awk '$1 == "system_usec" { printf "%.6f\n", $2 / 1e6 }' "$(group cpu "$C1")/cpu.stat"
	fi
}

# load_seconds: what the kernel counts for the load's process.
load_seconds() { awk '{ sub(/.*\) /, ""); printf "%.2f\n", ($12 + $13) / 100 }' "/proc/$C1/stat"; }

# started_at: when the load's process began, as the host's clock has it.
started_at() {
	awk -v now="$EPOCHREALTIME" 'FNR == NR { up = $1; next } { sub(/.*\) /, ""); printf "%.2f\n", now - up + $20 / 100 }' /proc/uptime "/proc/$C1/stat"
}

##### Memory, in bytes

memory_file() { # V1 V2
	if is_v1; then cat "$(group memory "$C1")/$1"; else cat "$(group memory "$C1")/$2"; fi
}

memory_used() { memory_file memory.usage_in_bytes memory.current; }

# memory_stat V1 [V2]: a line of memory.stat, with the groups below.
memory_stat() {
	if is_v1; then
		awk -v key="total_$1" '$1 == key { print $2 }' "$(group memory "$C1")/memory.stat"
	else
		awk -v key="${2:-$1}" '$1 == key { print $2 }' "$(group memory "$C1")/memory.stat"
	fi
}

# kernel_memory: what the kernel itself uses for the container. v1 knows only one sum.
kernel_memory() {
	if is_v1; then cat "$(group memory "$C1")/memory.kmem.usage_in_bytes"; else memory_stat kernel; fi
}

slab_memory() {
	if is_v1; then kernel_memory; else memory_stat slab; fi
}

# anonymous_memory: by the page tables of all of the container's processes.
anonymous_memory() {
	local pid
	while read -r pid; do
		cat "/proc/$pid/smaps_rollup"
	done <"$(group memory "$C1")/cgroup.procs" 2>/dev/null | awk '$1 == "Anonymous:" { sum += $2 } END { print sum * 1024 }'
}

# swap_limit: what of the machine's swap c1 may use.
swap_limit() {
	local most limit
	most=$(($(awk '$1 == "SwapTotal:" { print $2 }' /proc/meminfo) * 1024))
	if is_v1; then
		limit=$(awk '$1 == "hierarchical_memsw_limit" { printf "%.0f\n", $2 }' "$(group memory "$C1")/memory.stat")
		limit=$((${limit:-0} - MEMORY))
	else
		limit=$(cat "$(group memory "$C1")/memory.swap.max" 2>/dev/null || echo 0)
		[[ $limit != max ]] || limit=$most
	fi
	echo $((limit < most ? limit : most))
}

##### Disk

# disk_up MIB: a disk of its own that vanishes when the test's shell ends, however
# it ends: it is detached here already, and stays as long as descriptor 9 is open.
disk_up() {
	local file=$LAB_DIR/disk
	DISK=''
	truncate -s "$1M" "$file" && DISK=$(losetup --find --show "$file" 2>/dev/null) || return
	exec 9<>"$DISK"
	losetup --detach "$DISK"
	rm "$file"
	DISK_NAME=${DISK#/dev/}
	# Who had the same name before has left its numbers.
	DISK_BEFORE=$(awk '{ print $5, $7 }' "/sys/block/$DISK_NAME/stat")
}

# disk_accounted: v1 counts, on newer kernels, only where some group has a rule. This
# one asks for nothing: no disk is as fast.
disk_accounted() {
	! is_v1 || echo "$(cat "/sys/block/$DISK_NAME/dev") 107374182400" >"$(group blkio "$C1")/blkio.throttle.write_bps_device"
}

# disk_written: bytes, and disk_writes: how many, by the disk itself.
disk_written() { awk -v before="${DISK_BEFORE#* }" '{ printf "%.0f\n", ($7 - before) * 512 }' "/sys/block/$DISK_NAME/stat"; }
disk_writes() { awk -v before="${DISK_BEFORE% *}" '{ print $5 - before }' "/sys/block/$DISK_NAME/stat"; }
