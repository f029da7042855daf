# shellcheck shell=bash disable=SC2034,SC2153,SC2178  # namerefs; what run.sh draws
# First table: what the container sees of itself and of the machine.

# show_what_it_sees runs the same container under both runtimes.
show_what_it_sees() {
	local -A runc=() candor=()
	local limits=(--memory-limit "$MEMORY" --cpu-quota "$CPU_QUOTA" --cpu-period "$CPU_PERIOD")
	local pid mac
	cp demo/probe.sh "$LAB_DIR/rootfs/probe.sh"

	table "What it sees" "" "runc.v2" "candor" "the kernel says"
	lab_run runc see-runc -d "${limits[@]}" -- /bin/sleep 600 && probe runc see-runc
	lab_rm see-runc
	mac=$(lab_node ip -j link show dev "$LAB_NIC" | jq -r '.[0].address')
	if ! lab_run candor see-candor -d "${limits[@]}" --annotation "$NIC_REQUEST" -- /bin/sleep 600; then
		check 1 "the container starts" yes no yes
		table_end
		lab_rm see-candor
		return
	fi
	probe candor see-candor
	pid=$(lab_pid see-candor)
	see_nics "$mac" "$pid"
	see_memory "$pid"
	see_cpus "$pid"
	see_time_and_load "$pid"
	table_end
	lab_rm see-candor
}

# probe ARRAY ID runs the probe in the container.
probe() {
	local -n into=$1
	local name value
	while IFS='=' read -r name value; do
		into["$name"]=${into["$name"]:+${into["$name"]} }$value
	done < <(lab_exec "$2" /bin/sh /probe.sh)
}

see_nics() {
	local mac=$1 pid=$2 address=${ADDRESS:-none} nics
	nics=$(kernel_nics "$pid")
	check "$(right test "${candor[nics]-}" = net0 -a "$nics" = net0)" "network interfaces" "${runc[nics]:-none}" "${candor[nics]:-none}" "$nics"
	check "$(right test "${candor[mac]-}" = "$mac" -a "$(kernel_mac "$pid")" = "$mac")" "MAC" "${runc[mac]:-none}" "${candor[mac]:-none}" "$mac ($LAB_NIC's)"
	check "$(right test "${candor[address]:-none}" = "$address" -a "$(kernel_address "$pid")" = "${ADDRESS:-}")" "address" "${runc[address]:-none}" "${candor[address]:-none}" "$address"
}

see_memory() {
	local pid=$1 limit usage low swap
	limit=$(($(kernel_memory_limit "$pid") / 1024))
	usage=$(($(kernel_memory_usage "$pid") / 1024))
	swap=$(kernel_swap "$pid")
	# Usage moves between the two readings, by as much as the probe itself.
	low=$((limit - usage - 4096))
	check "$(right test "${candor[memtotal]:-0}" = "$limit")" "MemTotal" "${runc[memtotal]-} kB" "${candor[memtotal]-} kB" "$limit kB"
	check "$(right test "${candor[memavailable]:-0}" -ge "$low" -a "${candor[memavailable]:-0}" -le "$limit")" \
		"MemAvailable" "${runc[memavailable]-} kB" "${candor[memavailable]-} kB" "limit - $usage kB used"
	check "$(right test "${candor[swap]:-x}" = "$swap" -a "${candor[swaps]:-x}" = "$swap")" "swap" "${runc[swap]-} kB" "${candor[swap]-} kB" "$swap kB"
}

see_cpus() {
	local cpus name label quota
	cpus=$(kernel_cpus "$1")
	quota=$(awk -v q="$CPU_QUOTA" -v p="$CPU_PERIOD" 'BEGIN { printf "%.1f", q / p }')
	for name in cpuinfo stat online; do
		case $name in
		cpuinfo) label="CPUs in /proc/cpuinfo" ;;
		stat) label="CPUs in /proc/stat" ;;
		*) label="CPUs online in /sys" ;;
		esac
		check "$(right test "${candor[$name]:-0}" = "$cpus")" "$label" "${runc[$name]-}" "${candor[$name]-}" "$cpus (quota $quota of $(nproc))"
	done
}

see_time_and_load() {
	local pid=$1 age tasks
	age=$(kernel_age "$pid") tasks=$(kernel_tasks "$pid")
	# The two are not read at once.
	check "$(right awk -v u="${candor[uptime]:-1e9}" -v a="$age" -v p="${LAB_PATIENCE:-1}" 'BEGIN { exit !(u - a < 1.5 * p && a - u < 1.5 * p) }')" \
		"uptime" "${runc[uptime]-} s" "${candor[uptime]-} s" "$age s since its start"
	# In the container: what runs there now. The probe's own few come and go.
	check "$(right awk -v l="${candor[load]:-1e9}" -v t="$tasks" 'BEGIN { split(l, a, " "); exit !(a[1] <= t + 3) }')" \
		"load" "${runc[load]-}" "${candor[load]-}" "at most its tasks"
	check "$(right test "${candor[tasks]:-0}" -ge "$tasks" -a "${candor[tasks]:-0}" -le $((tasks + 4)))" \
		"tasks in /proc/loadavg" "${runc[tasks]-}" "${candor[tasks]-}" "$tasks, and the probe's"
}
