# shellcheck shell=bash
# What the parts of the benchmark share.

bench_say() { printf 'bench: %s\n' "$*" >&2; }

# bench_build builds the helpers into the lab: they are gone with it. Where there is
# no Go, as in the test guest, they are in bin/bench already.
bench_build() {
	BENCH_BIN=$LAB_DIR/bench
	if ! command -v go >/dev/null; then
		BENCH_BIN=$LAB_BIN/bench
		[[ -x $BENCH_BIN/report ]] || bench_say "no Go, and no helpers in $BENCH_BIN"
		return
	fi
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$BENCH_BIN/" ./bench/...
}

# bench_state_up: /run is a tmpfs wherever there is a systemd. Where it is not,
# each record's fsync would be a disk's.
bench_state_up() {
	[[ $(stat -f -c %T /run) != tmpfs ]] || return 0
	mkdir -m 0700 "$LAB_STATE" && mount -t tmpfs -o mode=0700 tmpfs "$LAB_STATE"
}

bench_down() {
	bench_view_peers_down
	lab_down && lab_check_gone
	bench_vf_down
}

# bench_out NAME prints the path of a result's file.
bench_out() { printf '%s-%s.json\n' "$BENCH_OUT" "$1"; }

# bench_table prints all rows of this run and keeps them as markdown.
bench_table() {
	local files=("$BENCH_OUT"-*.json)
	[[ -e ${files[0]} ]] || {
		bench_say "nothing was measured"
		return 1
	}
	{
		printf '%s, %s CPUs, Linux %s, candor %s, load %s\n\n' "$(date -u +%F)" "$(nproc)" "$(uname -r)" \
			"$("$LAB_BIN/candor" version 2>/dev/null | awk 'NR == 1 { print $NF }')" "$(cut -d' ' -f1-3 /proc/loadavg)"
		"$BENCH_BIN/report" table "${files[@]}"
	} | tee "$BENCH_OUT.md"
	"$BENCH_BIN/report" plot -o "$BENCH_OUT.svg" "${files[@]}" || return
	bench_say "kept in $BENCH_OUT.md and beside it"
}

##### Cgroups that count CPU time

# bench_cpu_root prints where cgroups that count CPU time are made: v1's cpuacct,
# else the unified hierarchy, where cpu.stat needs no controller.
bench_cpu_root() {
	local root
	for root in /sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup; do
		[[ -e $root/cpuacct.usage || -e $root/cgroup.controllers ]] && break
	done
	printf '%s\n' "$root"
}

# bench_cgroup NAME PID...: moves the processes into a cgroup and prints its
# directory. Its name begins as those that lab_down removes.
bench_cgroup() {
	local dir pid
	dir=$(bench_cpu_root)/$LAB_NS-bench-$1
	shift
	mkdir -p "$dir" || return
	for pid; do printf '%s\n' "$pid" >"$dir/cgroup.procs" || return; done
	printf '%s\n' "$dir"
}

# bench_cpu_ns DIR prints the CPU time used in a cgroup.
bench_cpu_ns() {
	cat "$1/cpuacct.usage" 2>/dev/null || awk '$1 == "usage_usec" { print $2 * 1000 }' "$1/cpu.stat"
}

# bench_candord_cgroup moves the lab's supervisor and worker into a cgroup of
# their own and prints its directory.
bench_candord_cgroup() {
	local pid pids=()
	for pid in $(lab_processes); do
		# With a blank: "(deleted)" follows where a build replaced the program.
		[[ "$(readlink "/proc/$pid/exe") " == */candord\ * ]] && pids+=("$pid")
	done
	((${#pids[@]})) || {
		bench_say "candord does not run"
		return 1
	}
	bench_cgroup candord "${pids[@]}"
}
