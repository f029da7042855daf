# shellcheck shell=bash
# What the kernel says about a container, read from outside: cgroup files,
# /proc/PID, its network namespace. The demo's expected values come from here.

# cgroup_file PID CONTROLLER FILE_V1 FILE_V2 prints the file of the container's
# cgroup, in whichever hierarchy the controller lives.
cgroup_file() {
	local pid=$1 controller=$2 v1=$3 v2=$4 path mount
	path=$(awk -F: -v c="$controller" '{ n = split($2, l, ","); for (i = 1; i <= n; i++) if (l[i] == c) print $3 }' "/proc/$pid/cgroup")
	if [[ -n $path ]]; then
		mount=$(awk -v c="$controller" '{ for (i = 7; i <= NF; i++) if ($i == "-") { fs = $(i+1); o = "," $(i+3) ","; if (fs == "cgroup" && index(o, "," c ",")) { print $5; exit } } }' /proc/self/mountinfo)
		printf '%s%s/%s\n' "$mount" "$path" "$v1"
	else
		path=$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
		mount=$(awk '{ for (i = 7; i <= NF; i++) if ($i == "-" && $(i+1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo)
		printf '%s%s/%s\n' "$mount" "$path" "$v2"
	fi
}

kernel_memory_limit() { cat "$(cgroup_file "$1" memory memory.limit_in_bytes memory.max)"; }
kernel_memory_usage() { cat "$(cgroup_file "$1" memory memory.usage_in_bytes memory.current)"; }
kernel_tasks() { wc -l <"$(cgroup_file "$1" pids tasks cgroup.threads)"; }

# kernel_cpus PID: the CPUs that quota and cpuset leave, rounded up.
kernel_cpus() {
	local pid=$1 file quota period set
	file=$(cgroup_file "$pid" cpu cpu.cfs_quota_us cpu.max)
	if [[ $file == */cpu.max ]]; then
		read -r quota period <"$file"
	else
		quota=$(<"$file") period=$(<"${file%quota_us}period_us")
	fi
	set=$(awk '/^Cpus_allowed_list:/ { n = split($2, part, ","); for (i = 1; i <= n; i++) { m = split(part[i], r, "-"); c += m == 2 ? r[2] - r[1] + 1 : 1 } print c }' "/proc/$pid/status")
	if [[ $quota == max || $quota -le 0 ]]; then
		printf '%s\n' "$set"
		return
	fi
	quota=$(((quota + period - 1) / period))
	printf '%s\n' "$((quota < set ? quota : set))"
}

# kernel_swap PID in kB: what the memory cgroup allows of the machine's swap.
kernel_swap() {
	local pid=$1 machine file allowed
	machine=$(awk '/^SwapTotal:/ { print $2 }' /proc/meminfo)
	file=$(cgroup_file "$pid" memory memory.memsw.limit_in_bytes memory.swap.max)
	allowed=max
	if [[ -r $file ]]; then allowed=$(<"$file"); fi
	if [[ $file == *memsw* && $allowed != max ]]; then
		# v1 limits memory and swap together; 2^63 rounded to pages is none.
		if ((allowed > 1 << 62)); then allowed=max; else allowed=$((allowed - $(kernel_memory_limit "$pid"))); fi
	fi
	if [[ $allowed == max ]] || ((allowed / 1024 > machine)); then printf '%s\n' "$machine"; else printf '%s\n' $((allowed / 1024)); fi
}

# kernel_age PID: seconds since the process started, two digits.
kernel_age() {
	awk -v hz="$(getconf CLK_TCK)" -v now="$(cut -d' ' -f1 /proc/uptime)" '{ sub(/^.*\) /, ""); printf "%.2f\n", now - $20 / hz }' "/proc/$1/stat"
}

# kernel_nics PID: names of the NICs in its network namespace; kernel_mac and
# kernel_address of the first of them.
kernel_nics() { container_ip "$1" link | jq -r '[.[].ifname | select(. != "lo")] | join(" ")'; }
kernel_mac() { container_ip "$1" link | jq -r '[.[] | select(.ifname != "lo") | .address] | join(" ")'; }
kernel_address() { container_ip "$1" -4 addr | jq -r '[.[] | select(.ifname != "lo") | .addr_info[]? | .local] | join(" ")'; }
container_ip() {
	local pid=$1
	shift
	nsenter --net="/proc/$pid/ns/net" -- ip -j "$@" show
}

# cpu_seconds PID prints the CPU time of the process's whole cgroup.
cpu_seconds() {
	local file
	file=$(cgroup_file "$1" cpuacct cpuacct.usage cpu.stat)
	if [[ $file == */cpu.stat ]]; then awk '/^usage_usec/ { printf "%.6f\n", $2 / 1e6 }' "$file"; else awk '{ printf "%.6f\n", $1 / 1e9 }' "$file"; fi
}

# process_seconds PID...: CPU time of single processes, by their clock ticks.
process_seconds() {
	local pid
	for pid; do cat "/proc/$pid/stat"; done 2>/dev/null |
		awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); t += $12 + $13 } END { printf "%.3f\n", t / hz }'
}

# softirqd_pids prints ksoftirqd's: packets that nobody's time slice paid for.
softirqd_pids() { grep -lx 'ksoftirqd/[0-9]*' /proc/[0-9]*/comm 2>/dev/null | grep -o '[0-9]*' | paste -sd' '; }
