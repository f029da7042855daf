#!/usr/bin/env bats
# Single quotes are for shells and awk inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154
# What ordinary programs say in a container, against a reckoning that does not know
# how the view reckons: known loads, the kernel's counters of the load's process,
# the cgroup's own, the disk's own (tests/truth).
#
#   CANDOR_TRUTH_SECONDS=12    of load for the exporter and for top; make soak takes 60

SECONDS_OF_LOAD=${CANDOR_TRUTH_SECONDS:-12}
export BATS_TEST_TIMEOUT=$((90 + SECONDS_OF_LOAD))

load ../bats/helpers
# shellcheck source=tests/truth/reckoning.bash
source "$LAB_REPO/tests/truth/reckoning.bash"
# shellcheck source=tests/truth/programs.bash
source "$LAB_REPO/tests/truth/programs.bash"

MEMORY=$((512 << 20))
LIMITS=(--memory-limit "$MEMORY" --cpu-period 100000)

two_cpus() { (($(nproc) >= 2)) || skip "needs two CPUs"; }

# rendered: a content is used for 100 ms.
rendered() { sleep 0.2; }

@test "the judge of this file: what is 4 % off is not near, and what is no number is not" {
	near "3 % more" 100 103
	near "with slack" 10 11.9 2
	local said
	for said in 96 104 -100 '' nan inf 0; do
		run near "a wrong number" 100 "$said"
		((status != 0)) || fail "'$said' passes for 100"
	done
}

##### Memory

# grown KEY KIB [SLACK]: from before to after what $program says of it grew by so much.
grown() { near "$program: $1, grown by" "$2" "$(reckon "(${SAID[$1]}) - (${before["$program.$1"]})")" "${3:-0}"; }

@test "free, top, vmstat, Python and Node: 100 MiB of a program's own, 60 of page cache, 40 shared" {
	load_up "${LIMITS[@]}"
	[[ $(stat -f -c %T "$SHARED") != tmpfs ]] || skip "$SHARED is a tmpfs: no file there is page cache"
	local program programs=() key kernel cache used lost
	declare -A before
	for program in free top vmstat python3 node; do have "$program" && programs+=("$program"); done
	# Twice: the page cache of a program belongs to whoever ran it first.
	for program in "${programs[@]}" "${programs[@]}"; do
		memory_by "$program"
		for key in "${!SAID[@]}"; do before["$program.$key"]=${SAID[$key]}; done
	done
	kernel=$(kernel_memory) cache=$(memory_stat cache file) used=$(memory_used)
	order anonymous 100
	order file 60 /lab/cached
	order shared 40 /dev/shm/shared
	# Should the machine take back page cache just now, of the load or of the programs,
	# the group's account knows.
	kernel=$((($(kernel_memory) - kernel) / 1024)) cache=$((($(memory_stat cache file) - cache) / 1024)) used=$((($(memory_used) - used) / 1024))
	near "the group's page cache, grown by" $((100 * 1024)) "$cache" 8192
	near "the group's use, grown by" $((200 * 1024 + kernel)) "$used" 8192
	# A clean page cache can be had back, but for what the kernel needs to keep track of
	# it, and for its low watermark: 3.5 MiB on a machine of 512. A batch is 256 KiB.
	lost=$((140 * 1024 + kernel + 3620))
	for program in "${programs[@]}"; do
		memory_by "$program"
		near "$program: total" $((MEMORY / 1024)) "${SAID[total]}" 1
		for key in "${!SAID[@]}"; do
			case $key in
			free) grown free $((-used)) ;;
			shared) grown shared $((40 * 1024)) ;;
			cache) grown cache "$cache" ;;
			available) grown available $((-lost)) 512 ;;
			used) grown used "$lost" 512 ;;
			esac
		done
	done
	near "MemFree, by the group's own account" $(((MEMORY - $(memory_used)) / 1024)) "$(inside awk '$1 == "MemFree:" { print $2 }' /proc/meminfo)"
}

##### CPUs

# sees_cpus N [CONFIGURED]: whoever counts them. What is configured a quota does not
# change (docs/resource-view.md, "possible").
sees_cpus() {
	local configured=${2:-$1}
	equal "getconf _NPROCESSORS_ONLN" "$1" "$(inside getconf _NPROCESSORS_ONLN)" || return
	! have python3 || equal "os.cpu_count()" "$1" "$(inside python3 -c 'import os; print(os.cpu_count())')" || return
	! have node || equal "os.cpus()" "$1" "$(inside node -p 'require("os").cpus().length')" || return
	if served /sys/devices/system/cpu/possible; then
		equal "nproc --all" "$configured" "$(inside nproc --all)" || return
		equal "getconf _NPROCESSORS_CONF" "$configured" "$(inside getconf _NPROCESSORS_CONF)" || return
	else
		note_once "not asked, for the view leaves their file alone: nproc --all, getconf _NPROCESSORS_CONF"
	fi
}

# set_quota MICROSECONDS, as an engine's update does.
set_quota() {
	if is_v1; then echo "$1" >"$(group cpu "$C1")/cpu.cfs_quota_us"; else echo "$1 100000" >"$(group cpu "$C1")/cpu.max"; fi
}

# cpus_add_up SECONDS CPUS QUOTA: top and vmstat say what was used, of so many CPUs,
# and that what the quota did not give was withheld, and not idle.
cpus_add_up() {
	local busy key sum=0 full withheld missed
	look_at_cpus "$1" "$2" || return
	full=$(reckon "100 * $3 / $2")
	echo "# $2 CPUs, time for $3: used $BUSY % (the load alone $LOAD_BUSY %), top says $(top_cpu us) us $(top_cpu sy) sy $(top_cpu id) id $(top_cpu st) st" >&3
	near "the load's process and its group" "$BUSY" "$LOAD_BUSY" 3 || return
	busy=$(reckon "$(top_cpu us) + $(top_cpu sy) + $(top_cpu ni)")
	near "top: us + sy + ni" "$BUSY" "$busy" || return
	for key in us sy ni id wa hi si st; do sum=$(reckon "$sum + $(top_cpu "$key")"); done
	near "top: the sum of all" 100 "$sum" 0.5 || return
	# Whole numbers of whole numbers: one more and one less is rounding.
	near "vmstat: us + sy" "$BUSY" $(($(vmstat_last us) + $(vmstat_last sy))) 3 || return
	# A machine that was busy otherwise gave less than the quota: who took it, nobody knows.
	if awk -v busy="$BUSY" -v full="$full" 'BEGIN { exit busy < full * 0.97 }'; then
		# In a period in which the machine was late the kernel did not need to throttle.
		withheld=$(reckon "100 - $full") missed=$(reckon "$full > $BUSY ? $full - $BUSY : 0")
		near "top: st" "$withheld" "$(top_cpu st)" "$(reckon "5 + $missed")" || return
		near "top: id" 0 "$(top_cpu id)" "$(reckon "5 + $missed")" || return
	else
		echo "# the machine had no time for $3 CPUs: steal and idle are not judged" >&3
	fi
}

@test "top, vmstat, getconf, Python and Node: two busy threads with time for 1.5 CPUs, then for one" {
	two_cpus
	load_up "${LIMITS[@]}" --cpu-quota 150000
	sees_cpus 2
	order burn 2
	sleep 0.5
	cpus_add_up 4 2 1.5
	# The load's own share, by the container's clock.
	local percent
	percent=$(inside ps -o pcpu= -p 1)
	near "ps -o pcpu" "$(reckon "100 * $(load_seconds) / ($EPOCHREALTIME - $(started_at))")" "$percent" 6
	set_quota 100000
	rendered
	sees_cpus 1 "$(nproc)"
	sleep 0.5
	cpus_add_up 4 1 1
}

@test "a cpuset without the first CPU: its ids are those that a program can bind itself to" {
	two_cpus
	have python3 || skip "needs python3"
	load_up "${LIMITS[@]}" --cpuset-cpus 1
	sees_cpus 1 2
	inside python3 -c '
import os, re
ids = [int(word) for word in re.findall(r"(?m)^cpu(\d+) ", open("/proc/stat").read())]
assert ids == [int(word) for word in re.findall(r"(?m)^processor\s*: (\d+)", open("/proc/cpuinfo").read())], ids
assert ids == [int(open("/sys/devices/system/cpu/online").read())], ids
for one in ids:
    os.sched_setaffinity(0, {one})
    assert os.sched_getaffinity(0) == {one}
'
}

##### Time

# seconds_of TEXT: a date as ps and uptime print it.
seconds_of() { date -u -d "$1" +%s; }

@test "uptime, ps and top agree with the host on when the container began, in exec too" {
	[[ -e /proc/self/ns/time ]] || skip "the kernel has no time namespaces"
	load_up "${LIMITS[@]}"
	sleep 2
	local started age said
	started=$(started_at)
	said=$(seconds_of "$(inside uptime -s)")
	near "uptime -s" "$started" "$said" 0
	between "uptime -s, to the second" $((${started%.*} - 1)) $((${started%.*} + 1)) "$said"
	said=$(seconds_of "$(inside ps -o lstart= -p 1)")
	between "ps -o lstart of the first process" $((${started%.*} - 1)) $((${started%.*} + 1)) "$said"
	age=$(since "$started")
	said=$(inside ps -o etimes= -p 1)
	between "ps -o etimes of the first process" $((${age%.*} - 1)) $((${age%.*} + 1)) "$said"
	age=${EPOCHREALTIME%.*}
	said=$(seconds_of "$(inside sh -c 'ps -o lstart= -p $$')")
	between "ps -o lstart of one that has just begun" $((age - 1)) $((age + 2)) "$said"
	has "top's first line, in its first minute" "$(inside top -b -n 1 | head -n 1)" "up 0 min"
	! have python3 || between "Python's CLOCK_BOOTTIME and /proc/uptime" 0 1 \
		"$(inside python3 -c 'import time; print(int(abs(time.clock_gettime(time.CLOCK_BOOTTIME) - float(open("/proc/uptime").read().split()[0]))))')"
}

##### Whoever reads

# read_plainly: what the reader, which may be the container's only file, has to
# find. 48 MiB are held; one CPU is given.
read_plainly() {
	local out key
	order anonymous 48
	rendered
	for _ in 1 2 3; do # see cat_in
		out=$(lab_exec c1 "${READER:-/lab/known-load}" read /proc/{meminfo,stat,cpuinfo,diskstats,loadavg,swaps,uptime} /sys/devices/system/cpu/online) || fail "the reader failed: $out" || return
		[[ -z $out ]] || break
	done
	key() { awk -v key="$1" '$1 == key { print $2; exit }' <<<"$out"; }
	equal "MemTotal" $((MEMORY / 1024)) "$(key MemTotal:)" || return
	near "AnonPages" $((48 * 1024)) "$(key AnonPages:)" 1024 || return
	near "AnonPages, by the page tables" "$(($(anonymous_memory) / 1024))" "$(key AnonPages:)" 512 || return
	near "MemFree" $(((MEMORY - $(memory_used)) / 1024)) "$(key MemFree:)" || return
	equal "CPUs of stat" 1 "$(grep -c '^cpu[0-9]' <<<"$out")" || return
	equal "CPUs of cpuinfo" 1 "$(grep -c '^processor' <<<"$out")" || return
	equal "CPUs online" 1 "$(awk '$2 ~ /cpu.online$/ { getline; print split($0, ids, /[-,]/) }' <<<"$out")" || return
	if [[ -e /proc/self/ns/time ]]; then
		near "btime" "$(started_at)" "$(key btime)" 0 || return
		between "btime, to the second" $(($(started_at | cut -d. -f1) - 1)) $(($(started_at | cut -d. -f1) + 1)) "$(key btime)" || return
	fi
}

@test "uid 65534 without capabilities, in a root that is read-only, reads the same" {
	local cap drop=()
	for cap in CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE; do drop+=(--cap-drop "CAP_$cap"); done
	load_up "${LIMITS[@]}" --cpu-quota 100000 --read-only --user 65534:65534 "${drop[@]}"
	equal "uid and capabilities" "65534 0000000000000000 0000000000000000" \
		"$(inside awk '$1 == "Uid:" || $1 == "CapEff:" || $1 == "CapBnd:" { printf "%s ", $2 }' /proc/self/status | sed 's/ $//')"
	! inside touch /tmp/written 2>/dev/null || fail "the root is not read-only"
	read_plainly
	sees_cpus 1 "$(nproc)"
	memory_by free
	near "free: total" $((MEMORY / 1024)) "${SAID[total]}" 1
}

@test "a user namespace reads the same" {
	truth_up
	local bundle
	root_of_programs "$LAB_DIR/mapped" && chown -R 100000:100000 "$LAB_DIR/mapped"
	# ctr's own flags for it are for images alone.
	bundle=$(make_bundle c1 --arg root "$LAB_DIR/mapped" --arg shared "$SHARED" --argjson memory "$MEMORY" '.root.path = $root
		| .process.args = ["/lab/known-load", "obey", "/lab"] | .process.env = ["PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"]
		| .linux.namespaces += [{type: "user"}] | .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings
		| .mounts += [{destination: "/usr", type: "bind", source: "/usr", options: ["rbind", "ro"]}, {destination: "/lab", type: "bind", source: $shared, options: ["rbind"]}]
		| .linux.resources += {memory: {limit: $memory}, cpu: {quota: 100000, period: 100000}}')
	lab_ctr run --detach --null-io --fifo-dir "$LAB_DIR/fifo" --runtime io.containerd.candor.v1 --config "$bundle/config.json" c1
	C1=$(lab_pid c1)
	equal "the map of uids" "0 100000 65536" "$(inside cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //')"
	read_plainly
	sees_cpus 1 "$(nproc)"
	memory_by free
	near "free: total" $((MEMORY / 1024)) "${SAID[total]}" 1
}

@test "a root without a shell, whose only file is the reader, reads the same" {
	truth_up
	local root=$LAB_DIR/only
	mkdir -p "$root"/{proc,sys,dev,run,lab}
	cp "$SHARED/known-load" "$root/read"
	LAB_ROOTFS=$root lab_run candor c1 --detach --null-io "${LIMITS[@]}" --cpu-quota 100000 \
		--mount "type=bind,src=$SHARED,dst=/lab,options=rbind:rw" -- /read obey /lab
	C1=$(lab_pid c1)
	READER=/read read_plainly
}

##### The exporter, and top, all the time

# memory_truth prints what each series of the exporter has to be, and by how many
# bytes it may be off where 3 % are less. 64 MiB are anonymous, 48 of a file, 32 shared.
memory_truth() {
	local key mib=1048576 cache
	cache=$(memory_stat cache file)
	# A machine that is short of memory takes clean page cache, of the load's too.
	((cache >= 79 * mib)) || note_once "of 80 MiB of page cache the machine has taken back $((80 - cache / mib))"
	cat <<-EOF_TRUTH
		MemTotal_bytes $MEMORY 0
		MemFree_bytes $((MEMORY - $(memory_used))) 0
		MemAvailable_bytes $((MEMORY - $(memory_used) + cache - 32 * mib)) 0
		Buffers_bytes 0 0
		Cached_bytes $cache 0
		Shmem_bytes $((32 * mib)) 0
		AnonPages_bytes $(anonymous_memory) $mib
		SwapTotal_bytes $(swap_limit) 0
		SwapFree_bytes $(swap_limit) 0
		SwapCached_bytes 0 0
		Active_bytes $(($(memory_stat active_anon) + $(memory_stat active_file))) $mib
		Inactive_bytes $(($(memory_stat inactive_anon) + $(memory_stat inactive_file))) $mib
		Active_anon_bytes $(memory_stat active_anon) $mib
		Inactive_anon_bytes $(memory_stat inactive_anon) $mib
		Active_file_bytes $(memory_stat active_file) $mib
		Inactive_file_bytes $(memory_stat inactive_file) $mib
		Unevictable_bytes $(memory_stat unevictable) 0
		Dirty_bytes $(memory_stat dirty file_dirty) $mib
		Writeback_bytes $(memory_stat writeback file_writeback) $mib
		Mapped_bytes $(memory_stat mapped_file file_mapped) $mib
		AnonHugePages_bytes $(memory_stat rss_huge anon_thp) 0
		Slab_bytes $(slab_memory) $((mib / 2))
	EOF_TRUTH
	for key in HugePages_{Total,Free,Rsvd,Surp} Hugetlb_bytes; do echo "$key 0 0"; done
	# The machine's, and rightly: mmap(2) takes it.
	echo "Hugepagesize_bytes $(awk '$1 == "Hugepagesize:" { print $2 * 1024 }' /proc/meminfo) 0"
	if is_v1; then
		printf '%s 0 0\n' KReclaimable_bytes SReclaimable_bytes
		echo "SUnreclaim_bytes $(kernel_memory) $((mib / 2))"
		return
	fi
	cat <<-EOF_TRUTH
		KReclaimable_bytes $(memory_stat - slab_reclaimable) $((mib / 2))
		SReclaimable_bytes $(memory_stat - slab_reclaimable) $((mib / 2))
		SUnreclaim_bytes $(memory_stat - slab_unreclaimable) $((mib / 2))
		KernelStack_bytes $(memory_stat - kernel_stack) $((mib / 2))
		PageTables_bytes $(memory_stat - pagetables) $((mib / 2))
		SecPageTables_bytes $(memory_stat - sec_pagetables) $((mib / 2))
		Percpu_bytes $(memory_stat - percpu) $((mib / 2))
		ShmemHugePages_bytes $(memory_stat - shmem_thp) 0
		FileHugePages_bytes $(memory_stat - file_thp) 0
		Zswap_bytes 0 0
		Zswapped_bytes 0 0
	EOF_TRUTH
}

# every_memory_series FILE: each is true, and there is none of which nothing is known.
every_memory_series() {
	local name said truth slack count=0
	memory_truth >"$LAB_DIR/memory-truth"
	while read -r name said; do
		name=${name#node_memory_}
		read -r truth slack < <(awk -v name="$name" '$1 == name { print $2, $3 }' "$LAB_DIR/memory-truth") || fail "nothing is known of the exporter's node_memory_$name, which is $said" || return
		near "node_memory_$name" "$truth" "$said" "$slack" || return
		count=$((count + 1))
	done < <(grep '^node_memory_' "$1")
	equal "node_memory_MemTotal_bytes, to the byte" "$MEMORY" "$(series "$1" node_memory_MemTotal_bytes | awk '{ printf "%.0f", $1 }')" || return
	((count >= 20)) || fail "only $count series of memory" || return
	echo "# $count series of memory are true" >&3
}

# moved NAME: by how much a counter of the container's exporter moved.
moved() { reckon "$(series "$LAB_DIR/inside-2" "$1") - $(series "$LAB_DIR/inside-1" "$1")"; }

# cpu_labels FILE: of which CPUs the exporter tells.
cpu_labels() { sed -n 's/^node_cpu_seconds_total{cpu="\([0-9]*\)",mode="idle"}.*/\1/p' "$1" | paste -sd' '; }

# every_cpu_series TOOK USED SYSTEM: seconds.
every_cpu_series() {
	local cpu mode name sum=0 system=0 all
	equal "labels cpu" "0 1" "$(cpu_labels "$LAB_DIR/inside-2")" || return
	for cpu in 0 1; do
		all=0
		for mode in user nice system idle iowait irq softirq steal; do
			name="node_cpu_seconds_total{cpu=\"$cpu\",mode=\"$mode\"}"
			all=$(reckon "$all + $(moved "$name")")
			case $mode in
			user | nice) sum=$(reckon "$sum + $(moved "$name")") ;;
			system) sum=$(reckon "$sum + $(moved "$name")") system=$(reckon "$system + $(moved "$name")") ;;
			iowait | irq | softirq) near "$name" 0 "$(series "$LAB_DIR/inside-2" "$name")" || return ;;
			esac
		done
		near "the sum of CPU $cpu's times, of $1 s" "$1" "$all" 0.1 || return
	done
	near "user + nice + system" "$2" "$sum" || return
	near "system" "$3" "$system" 0.1
}

# every_disk_series MIB: the disk, no other one, and what was written.
every_disk_series() {
	local name
	# What the container's group has no account of, it did not use.
	while read -r name; do
		disk_used "$name" || fail "a disk of the host's: $name" || return
	done < <(sed -n 's/^node_disk_.*device="\([^"]*\)".*/\1/p' "$LAB_DIR/inside-2" | sort -u)
	near "node_disk_written_bytes_total, told" $(($1 << 20)) "$(series "$LAB_DIR/inside-2" "node_disk_written_bytes_total{device=\"$DISK_NAME\"}")" || return
	near "node_disk_written_bytes_total, the disk's own" "$(disk_written)" "$(series "$LAB_DIR/inside-2" "node_disk_written_bytes_total{device=\"$DISK_NAME\"}")" || return
	near "node_disk_writes_completed_total" "$(disk_writes)" "$(series "$LAB_DIR/inside-2" "node_disk_writes_completed_total{device=\"$DISK_NAME\"}")" || return
}

# disk_used NAME: c1's group has an account of it.
disk_used() {
	local number
	number=$(cat "/sys/class/block/$1/dev") || return
	if is_v1; then grep -qs "^$number " "$(group blkio "$C1")"/blkio.throttle.io_serviced_recursive; else grep -q "^$number " "$(group io "$C1")/io.stat"; fi
}

# no_series_of_the_host: none of what the view is there for has the host's value. A
# counter of the host's moves: it would lie between the one before and the one after.
no_series_of_the_host() {
	local collectors='memory|cpu|disk|boot|forks|intr|context' leaks
	if served /proc/vmstat; then collectors+='|vmstat'; else note_once "not judged, for the view leaves its file alone: the exporter's vmstat"; fi
	if served /proc/pressure/cpu; then collectors+='|pressure'; fi
	# A page size is a constant, and zero is nobody's; the disk is the container's alone.
	# Some hundred pages may be as many by chance: that they are the container's, and how
	# many, is judged above.
	leaks=$(awk -v collectors="^node_($collectors)_" -v disk="device=\"${DISK_NAME:-none}\"" '
		{ value = $NF + 0; name = $0; sub(/ [^ ]*$/, "", name) }
		name !~ collectors || name ~ /Hugepagesize|_info/ || index(name, disk) || !value { next }
		FILENAME ~ /host-1$/ { first[name] = value; next }
		FILENAME ~ /host-2$/ { second[name] = value; next }
		!(name in first) || !(name in second) || name ~ /^node_memory/ && value < 4194304 { next }
		value == first[name] || value == second[name] || name !~ /^node_memory/ && first[name] < value && value < second[name] {
			print name, value, "and the host had", first[name], "and then", second[name]
		}' "$LAB_DIR/host-1" "$LAB_DIR/host-2" "$LAB_DIR/inside-2")
	[[ -z $leaks ]] || fail "the host's values: $leaks"
}

# load_grows FROM SECONDS SAID: as the kernel lets the mean of a minute grow while two
# threads run, at times a third, with a look every 5 s, and time for a start and an end.
load_grows() {
	awk -v from="$1" -v seconds="$2" -v said="$3" 'BEGIN {
		low = from * exp(-(seconds + 7) / 60) + 2 * (1 - exp(-(seconds - 5) / 60))
		high = from * exp(-(seconds - 5) / 60) + 3 * (1 - exp(-(seconds + 7) / 60))
		if (said < low || said > high) { print "it is to be", low, "to", high; exit 1 }
	}' || fail "node_load1 is $3 after $2 s of two threads, and was $1"
}

@test "prometheus-node-exporter and top, all through a load: every series is the container's" {
	two_cpus
	exporter >/dev/null || {
		[[ ${CI:-} != true ]] || fail "prometheus-node-exporter is missing: scripts/setup.sh soak" || return
		skip "needs prometheus-node-exporter: scripts/setup.sh soak"
	}
	truth_up
	local disk=() began took used system written=0 rounds=$((SECONDS_OF_LOAD / 4)) top
	if disk_up 64; then disk=(--device "$DISK"); else note_once "no disk is written to: this machine has no loop devices"; fi
	load_up "${LIMITS[@]}" --cpu-quota 150000 "${disk[@]}"
	[[ -z $DISK ]] || disk_accounted
	exporters_up
	order anonymous 64
	order file 48 /lab/cached
	order shared 32 /dev/shm/shared
	rendered
	scrape host >"$LAB_DIR/host-1"
	scrape inside >"$LAB_DIR/inside-0" # load is counted from here on
	order burn 2
	lab_ctr task exec --detach --fifo-dir "$LAB_DIR/fifo" --exec-id top c1 /bin/sh -c "top -b -d 2 -n $((SECONDS_OF_LOAD / 2)) >/lab/top"
	sleep 1
	scrape inside >"$LAB_DIR/inside-1"
	used=$(cpu_seconds) system=$(cpu_system_seconds) began=$EPOCHREALTIME
	while ((rounds-- > 0)); do
		if [[ -n $DISK ]]; then order direct 8 "$DISK" && written=$((written + 8)); fi
		sleep 4
	done
	scrape inside >"$LAB_DIR/inside-2"
	took=$(since "$began") used=$(reckon "$(cpu_seconds) - $used") system=$(reckon "$(cpu_system_seconds) - $system")
	scrape host >"$LAB_DIR/host-2"
	every_memory_series "$LAB_DIR/inside-2"
	every_cpu_series "$took" "$used" "$system"
	[[ -z $DISK ]] || every_disk_series "$written"
	no_series_of_the_host
	[[ ! -e /proc/self/ns/time ]] || between "node_boot_time_seconds" $(($(started_at | cut -d. -f1) - 1)) $(($(started_at | cut -d. -f1) + 1)) "$(series "$LAB_DIR/inside-2" node_boot_time_seconds | awk '{ printf "%d", $1 }')"
	load_grows "$(series "$LAB_DIR/inside-0" node_load1)" "$took" "$(series "$LAB_DIR/inside-2" node_load1)"
	# The two, and whatever of top and of the exporter waits for the CPU.
	between "node_procs_running" 2 12 "$(series "$LAB_DIR/inside-2" node_procs_running)"
	# top's own mean, of all that it looked at but for the first.
	top=$(awk '/^%Cpu/ && n++ { gsub(/,/, " "); sum += $2 + $4 + $6 } END { print sum / (n - 1) }' "$SHARED/top")
	near "top: us + sy + ni, in the mean" "$(reckon "100 * $used / $took / 2")" "$top"
	near "top: total" $((MEMORY / 1048576)) "$(awk '/^MiB Mem/ { print $4; exit }' "$SHARED/top")" 0
	near "top: %MEM of the load" "$(reckon "100 * $(awk '{ print $2 * 4096 }' "/proc/$C1/statm") / $MEMORY")" "$(awk '$1 == 1 { said = $10 } END { print said }' "$SHARED/top")" 0.1
	echo "# $took s: used $used CPU seconds, top's mean $top %, load1 $(series "$LAB_DIR/inside-2" node_load1), $written MiB written" >&3
}

##### Nobody notices

# back_in_time: reads /proc/stat for so many seconds, and says what went back in it.
BACK_IN_TIME='
import sys, time
def stat():
    rows = {}
    for line in open("/proc/stat"):
        key, *values = line.split()
        if key.startswith("cpu"):
            for column, value in enumerate(values): rows[key, column] = int(value)
        elif key == "processes" and len(sys.argv) > 2: rows[key] = int(values[0])
        elif key == "btime": rows["btime"], rows["btime, the other way"] = int(values[0]), -int(values[0])
    return rows
reads, longest, end, last = 0, 0, time.time() + float(sys.argv[1]), stat()
while time.time() < end:
    began = time.time()
    now = stat()
    longest = max(longest, time.time() - began)
    reads += 1
    for key in last:
        if now[key] < last[key]: print("went back:", key, "from", last[key], "to", now[key])
    last = now
    time.sleep(0.01)
print(reads, "reads, the longest took", round(1000 * longest, 1), "ms")
'

@test "kill -9 of candord's worker under load: top, vmstat, the exporter and a reader of stat notice nothing" {
	two_cpus
	have python3 || skip "needs python3"
	load_up "${LIMITS[@]}" --cpu-quota 100000
	local scrapes=0
	order anonymous 64
	order burn 2
	if exporter >/dev/null; then exporters_up; fi
	lab_ctr task exec --detach --fifo-dir "$LAB_DIR/fifo" --exec-id programs c1 /bin/sh -c '
		rm -f /lab/ended; cd /lab
		vmstat 1 7 >vmstat 2>&1 & top -b -d 0.5 -n 14 >top 2>&1 & python3 -c "$0" 6 >reader 2>&1; wait; echo done >ended' "$BACK_IN_TIME"
	for _ in 1 2 3; do
		sleep 1
		kill_candord worker
		if exporter >/dev/null; then
			scrape inside >"$LAB_DIR/inside"
			equal "collectors that are content" 5 "$(grep -cE '_collector_success\{collector="(meminfo|cpu|diskstats|loadavg|stat)"\} 1$' "$LAB_DIR/inside")"
			equal "labels cpu, with time for one" 0 "$(cpu_labels "$LAB_DIR/inside")"
			scrapes=$((scrapes + 1))
		fi
	done
	lab_wait 15 test -e "$SHARED/ended" || fail "the programs do not end"
	cat "$SHARED/reader"
	echo "# 3 kills, $scrapes scrapes; stat: $(tail -n 1 "$SHARED/reader")" >&3
	equal "times that top looked" 14 "$(grep -c '^%Cpu' "$SHARED/top")"
	equal "times that vmstat looked" 7 "$(grep -cE '^ *[0-9]' "$SHARED/vmstat")"
	! grep -iE 'error|denied|not connected|unable|cannot' "$SHARED/top" "$SHARED/vmstat" || fail "a program complains"
	equal "totals that top saw" "$((MEMORY / 1048576)).0" "$(awk '/^MiB Mem/ { print $4 }' "$SHARED/top" | sort -u)"
	equal "what went back" "" "$(grep -v ' reads, ' "$SHARED/reader")"
}

@test "kill -9 of candord's worker: the means of the load go on as they were" {
	load_up "${LIMITS[@]}"
	local before after
	inside uptime # load is counted from here on
	order burn 1
	before=$(inside uptime)
	kill_candord worker
	rendered
	after=$(inside uptime)
	near "uptime: the mean of 15 minutes" "${before##* }" "${after##* }" 0.1
	near "uptime: the mean of a minute" "$(awk -F '[:,] *' '{ print $(NF - 2) }' <<<"$before")" "$(awk -F '[:,] *' '{ print $(NF - 2) }' <<<"$after")" 0.2
}

@test "kill -9 of candord's worker: the number of processes does not go back" {
	have python3 || skip "needs python3"
	load_up "${LIMITS[@]}"
	lab_ctr task exec --detach --fifo-dir "$LAB_DIR/fifo" --exec-id reader c1 /bin/sh -c 'rm -f /lab/ended; python3 -c "$0" 3 processes >/lab/reader 2>&1; echo done >/lab/ended' "$BACK_IN_TIME"
	# They are seen, and gone when the worker is killed.
	inside sh -c 'i=0; while [ $i -lt 20 ]; do sleep 0.02; i=$((i + 1)); done'
	sleep 0.5
	kill_candord worker
	lab_wait 15 test -e "$SHARED/ended" || fail "the reader does not end"
	equal "what went back" "" "$(grep -v ' reads, ' "$SHARED/reader")"
}

@test "a quota that changes, and kill -9 of candord's worker after it: no CPU time goes back" {
	two_cpus
	have python3 || skip "needs python3"
	load_up "${LIMITS[@]}" --cpu-quota 200000
	order burn 2
	lab_ctr task exec --detach --fifo-dir "$LAB_DIR/fifo" --exec-id reader c1 /bin/sh -c 'rm -f /lab/ended; python3 -c "$0" 5 >/lab/reader 2>&1; echo done >/lab/ended' "$BACK_IN_TIME"
	sleep 1
	set_quota 150000
	sleep 1
	kill_candord worker
	sleep 1
	set_quota 200000
	sleep 0.5
	kill_candord worker
	lab_wait 15 test -e "$SHARED/ended" || fail "the reader does not end"
	equal "what went back" "" "$(grep -v ' reads, ' "$SHARED/reader")"
}
