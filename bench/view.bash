# shellcheck shell=bash
# Reading the resource view: candor, lxcfs, a C server whose files never change, and
# the kernel's own files, read by the same processes in the same container. All turns
# of a round follow each other, in an order drawn anew.

bench_view() {
	local limits=(--memory-limit 268435456 --cpu-quota "$(($(nproc) * 100000))" --cpu-period 100000)
	BENCH_VIEW_FILES=(meminfo stat cpuinfo diskstats uptime loadavg)
	BENCH_VIEW_SERVERS=(-server kernel=/kernel)
	BENCH_VIEW_MOUNTS=(--mount "type=proc,src=proc,dst=/kernel,options=ro:nosuid:nodev:noexec")
	bench_view_copies "${limits[@]}" && BENCH_CANDORD_GROUP=$(bench_candord_cgroup) &&
		bench_view_server candor /proc "$BENCH_CANDORD_GROUP" && bench_lxcfs_up && bench_static_up || return
	install -m 0755 "$BENCH_BIN/reader" "$LAB_DIR/rootfs/bin/reader" || return
	lab_run candor bench-view -d "${limits[@]}" "${BENCH_VIEW_MOUNTS[@]}" -- /bin/sleep 3600 && bench_view_disk || return
	bench_view_idle &&
		bench_view_reads 4-view-1-loop loop -readers 1,2,8 -burst "${BENCH_BURST}ms" &&
		bench_view_reads 4-view-2-paced paced -pause 120ms &&
		lab_rm bench-view && bench_view_peers_down &&
		"$BENCH_BIN/registered" -state-dir "$LAB_STATE" -o "$(bench_out 4-view-4-memory)"
}

# bench_view_copies LIMITS...: what a first container sees, for the server whose files
# do not change. That container also has candord started, where no systemd does.
bench_view_copies() {
	local name
	mkdir -p "$LAB_DIR/copies" && lab_run candor bench-first -d "$@" -- /bin/sleep 600 || return
	for name in "${BENCH_VIEW_FILES[@]}"; do lab_exec bench-first /bin/cat "/proc/$name" >"$LAB_DIR/copies/$name" || return; done
	lab_rm bench-first
}

# bench_view_server NAME DIRECTORY CGROUP: its CPU time is read in the container, too.
bench_view_server() {
	BENCH_VIEW_SERVERS+=(-server "$1=$2,/account/$1")
	BENCH_VIEW_MOUNTS+=(--mount "type=bind,src=$3,dst=/account/$1,options=rbind:ro")
}

# bench_view_disk has the container use the disk: on cgroup v1 the kernel counts that,
# for diskstats, where there is a rule for the device, here one that never binds.
bench_view_disk() {
	local throttle device
	throttle=/sys/fs/cgroup/blkio$(awk -F: '$2 ~ /blkio/ { print $3 }' "/proc/$(lab_pid bench-view)/cgroup")/blkio.throttle.write_bps_device
	device=$(lsblk -nro MAJ:MIN "$(findmnt -nro SOURCE -T "$LAB_DIR")" 2>/dev/null | head -n 1)
	[[ ! -e $throttle || -z $device ]] || echo "$device 1000000000000" >"$throttle" || return
	lab_exec bench-view /bin/dd if=/dev/zero of=/tmp/disk bs=64k count=1 conv=fsync 2>/dev/null || return
	[[ -n $(lab_exec bench-view /bin/cat /proc/diskstats) ]] || bench_say "view: the container's diskstats are empty here, the peers' are not"
}

# bench_view_idle: what the servers use while nobody reads.
bench_view_idle() {
	local seconds=10 candor lxcfs
	[[ -n ${BENCH_LXCFS_GROUP:-} ]] || return 0
	candor=$(bench_cpu_ns "$BENCH_CANDORD_GROUP") lxcfs=$(bench_cpu_ns "$BENCH_LXCFS_GROUP")
	sleep "$seconds"
	candor=$(($(bench_cpu_ns "$BENCH_CANDORD_GROUP") - candor)) lxcfs=$(($(bench_cpu_ns "$BENCH_LXCFS_GROUP") - lxcfs))
	"$BENCH_BIN/report" value -part view -what "server CPU per second while nobody reads" -peer lxcfs -unit us -o "$(bench_out 4-view-3-idle)" \
		$((candor / 1000 / seconds)) $((lxcfs / 1000 / seconds))
}

# bench_view_reads FILE loop|paced READER-FLAGS...
bench_view_reads() {
	local file=$1 how=$2 samples=$BENCH_OUT-view-$2.jsonl
	shift 2
	lab_exec bench-view /bin/reader -rounds "$BENCH_ROUNDS" "$@" "${BENCH_VIEW_SERVERS[@]}" "${BENCH_VIEW_FILES[@]}" >"$samples" &&
		"$BENCH_BIN/report" reads -how "$how" -o "$(bench_out "$file")" <"$samples"
}

bench_lxcfs_up() {
	command -v lxcfs >/dev/null || {
		bench_say "view: left out: lxcfs is not installed"
		return 0
	}
	# -l: load averages of its own, as candor has them.
	BENCH_LXCFS=$LAB_DIR/lxcfs
	bench_fuse_up "$BENCH_LXCFS" proc/meminfo lxcfs -f -l -p "$LAB_DIR/lxcfs.pid" "$BENCH_LXCFS" || return
	BENCH_LXCFS_PID=$BENCH_FUSE_PID
	BENCH_LXCFS_GROUP=$(bench_cgroup lxcfs "$BENCH_LXCFS_PID") && bench_view_server lxcfs /lxcfs/proc "$BENCH_LXCFS_GROUP" || return
	BENCH_VIEW_MOUNTS+=(--mount "type=bind,src=$BENCH_LXCFS,dst=/lxcfs,options=rbind:ro")
}

bench_static_up() {
	local flags
	# Its words are flags, not file names.
	# shellcheck disable=SC2207
	flags=($(pkg-config --cflags --libs fuse3 2>/dev/null)) || {
		bench_say "view: left out: the C server, since libfuse3-dev is not installed"
		return 0
	}
	BENCH_STATIC=$LAB_DIR/static
	gcc -O2 -Wall -Wextra -o "$BENCH_BIN/static" bench/static/static.c "${flags[@]}" || return
	bench_fuse_up "$BENCH_STATIC" meminfo "$BENCH_BIN/static" "$BENCH_STATIC" "${BENCH_VIEW_FILES[@]/#/$LAB_DIR/copies/}" || return
	BENCH_STATIC_PID=$BENCH_FUSE_PID
	bench_view_server static /static "$(bench_cgroup static "$BENCH_STATIC_PID")" || return
	BENCH_VIEW_MOUNTS+=(--mount "type=bind,src=$BENCH_STATIC,dst=/static,options=rbind:ro")
}

# bench_fuse_up MOUNTPOINT FILE COMMAND...: starts a server, waits for a file of it and
# sets BENCH_FUSE_PID.
bench_fuse_up() {
	local point=$1 file=$2 log=$LAB_DIR/log/${1##*/}
	shift 2
	mkdir -p "$point" || return
	"$@" >"$log" 2>&1 &
	BENCH_FUSE_PID=$!
	lab_wait 5 test -e "$point/$file" || {
		bench_say "view: $1 does not come up: $(tail -n 1 "$log")"
		return 1
	}
}

# bench_view_peers_down may be called twice.
bench_view_peers_down() {
	bench_fuse_down "${BENCH_LXCFS_PID:-}" "${BENCH_LXCFS:-}"
	bench_fuse_down "${BENCH_STATIC_PID:-}" "${BENCH_STATIC:-}"
	BENCH_LXCFS_PID='' BENCH_STATIC_PID=''
}

# bench_fuse_down PID MOUNTPOINT
bench_fuse_down() {
	[[ -n $1 ]] || return 0
	umount -l "$2" 2>/dev/null
	lab_stop "$1"
}
