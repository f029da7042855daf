#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# The resource view: its numbers against the cgroup's own files, limits that
# change while the container runs, and a view that cannot be had.

load helpers

# set_memory BYTES, set_cpus N: what an engine's update writes.
set_memory() {
	local dir
	dir=$(group memory "$(lab_pid c1)")
	if is_v1; then echo "$1" >"$dir/memory.limit_in_bytes"; else echo "$1" >"$dir/memory.max"; fi
}
set_cpus() {
	local dir
	dir=$(group cpu "$(lab_pid c1)")
	if is_v1; then
		echo 100000 >"$dir/cpu.cfs_period_us"
		echo "$(($1 * 100000))" >"$dir/cpu.cfs_quota_us"
	else echo "$(($1 * 100000)) 100000" >"$dir/cpu.max"; fi
}

# field FILE KEY: a number of the container's /proc/FILE.
field() { cat_in c1 "/proc/$1" | awk -v key="$2" '$1 == key { print $2; exit }'; }

total_is() { [[ $(field meminfo MemTotal:) == "$1" ]]; }

##### Numbers

# bats test_tags=guest-soak
@test "meminfo agrees with the cgroup's own files" {
	lab_run candor c1 --detach --null-io --memory-limit 268435456 -- \
		/bin/sh -c 'dd if=/dev/zero of=/tmp/fill bs=1M count=40 conv=fsync 2>/dev/null; x=$(head -c 20000000 /dev/zero | tr "\0" x); touch /tmp/filled; sleep 600; :'
	lab_wait 10 test -e "$LAB_DIR/rootfs/tmp/filled" || fail "the container does not fill its memory"
	sleep 0.3
	local dir limit usage free cache available meminfo
	dir=$(group memory "$(lab_pid c1)")
	meminfo=$(cat_in c1 /proc/meminfo)
	if is_v1; then
		limit=$(<"$dir/memory.limit_in_bytes") usage=$(<"$dir/memory.usage_in_bytes")
		cache=$(awk '$1 ~ /^total_(in)?active_file$/ { sum += $2 } END { print sum }' "$dir/memory.stat")
	else
		limit=$(<"$dir/memory.max") usage=$(<"$dir/memory.current")
		cache=$(awk '$1 ~ /^(in)?active_file$/ { sum += $2 } END { print sum }' "$dir/memory.stat")
	fi
	equal "MemTotal" "$((limit / 1024))" "$(awk '$1 == "MemTotal:" { print $2 }' <<<"$meminfo")"
	free=$(awk '$1 == "MemFree:" { print $2 }' <<<"$meminfo")
	between "MemFree" "$(((limit - usage) / 1024 - 3000))" "$(((limit - usage) / 1024 + 3000))" "$free"
	available=$(awk '$1 == "MemAvailable:" { print $2 }' <<<"$meminfo")
	# What is free and the clean page cache, but for the low watermark's part of it.
	between "MemAvailable" "$(((limit - usage + cache) / 1024 - 8000))" "$(((limit - usage + cache) / 1024 + 3000))" "$available"
	((available >= free)) || fail "MemAvailable $available is below MemFree $free"
	between "Cached" 30000 60000 "$(awk '$1 == "Cached:" { print $2 }' <<<"$meminfo")"
}

# bats test_tags=guest-soak
@test "without a limit of its own a container sees the machine's memory" {
	start c1
	equal "MemTotal" "$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)" "$(field meminfo MemTotal:)"
}

@test "a memory limit that changes is seen within a second" {
	start c1 --memory-limit 268435456
	lab_wait 2 total_is 262144
	set_memory 134217728
	lab_wait 1 total_is 131072 || fail "MemTotal is $(field meminfo MemTotal:)"
	set_memory 536870912
	lab_wait 1 total_is 524288 || fail "MemTotal is $(field meminfo MemTotal:)"
}

@test "a cpu quota that changes is seen in cpuinfo, stat and online" {
	(($(nproc) >= 2)) || skip "needs two CPUs"
	start c1 --cpu-quota 100000 --cpu-period 100000
	equal "online" 0 "$(cat_in c1 /sys/devices/system/cpu/online)"
	set_cpus 2
	lab_wait 1 online_is 0-1 || fail "online: $(cat_in c1 /sys/devices/system/cpu/online)"
	equal "cpuinfo" 2 "$(cat_in c1 /proc/cpuinfo | grep -c '^processor')"
	equal "stat" 2 "$(cat_in c1 /proc/stat | grep -c '^cpu[0-9]')"
	set_cpus 1
	lab_wait 1 online_is 0
}

online_is() { [[ $(cat_in c1 /sys/devices/system/cpu/online) == "$1" ]]; }

@test "a cpuset shows as many CPUs as it has" {
	(($(nproc) >= 2)) || skip "needs two CPUs"
	start c1 --cpuset-cpus 1
	equal "cpuinfo" 1 "$(cat_in c1 /proc/cpuinfo | grep -c '^processor')"
	equal "stat" 1 "$(cat_in c1 /proc/stat | grep -c '^cpu[0-9]')"
	equal "getconf-like count" 1 "$(cat_in c1 /sys/devices/system/cpu/online | tr ',' '\n' | awk -F- '{ n += NF > 1 ? $2 - $1 + 1 : 1 } END { print n }')"
}

# bats test_tags=guest-soak
@test "cpu time in stat is the container's own" {
	lab_run candor c1 --detach --null-io --cpu-quota 100000 --cpu-period 100000 -- /bin/sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 600'
	sleep 2
	local user dir ticks
	user=$(field stat cpu)
	if is_v1; then
		dir=$(group cpuacct "$(lab_pid c1)")
		ticks=$(($(<"$dir/cpuacct.usage") / 10000000))
	else
		dir=$(group cpu "$(lab_pid c1)")
		ticks=$(awk '$1 == "usage_usec" { print int($2 / 10000) }' "$dir/cpu.stat")
	fi
	between "user ticks" 1 "$((ticks + 5))" "$user"
}

# bats test_tags=guest-soak
@test "swaps, loadavg and diskstats have the kernel's form" {
	start c1 --memory-limit 268435456
	has "swaps" "$(cat_in c1 /proc/swaps | head -1)" Filename Type Size Used Priority
	[[ $(cat_in c1 /proc/loadavg) =~ ^[0-9]+\.[0-9]{2}\ [0-9]+\.[0-9]{2}\ [0-9]+\.[0-9]{2}\ [0-9]+/[0-9]+\ [0-9]+$ ]] ||
		fail "$(cat_in c1 /proc/loadavg)"
	local words
	words=$(cat_in c1 /proc/diskstats | awk 'NF { print NF }' | sort -u)
	[[ -z $words || $words -ge 14 ]] || fail "diskstats has lines of $words words"
}

# bats test_tags=guest-soak
@test "whoever reads first does not count itself in an idle container's load" {
	local i load loads=()
	for i in {1..6}; do
		start "c$i"
		load=$(cat_in "c$i" /proc/loadavg)
		loads+=("${load%% *}")
		lab_rm "c$i"
	done
	equal "loads" "0.00 0.00 0.00 0.00 0.00 0.00" "${loads[*]}"
}

# bats test_tags=guest-soak
@test "the whole files parse as the kernel's do: same keys, same order" {
	start c1 --memory-limit 268435456
	local host mine key
	host=$(cut -d: -f1 /proc/meminfo)
	mine=$(cat_in c1 /proc/meminfo | cut -d: -f1)
	# Every key of the container's is one of the kernel's, in its order.
	equal "keys of meminfo" "$mine" "$(grep -xFf <(echo "$mine") <<<"$host")"
	for key in ctxt btime processes procs_running procs_blocked softirq intr; do
		has "stat" "$(cat_in c1 /proc/stat)" $'\n'"$key "
	done
}

# numbers: a list such as 0-2,5 on stdin, each number on its own.
numbers() { tr ',' '\n' | awk -F- 'NF { for (i = $1; i <= (NF > 1 ? $2 : $1); i++) print i }' | paste -sd ' '; }

# one_story CPUS: every file that names CPUs names these, and every file that
# tells the memory tells the same.
one_story() {
	local cpus=$1 all f id
	all=$(
		lab_exec c1 /bin/sh -c '
			cd /sys/devices/system
			for f in online present possible offline isolated; do echo "cpu/$f $(dd if=cpu/$f status=none)"; done
			echo directories $(ls -d cpu/cpu[0-9]* | tr -cd "0-9\n" | sort -n)
			echo stat $(sed -n "s/^cpu\([0-9][0-9]*\) .*/\1/p" /proc/stat)
			echo cpuinfo $(sed -n "s/^processor.*: //p" /proc/cpuinfo)
			echo count $(nproc --all)
			for f in cpu/cpu[0-9]*/topology/*_list cpu/cpu[0-9]*/cache/index*/shared_cpu_list; do [ ! -f $f ] || echo "names $(cat $f)"; done
			if [ -d node ]; then
				echo "node/cpulist $(cat node/node0/cpulist)"
				echo "node/cpumap $(cat node/node0/cpumap)"
				echo "node/online $(cat node/online)"
				echo node/links $(ls -d node/node0/cpu[0-9]* | sed "s/.*cpu//" | sort -n)
				echo node/memory $(sed -n "s/.* MemTotal: *//p" node/node0/meminfo)
				for d in cpu/cpu[0-9]*; do echo "link $(cd $d/node0 && pwd -P)"; done
			fi
			echo meminfo $(sed -n "s/^MemTotal: *//p" /proc/meminfo)
			echo zoneinfo $(sed -n "s/^ *managed *//p" /proc/zoneinfo)
			for id in $1; do taskset $(printf %x $((1 << id))) true && echo "affinity $id"; done
		' sh "$cpus"
	) || fail "$all" || return
	value() { awk -v key="$1" '$1 == key { $1 = ""; print substr($0, 2) }' <<<"$all"; }
	for f in online present; do equal "$f" "$cpus" "$(value "cpu/$f" | numbers)" || return; done
	# Every CPU that a task can be on is possible, whatever the quota.
	for id in $(sed -n 's/^Cpus_allowed_list:\s*//p' "/proc/$(lab_pid c1)/status" | numbers); do has "possible" " $(value cpu/possible | numbers) " " $id " || return; done
	for f in offline isolated; do equal "$f" "" "$(value "cpu/$f")" || return; done
	for f in directories stat cpuinfo; do equal "$f" "$cpus" "$(value "$f")" || return; done
	equal "nproc --all" "$(wc -w <<<"$cpus")" "$(value count)" || return
	for id in $(value names | numbers); do has "CPUs that topology and caches name" " $cpus " " $id " || return; done
	for id in $cpus; do has "affinity" "$all" "affinity $id" || return; done
	equal "zoneinfo in kB" "$(value meminfo)" "$(($(value zoneinfo) * $(getconf PAGESIZE) / 1024)) kB" || return
	[[ -d /sys/devices/system/node ]] || return 0
	for f in node/cpulist node/links; do equal "$f" "$cpus" "$(value "$f" | numbers)" || return; done
	equal "cpumap" "$(for id in $cpus; do echo "$((1 << id))"; done | awk '{ sum += $1 } END { print sum }')" "$((0x$(value node/cpumap | tr -d ,)))" || return
	equal "nodes" 0 "$(value node/online)" || return
	equal "the nodes that CPUs point to" /sys/devices/system/node/node0 "$(value link | sort -u)" || return
	equal "the node's memory" "$(value meminfo)" "$(value node/memory)"
}

# bats test_tags=guest-soak
@test "all files tell the same CPUs and the same memory: a cpuset, a quota, neither" {
	(($(nproc) == 2)) || skip "written for two CPUs"
	start c1 --cpuset-cpus 1 --memory-limit 268435456
	one_story 1
	lab_rm c1
	start c1 --cpu-quota 50000 --cpu-period 100000
	one_story 0
	set_cpus 2
	lab_wait 1 online_is 0-1
	sleep 0.2 # the kernel's own memory of the names
	one_story "0 1"
	set_cpus 1
	lab_wait 1 online_is 0
	sleep 0.2
	one_story 0
}

# bats test_tags=guest-soak
@test "below the CPUs are the machine's constants, and nothing that counts or could be written" {
	start c1 --cpuset-cpus 0
	local dir=/sys/devices/system/cpu f
	for f in kernel_max vulnerabilities/meltdown cpu0/topology/core_id cpu0/cache/index0/size; do
		[[ ! -e $dir/$f ]] || equal "$f" "$(<"$dir/$f")" "$(cat_in c1 "$dir/$f")"
	done
	for f in cpu0/cpuidle cpu0/thermal_throttle cpu0/power cpu0/hotplug power cpu1 cpufreq uevent; do
		run lab_exec c1 /bin/busybox ls -d "$dir/$f"
		((status != 0)) || fail "$f is there"
	done
	run lab_exec c1 /bin/sh -c "echo 0 >$dir/cpu0/online"
	((status != 0))
	# Walked as find walks it: whole, without an error, all of it readable.
	run lab_exec c1 /bin/sh -c "find $dir /sys/devices/system/node -type f -exec cat {} + >/dev/null && echo whole"
	equal "find" whole "$output"
}

# bats test_tags=guest-soak
@test "vmstat and zoneinfo agree with the cgroup's own files" {
	lab_run candor c1 --detach --null-io --memory-limit 268435456 -- \
		/bin/sh -c 'dd if=/dev/zero of=/tmp/fill bs=1M count=40 conv=fsync 2>/dev/null; x=$(head -c 20000000 /dev/zero | tr "\0" x); touch /tmp/filled; sleep 600; :'
	lab_wait 10 test -e "$LAB_DIR/rootfs/tmp/filled" || fail "the container does not fill its memory"
	sleep 0.3
	local dir page vmstat zoneinfo key name want before after
	page=$(getconf PAGESIZE)
	dir=$(group memory "$(lab_pid c1)")
	stat_of() { awk -v v1="total_$1" -v v2="$2" '$1 == v1 { print $2; found = 1 } $1 == v2 { other = $2 } END { if (!found) print other }' "$dir/memory.stat"; }
	before=$(stat_of pgfault pgfault)
	vmstat=$(cat_in c1 /proc/vmstat)
	zoneinfo=$(cat_in c1 /proc/zoneinfo)
	after=$(stat_of pgfault pgfault)
	between "pgfault" "$before" "$after" "$(awk '$1 == "pgfault" { print $2 }' <<<"$vmstat")"
	for key in "nr_file_pages cache file" "nr_inactive_file inactive_file inactive_file" "nr_anon_pages rss anon"; do
		read -r name key <<<"$key"
		# shellcheck disable=SC2086
		want=$(stat_of $key)
		between "$name" "$((want / page - 800))" "$((want / page + 800))" "$(awk -v name="$name" '$1 == name { print $2 }' <<<"$vmstat")"
		between "$name in zoneinfo" "$((want / page - 800))" "$((want / page + 800))" "$(awk -v name="$name" '$1 == name { print $2 }' <<<"$zoneinfo")"
	done
	between "nr_file_pages, of 40 MiB" $((38 << 20 >> 12)) $((60 << 20 >> 12)) "$(($(awk '$1 == "nr_file_pages" { print $2 }' <<<"$vmstat") * page / 4096))"
	between "nr_free_pages" "$(($(field meminfo MemFree:) - 3000))" "$(($(field meminfo MemFree:) + 3000))" "$(($(awk '$1 == "nr_free_pages" { print $2 }' <<<"$vmstat") * page / 1024))"
	# The same I/O in both: sectors of 512 bytes, and KiB.
	equal "pgpgout" "$(cat_in c1 /proc/diskstats | awk '{ sum += $10 } END { print int(sum / 2) }')" "$(field vmstat pgpgout)"
	# Every key is the kernel's, in its order.
	name=$(awk '{ print $1 }' <<<"$vmstat")
	equal "keys of vmstat" "$name" "$(awk '{ print $1 }' /proc/vmstat | grep -xFf <(echo "$name"))"
	equal "slabinfo" "$(head -2 /proc/slabinfo)" "$(cat_in c1 /proc/slabinfo)"
	# What procps and busybox make of it.
	run lab_exec c1 /bin/busybox free -k
	((status == 0))
}

# bats test_tags=guest-soak
@test "pressure is the container's own, but only if the policy says so" {
	start c1
	equal "mounts without the policy's word" "" "$(awk '$5 == "/proc/pressure"' "/proc/$(lab_pid c1)/mountinfo")"
	local dir
	dir=$(awk -F: '$1 == 0 && $3 != "/" { print $3 }' "/proc/$(lab_pid c1)/cgroup")
	lab_rm c1
	if is_v1; then dir=/sys/fs/cgroup/unified$dir; else dir=/sys/fs/cgroup$dir; fi
	set_policy 's/^enabled .*/&\npressure = true/'
	start c1
	if [[ ! -e $dir/cpu.pressure || $dir == */unified ]]; then
		equal "mounts, where no cgroup has a pressure of its own" "" "$(awk '$5 == "/proc/pressure"' "/proc/$(lab_pid c1)/mountinfo")"
		skip "the container has no pressure of its own here; and /proc/pressure was left alone"
	fi
	lab_exec c1 /bin/sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'
	[[ $(cat_in c1 /proc/pressure/cpu) =~ ^some\ avg10=[0-9.]+\ avg60=[0-9.]+\ avg300=[0-9.]+\ total=[0-9]+ ]] || fail "$(cat_in c1 /proc/pressure/cpu)"
	local own=0 host
	own=$(cat_in c1 /proc/pressure/cpu | sed -n 's/^some.*total=//p')
	host=$(sed -n 's/^some.*total=//p' /proc/pressure/cpu)
	((own < host / 2)) || fail "cpu pressure $own us beside the machine's $host us"
	run lab_exec c1 /bin/sh -c 'echo "some 150000 1000000" >/proc/pressure/cpu'
	((status != 0)) || fail "a trigger can be set, and would never fire"
}

##### Reading

# bats test_tags=guest-soak
@test "sendfile(2), which busybox's cat reads with, gets the whole file" {
	start c1 --memory-limit 268435456
	local file
	for file in /proc/meminfo /proc/cpuinfo /proc/swaps /proc/vmstat /sys/devices/system/cpu/online /sys/devices/system/cpu/cpu0/topology/core_id; do
		equal "lines of $file by read and sendfile" same "$(lab_exec c1 /bin/sh -c '[ "$(dd if=$0 bs=64k status=none | wc -l)" = "$(cat $0 | wc -l)" ] && echo same' "$file")"
	done
	has "meminfo" "$(lab_exec c1 /bin/cat /proc/meminfo | tr -s ' ')" "MemTotal: 262144 kB" "MemAvailable:"
	[[ $(lab_exec c1 /bin/cat /proc/stat) == *$'\n'softirq* ]]
}

# bats test_tags=guest-soak
@test "small reads, seeks and tail see one and the same content" {
	start c1 --memory-limit 268435456
	equal "read byte by byte" "$(field meminfo MemTotal:)" "$(lab_exec c1 /bin/busybox dd if=/proc/meminfo bs=1 count=60 2>/dev/null | awk '$1 == "MemTotal:" { print $2 }')"
	equal "from an offset" "$(lab_exec c1 /bin/busybox dd if=/proc/swaps bs=64k 2>/dev/null | cut -c9-16 | head -1)" \
		"$(lab_exec c1 /bin/busybox dd if=/proc/swaps bs=1 skip=8 count=8 2>/dev/null)"
	has "tail" "$(lab_exec c1 /bin/busybox tail -n 3 /proc/stat)" softirq
}

# bats test_tags=guest-soak
@test "nobody in the container can write to the view, or take it away" {
	start c1 --memory-limit 268435456
	run lab_exec c1 /bin/sh -c 'echo 1 >/proc/meminfo'
	((status != 0))
	run lab_exec c1 /bin/busybox umount /proc/meminfo
	((status != 0))
	local options
	options=$(awk '$5 == "/proc/meminfo" { print $6 }' "/proc/$(lab_pid c1)/mountinfo")
	has "mount options" ",$options," ,ro, ,nosuid, ,nodev, ,noexec,
}

##### Whoever reads

# reads_its_own READER...: the command reads every file of c1, which has 256 MiB and
# time for one CPU, and they are c1's.
reads_its_own() {
	local file out
	for file in meminfo stat cpuinfo uptime diskstats loadavg swaps vmstat zoneinfo slabinfo; do
		out=$(read_by "$@" "/proc/$file") || fail "$file cannot be read" || return
		case $file in
		meminfo) equal "MemTotal" 262144 "$(awk '$1 == "MemTotal:" { print $2 }' <<<"$out")" || return ;;
		zoneinfo) equal "managed" $((262144 / ($(getconf PAGESIZE) / 1024))) "$(awk '$1 == "managed" { print $2 }' <<<"$out")" || return ;;
		stat) equal "CPUs of stat" 1 "$(grep -c '^cpu[0-9]' <<<"$out")" || return ;;
		cpuinfo) equal "CPUs of cpuinfo" 1 "$(grep -c '^processor' <<<"$out")" || return ;;
		# Idle for no longer than it is there, by one CPU.
		uptime) awk '{ exit !(NF == 2 && $2 <= $1 + 0.2) }' <<<"$out" || fail "uptime: $out" || return ;;
		diskstats) ;; # empty without a disk that was used
		*) [[ -n $out ]] || fail "$file is empty" || return ;;
		esac
	done
	for file in cpu/online cpu/present node/node0/cpulist; do
		[[ -e /sys/devices/system/$file ]] || continue
		equal "$file" 0 "$(read_by "$@" "/sys/devices/system/$file")" || return
	done
}

# read_by READER... FILE: again where ctr loses the output (see cat_in).
read_by() {
	local out
	for _ in 1 2 3; do
		out=$(lab_exec c1 "$@") || return
		[[ -z $out ]] || break
	done
	printf '%s\n' "$out"
}

OWN=(--memory-limit 268435456 --cpu-quota 100000 --cpu-period 100000)

# bats test_tags=guest-soak
@test "uid 65534 without capabilities, in a root that is read-only, reads as well as root" {
	local cap drop=()
	for cap in CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE; do drop+=(--cap-drop "CAP_$cap"); done
	chmod 0711 "$LAB_DIR" # the way to its root
	start c1 "${OWN[@]}" --user 65534:65534 --read-only "${drop[@]}"
	equal "uid and capabilities" "65534 0000000000000000 0000000000000000" \
		"$(lab_exec c1 /bin/busybox awk '$1 == "Uid:" || $1 == "CapEff:" || $1 == "CapBnd:" { printf "%s ", $2 }' /proc/self/status | sed 's/ $//')"
	run lab_exec c1 /bin/busybox touch /tmp/written
	((status != 0)) || fail "the root is not read-only"
	reads_its_own /bin/cat
}

# bats test_tags=guest-soak
@test "a user namespace reads its own" {
	local bundle
	lab_rootfs "$LAB_DIR/mapped"
	chown -R 100000:100000 "$LAB_DIR/mapped"
	chmod 0711 "$LAB_DIR"
	# ctr's own flags for it are for images alone.
	bundle=$(make_bundle c1 --arg root "$LAB_DIR/mapped" '.root.path = $root | .linux.namespaces += [{type: "user"}]
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings
		| .linux.resources += {memory: {limit: 268435456}, cpu: {quota: 100000, period: 100000}}')
	lab_ctr run --detach --null-io --fifo-dir "$LAB_DIR/fifo" --runtime io.containerd.candor.v1 --config "$bundle/config.json" c1
	equal "the map of uids" "0 100000 65536" "$(lab_exec c1 /bin/cat /proc/self/uid_map | xargs)"
	reads_its_own /bin/cat
}

# bats test_tags=guest-soak
@test "a root without a shell, whose only files are the static programs that read, reads its own" {
	local root=$LAB_DIR/only
	mkdir -p "$root"/{proc,sys,dev,run}
	cp /bin/busybox "$root/sleep" && cp /bin/busybox "$root/cat" # each is what it is called
	LAB_ROOTFS=$root lab_run candor c1 --detach --null-io "${OWN[@]}" -- /sleep 600
	reads_its_own /cat
}

##### Time

@test "uptime and btime are the container's own, and agree; in exec too" {
	[[ -e /proc/self/ns/time ]] || skip "the kernel has no time namespaces"
	start c1
	local up btime before now young=$((20 * ${LAB_PATIENCE:-1}))
	for _ in 1 2; do # each an exec of its own
		before=$(date +%s)
		up=$(cat_in c1 /proc/uptime)
		now=$(date +%s)
		btime=$(field stat btime)
		between "uptime" 0 "$young" "${up%%.*}"
		between "btime + uptime" "$((before - 2))" "$((now + 2))" "$((btime + ${up%%.*}))"
		sleep 1
	done
	# sysinfo(2), which no file can answer, agrees by the kernel's own hand.
	[[ $(lab_exec c1 /bin/busybox uptime) =~ up\ [01]\ min ]] || fail "uptime(1): $(lab_exec c1 /bin/busybox uptime)"
	local age
	age=$(lab_exec c1 /bin/sh -c 'read -r up _ </proc/uptime; set -- $(cat /proc/1/stat); echo $(( ${up%.*} - $(eval echo \${22}) / 100 ))')
	between "age of pid 1" 0 "$young" "$age"
}

##### On, off, not to be had

# bats test_tags=guest-soak
@test "the annotation turns the view off, and the policy for those that do not ask" {
	local host
	host=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
	start c1 --memory-limit 268435456 --annotation candor.dev/resource-view=off
	equal "off by annotation" "$host" "$(field meminfo MemTotal:)"
	lab_rm c1
	set_policy 's/^enabled .*/enabled = false/'
	start c1 --memory-limit 268435456
	equal "off by policy" "$host" "$(field meminfo MemTotal:)"
	no_records
	lab_rm c1
	start c1 --memory-limit 268435456 --annotation candor.dev/resource-view=on
	equal "on by annotation" 262144 "$(field meminfo MemTotal:)"
}

# without_candord: a bin_dir in which candord cannot be started, and none runs.
without_candord() {
	local bin=$LAB_DIR/bin-without
	mkdir -p "$bin"
	cp "$LAB_BIN"/candor-p* "$bin/"
	rm -f "$bin/candord"
	"$@" "$bin/candord"
	[[ -z $(running candord) ]] || kill_candord supervisor worker || return
	set_policy "s|^bin_dir.*|bin_dir = \"$bin\"|" "s|^required.*|required = $REQUIRED|"
}

not_there() { :; }
not_executable() { cp "$LAB_BIN/candord" "$1" && chmod 0644 "$1"; }
no_program() { echo 'this is no program' >"$1" && chmod 0755 "$1"; }
ends_at_once() { printf '#!/bin/sh\nexit 1\n' >"$1" && chmod 0755 "$1"; }
# A /dev/fuse that cannot be opened: the device cgroup says no.
no_fuse() {
	mkdir -p "/sys/fs/cgroup/devices/$LAB_NS-nofuse"
	echo 'c 10:229 rwm' >"/sys/fs/cgroup/devices/$LAB_NS-nofuse/devices.deny"
	cat >"$1" <<-EOF_CANDORD
		#!/bin/sh
		echo \$\$ >/sys/fs/cgroup/devices/$LAB_NS-nofuse/cgroup.procs
		exec $LAB_BIN/candord "\$@"
	EOF_CANDORD
	chmod 0755 "$1"
}

# runs_without, refused_without WAY: what becomes of a container, by required.
runs_without() {
	REQUIRED=false without_candord "$1"
	: >"$LAB_STATE/candor.log"
	run lab_run candor c1 --rm --memory-limit 268435456 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" -- /bin/grep MemTotal: /proc/meminfo
	((status == 0)) || fail "$output" || return
	equal "MemTotal" "$(grep MemTotal: /proc/meminfo)" "$output" || return
	journal_says "without the resource view" || fail "the journal says nothing of it: $(cat "$LAB_STATE/candor.log")" || return
	want_all_back 2
}
refused_without() {
	REQUIRED=true without_candord "$1"
	refused c1 --memory-limit 268435456 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" || return
	has "error" "$output" "resource view" candord required "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "candord is not installed, required=false: the container runs, the journal says so" { runs_without not_there; }
# bats test_tags=guest-soak
@test "candord is not installed, required=true: a clear error" { refused_without not_there; }
# bats test_tags=guest-soak
@test "candord is not executable, required=false" { runs_without not_executable; }
# bats test_tags=guest-soak
@test "candord is not executable, required=true" { refused_without not_executable; }
# bats test_tags=guest-soak
@test "candord is no program, required=true" { refused_without no_program; }
# bats test_tags=guest-soak
@test "candord ends at once, required=false" { runs_without ends_at_once; }
# bats test_tags=guest-soak
@test "candord ends at once, required=true" { refused_without ends_at_once; }

# end_candord: the one of a test, that has its own way.
end_candord() {
	local pid
	for pid in $(running candord); do kill -KILL "$pid" 2>/dev/null || true; done
	lab_wait 3 no_candord
	lab_wait 3 rmdir "/sys/fs/cgroup/devices/$LAB_NS-nofuse"
}
no_candord() { [[ -z $(running candord) ]]; }

@test "FUSE is not available, required=false: the container runs, the journal says so" {
	is_v1 || skip "only cgroup v1's device list can be written from a shell"
	runs_without no_fuse
	end_candord
}

# bats test_tags=guest-soak
@test "FUSE is not available, required=true: a clear error" {
	is_v1 || skip "only cgroup v1's device list can be written from a shell"
	refused_without no_fuse
	end_candord
}

##### Who must not see it

# no_trace ID DIR: neither pins nor the view are below the container's DIR.
no_trace() {
	local mounts pins
	mounts=$(cat "/proc/$(lab_pid "$1")/mountinfo")
	# Only what is bound over /proc and /sys, and that from the inside.
	equal "FUSE mounts below $2" "" "$(awk -v dir="$2" '{ for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^fuse(\.|$)/ && index($5, dir) == 1) print $5 }' <<<"$mounts")" || return
	for pins in $(candor_mounts | awk '$1 == "pin" { print $2 }'); do
		[[ $mounts != *"/$pins "* ]] || fail "pin $pins is in the container" || return
	done
	equal "candor's mount namespace" "" "$(awk -v path="$2${3:-}/$(basename "$LAB_STATE")/mnt" '$5 == path' <<<"$mounts")"
}

# bats test_tags=guest-soak
@test "a container with -v /run of the host sees neither pins nor the view" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	start c2 --mount type=bind,src=/run,dst=/host/run,options=rbind:rw
	equal "pins" 2 "$(candor_mounts | grep -c '^pin')"
	no_trace c2 /host/run
	# And it holds nothing fast: the NIC comes back while c2 lives.
	lab_rm c1
	nic_is_back
}

# bats test_tags=guest-soak
@test "a container with / of the host as rslave sees neither pins nor the view, also those that come later" {
	start c2 --mount type=bind,src=/,dst=/host,options=rbind:rslave
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --memory-limit 134217728
	no_trace c2 /host /run
	equal "MemTotal of c1" 131072 "$(field meminfo MemTotal:)"
	lab_rm c1
	nic_is_back
	no_trace c2 /host /run
}

# bats test_tags=guest-soak
@test "a privileged container with all of the host sees neither" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	run start c2 --privileged --mount type=bind,src=/,dst=/host,options=rbind:rshared
	((status == 0)) || skip "no privileged containers here: $output"
	no_trace c2 /host /run
}

@test "a container in the host's pid namespace runs, without the view" {
	can_open /proc/1/ns/pid || skip "pid 1's namespaces cannot be opened here: it has capabilities that root has not"
	run lab_run candor c1 --rm --memory-limit 268435456 --with-ns pid:/proc/1/ns/pid -- /bin/grep MemTotal: /proc/meminfo
	((status == 0)) || fail "$output"
	equal "MemTotal" "$(grep MemTotal: /proc/meminfo)" "$output"
}

# bats test_tags=guest-soak
@test "a thousand containers' worth of look-ups leave candord as small as it was" {
	local before after
	start c1 --memory-limit 268435456
	before=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$(candord_pid worker)/status")
	lab_exec c1 /bin/sh -c 'i=0; while [ $i -lt 1000 ]; do read -r l </proc/meminfo; read -r l </proc/stat; i=$((i+1)); done'
	after=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$(candord_pid worker)/status")
	((after < before + 8192)) || fail "candord's worker grew from $before to $after kB"
	equal "descriptors" "" "$(find "/proc/$(candord_pid worker)/fd" -mindepth 1 | awk 'END { if (NR > 100) print NR }')"
}
