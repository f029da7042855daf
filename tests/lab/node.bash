# shellcheck shell=bash disable=SC2153  # LAB_MAC is set in net.bash
# The node's software: candor's policy, a private containerd, and the ways to
# start containers on it.

# lab_policy writes the node's policy: one pool, "wire", that holds the lab's
# host NICs and that the lab's containers may use.
lab_policy() {
	local macs subnets='' subnet
	macs=$(printf ', "%s"' "$LAB_MAC" ${LAB_MAC2:+"$LAB_MAC2"} "${LAB_MORE_MACS[@]}")
	if [[ -n $LAB_SUBNET ]]; then
		for subnet in "$LAB_SUBNET" ${LAB_SUBNET2:+"$LAB_SUBNET2"} "${LAB_MORE_SUBNETS[@]}"; do
			subnets+=", \"$subnet.0/24\", \"$(lab_subnet6 "$subnet")/64\""
		done
		subnets="subnets = [${subnets#, }]"
	fi
	lab_write_config <<-EOF_CONFIG
		state_dir = "$LAB_STATE"
		bin_dir   = "$LAB_BIN"

		[pools.wire]
		kind  = "hostnic"
		macs  = [${macs#, }]
		$subnets
		allow = ["containerd:$LAB_NS", "containerd:$LAB_NS-*"]

		[resource_view]
		enabled  = true
		required = true
	EOF_CONFIG
}

# lab_write_config replaces the policy by what stands on stdin.
lab_write_config() {
	(umask 077 && cat >"$LAB_CONFIG.new") && mv "$LAB_CONFIG.new" "$LAB_CONFIG"
}

# lab_containerd_config writes the configuration of the lab's own containerd.
lab_containerd_config() {
	cat >"$LAB_DIR/etc/containerd.toml" <<-EOF_CONTAINERD
		version = 3
		root  = '$LAB_DIR/data'
		state = '$LAB_DIR/state'
		imports = []
		disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.nri.v1.nri', 'io.containerd.tracing.processor.v1.otlp']
		[grpc]
		  address = '$LAB_DIR/containerd.sock'
		[ttrpc]
		  address = '$LAB_DIR/containerd.sock.ttrpc'
		[plugins.'io.containerd.shim.v1.manager']
		  socket_dir = '$LAB_DIR/s'
		[plugins.'io.containerd.internal.v1.opt']
		  path = '$LAB_DIR/opt'
	EOF_CONTAINERD
}

# lab_containerd_up starts containerd in the node's network namespace. nsenter,
# not `ip netns exec`: that mounts a new /sys, and the cgroups are gone.
lab_containerd_up() {
	lab_containerd_config || return
	PATH=$LAB_BIN:$LAB_TOOLS:$PATH CANDOR_CONFIG=$LAB_CONFIG CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 \
		setsid nsenter --net="$LAB_NODE" -- "$LAB_TOOLS/containerd" -c "$LAB_DIR/etc/containerd.toml" \
		>>"$LAB_DIR/log/containerd" 2>&1 </dev/null &
	LAB_CONTAINERD_PID=$!
	# The caller's shell must not report its death at the end.
	disown "$LAB_CONTAINERD_PID"
	lab_wait 20 lab_ctr version || {
		lab_error "containerd does not answer; its last words:"
		tail -n 5 "$LAB_DIR/log/containerd" >&2
		return 1
	}
}

# lab_ctr: ctr, for the lab's containerd and its namespace (LAB_NS=other lab_ctr
# ... for another).
lab_ctr() {
	CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 "$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" --namespace "$LAB_NS" "$@"
}

# lab_run candor|runc ID [CTR FLAGS...] -- COMMAND...: `ctr run` of a container
# on the lab's rootfs (LAB_ROOTFS for another).
lab_run() {
	local runtime=$1 id=$2 flags=(--fifo-dir "$LAB_DIR/fifo")
	shift 2
	case $runtime in
	runc) flags+=(--runtime io.containerd.runc.v2 --runc-root "$LAB_DIR/runc") ;;
	candor) flags+=(--runtime io.containerd.candor.v1) ;;
	*)
		lab_error "no such runtime: $runtime"
		return 2
		;;
	esac
	while (($#)) && [[ $1 != -- ]]; do
		flags+=("$1")
		shift
	done
	shift
	lab_ctr run "${flags[@]}" --rootfs "${LAB_ROOTFS:-$LAB_DIR/rootfs}" "$id" "$@"
}

# lab_exec ID COMMAND...: inside the container.
lab_exec() {
	local id=$1
	shift
	lab_ctr task exec --fifo-dir "$LAB_DIR/fifo" --exec-id "x$RANDOM$RANDOM" "$id" "$@"
}

# lab_pid ID prints the pid of the container's init.
lab_pid() { lab_ctr task ls | awk -v id="$1" '$1 == id { print $2 }'; }

# lab_rm ID...: kills and deletes containers, whatever state they are in. The
# NIC is back when this returns: runc's poststop runs in the task's delete.
lab_rm() {
	local id
	for id; do
		lab_ctr task rm -f "$id" >/dev/null 2>&1 || {
			lab_ctr task kill -s KILL "$id" >/dev/null 2>&1 || true
			lab_wait 5 lab_ctr task rm -f "$id" || true
		}
		lab_ctr container rm "$id" >/dev/null 2>&1 || true
	done
}

# lab_records prints candor's records as the ledger has them.
lab_records() { find "$LAB_STATE/ledger" -maxdepth 1 -name '*.json' 2>/dev/null | sort; }

lab_containers_down() {
	[[ -S $LAB_DIR/containerd.sock ]] && timeout 5 "$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" version >/dev/null 2>&1 || return 0
	local ns id
	for ns in $(lab_ctr namespaces ls -q); do
		for id in $(LAB_NS=$ns lab_ctr containers ls -q); do
			LAB_NS=$ns lab_rm "$id"
		done
	done
}

lab_containerd_down() { lab_stop "${LAB_CONTAINERD_PID:-}" "$LAB_TOOLS/containerd"; }

# lab_candord_down ends the supervisor, which ends its worker.
lab_candord_down() {
	local pid
	for pid in $(lab_processes); do
		[[ $(readlink "/proc/$pid/exe") == */candord* ]] && lab_stop "$pid"
	done
	return 0
}

# lab_stop PID [EXE]: TERM, five seconds, KILL. With EXE only if the pid is that
# program still: pids are reused.
lab_stop() {
	local pid=$1 exe=${2:-}
	[[ -n $pid && -d /proc/$pid ]] || return 0
	[[ -z $exe || $(readlink "/proc/$pid/exe") == "$exe" ]] || return 0
	kill -TERM "$pid" 2>/dev/null
	lab_wait 5 lab_dead "$pid" || {
		kill -KILL "$pid" 2>/dev/null
		lab_wait 2 lab_dead "$pid"
	}
}

# lab_dead PID: gone, or a zombie whose parent has not looked yet.
lab_dead() {
	local line
	while read -r line; do
		[[ $line != State:* ]] || break
	done 2>/dev/null <"/proc/$1/status" || return 0
	[[ $line != State:* || $line == State:?[ZX]* ]]
}
