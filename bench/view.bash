# shellcheck shell=bash
# Reading the resource view beside lxcfs: one reader in one container, both
# servers' files in turn.

bench_view() {
	command -v lxcfs >/dev/null || {
		bench_say "view: lxcfs is not installed; left out"
		return 0
	}
	bench_lxcfs_up && install -m 0755 "$BENCH_BIN/reader" "$LAB_DIR/rootfs/bin/reader" || return
	lab_run candor bench-view -d --memory-limit 268435456 --cpu-quota 100000 --cpu-period 100000 \
		--mount "type=bind,src=$BENCH_LXCFS,dst=/lxcfs,options=rbind:ro" -- /bin/sleep 3600 || return
	BENCH_CANDORD_GROUP=$(bench_candord_cgroup) || return
	bench_view_idle && bench_view_reads 4-view-1-loop "in a loop" "<= 0.25" -rounds "$BENCH_READS" &&
		bench_view_reads 4-view-2-paced "one each 120 ms, nothing reused" "<= 0.25" -rounds 40 -pause 120ms
	local status=$?
	lab_rm bench-view
	return "$status"
}

# bench_view_idle: what the servers use while nobody reads, in ns per second. It
# is a row of its own, and no part of the CPU time per read.
bench_view_idle() {
	local seconds=5
	bench_view_cpu
	sleep "$seconds"
	bench_view_cpu
	BENCH_CANDORD_IDLE=$((BENCH_CANDORD_USED / seconds)) BENCH_LXCFS_IDLE=$((BENCH_LXCFS_USED / seconds))
	"$BENCH_BIN/report" value -part view -what "server CPU per second while nobody reads" -peer lxcfs -unit us -o "$(bench_out 4-view-3-idle)" \
		"$(bench_us_per "$BENCH_CANDORD_IDLE" 1)" "$(bench_us_per "$BENCH_LXCFS_IDLE" 1)"
}

# bench_view_cpu sets BENCH_{CANDORD,LXCFS}_USED to the CPU time used since the
# last call, in ns, and BENCH_ELAPSED to the time since, in us.
bench_view_cpu() {
	local candor lxcfs now=${EPOCHREALTIME/./}
	candor=$(bench_cpu_ns "$BENCH_CANDORD_GROUP") lxcfs=$(bench_cpu_ns "$BENCH_LXCFS_GROUP")
	BENCH_CANDORD_USED=$((candor - ${BENCH_CANDORD_SEEN:-0})) BENCH_CANDORD_SEEN=$candor
	BENCH_LXCFS_USED=$((lxcfs - ${BENCH_LXCFS_SEEN:-0})) BENCH_LXCFS_SEEN=$lxcfs
	BENCH_ELAPSED=$((now - ${BENCH_SEEN:-0})) BENCH_SEEN=$now
}

# bench_view_reads FILE WHAT GOAL READER-FLAGS...
bench_view_reads() {
	local file=$1 what=$2 goal=$3 name files=() reads
	shift 3
	for name in meminfo stat cpuinfo; do files+=("$name=/proc/$name,/lxcfs/proc/$name"); done
	lab_exec bench-view /bin/reader -rounds 20 "${files[@]}" >/dev/null || return
	bench_view_cpu
	lab_exec bench-view /bin/reader "$@" "${files[@]}" >"$LAB_DIR/log/reads" || return
	bench_view_cpu
	reads=$(jq 'map(.candor | length) | add' "$LAB_DIR/log/reads") || return
	"$BENCH_BIN/report" reads -what "$what" -goal "$goal" -o "$(bench_out "$file")" \
		-candor-cpu "$(bench_us_per $((BENCH_CANDORD_USED - BENCH_CANDORD_IDLE * BENCH_ELAPSED / 1000000)) "$reads")" \
		-peer-cpu "$(bench_us_per $((BENCH_LXCFS_USED - BENCH_LXCFS_IDLE * BENCH_ELAPSED / 1000000)) "$reads")" <"$LAB_DIR/log/reads"
}

# bench_us_per NS N
bench_us_per() { awk -v ns="$1" -v n="$2" 'BEGIN { printf "%.3f\n", ns / 1000 / n }'; }

bench_lxcfs_up() {
	BENCH_LXCFS=$LAB_DIR/lxcfs
	mkdir -p "$BENCH_LXCFS"
	lxcfs -f -l -p "$LAB_DIR/lxcfs.pid" "$BENCH_LXCFS" >"$LAB_DIR/log/lxcfs" 2>&1 &
	BENCH_LXCFS_PID=$!
	lab_wait 5 test -e "$BENCH_LXCFS/proc/meminfo" || {
		bench_say "view: lxcfs does not come up: $(tail -n 1 "$LAB_DIR/log/lxcfs")"
		return 1
	}
	BENCH_LXCFS_GROUP=$(bench_cgroup lxcfs "$BENCH_LXCFS_PID")
}

bench_lxcfs_down() {
	[[ -n ${BENCH_LXCFS_PID:-} ]] || return 0
	umount -l "$BENCH_LXCFS" 2>/dev/null
	lab_stop "$BENCH_LXCFS_PID" "$(command -v lxcfs)"
	BENCH_LXCFS_PID=''
}
