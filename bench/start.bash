# shellcheck shell=bash
# A container's whole life, `ctr run --rm ... true`: with candor and everything
# on, and with candor and nothing asked, beside containerd's own runc shim.

bench_start() {
	local ask=(
		--annotation "candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.9/24,gateway=$LAB_PEER_IP"
		--annotation candor.dev/egress-limit=50M
		--annotation candor.dev/resource-view=on
	)
	# Once before: where there is no systemd the first container starts candord.
	lab_run candor bench-first --rm "${ask[@]}" -- /bin/true || return

	# containerd, ctr and what they start; containers; candord. A group of
	# its own for each, so that nothing is counted twice.
	BENCH_ACCOUNTS=(-cgroup "$(bench_cgroup tree "$LAB_CONTAINERD_PID")")
	mkdir -p "$(bench_cpu_root)/$LAB_NS" && BENCH_ACCOUNTS+=(-cgroup "$(bench_cpu_root)/$LAB_NS")
	BENCH_CANDORD_GROUP=$(bench_candord_cgroup) || return
	BENCH_ACCOUNTS+=(-cgroup "$BENCH_CANDORD_GROUP")

	bench_start_pairs 2-start-1-all "with NIC, view and limit" "$BENCH_PAIRS" "${ask[@]}" &&
		bench_start_pairs 2-start-2-view "with the view only" $((BENCH_PAIRS / 2)) --annotation candor.dev/resource-view=on &&
		bench_start_pairs 2-start-3-bare "with nothing asked" $((BENCH_PAIRS / 2)) --annotation candor.dev/resource-view=off
}

# bench_start_pairs FILE WHAT PAIRS CTR-FLAGS-FOR-CANDOR...
bench_start_pairs() {
	local file=$1 what=$2 pairs=$3
	local ctr=(
		"$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" --namespace "$LAB_NS" run --rm --fifo-dir "$LAB_DIR/fifo"
		--memory-limit 268435456 --cpu-quota 100000 --cpu-period 100000
	)
	shift 3
	(
		export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1
		bench_cgroup tree "$BASHPID" >/dev/null
		exec "$BENCH_BIN/pairs" -part start -what "ctr run --rm true $what" -peer io.containerd.runc.v2 -goal "<= 1.10" -cpu-goal "<= 1.10" \
			-pairs "$pairs" -settle 100ms "${BENCH_ACCOUNTS[@]}" -o "$(bench_out "$file")" \
			-- "${ctr[@]}" --runtime io.containerd.candor.v1 "$@" --rootfs "$LAB_DIR/rootfs" "bench-c{}" /bin/true \
			--- "${ctr[@]}" --runtime io.containerd.runc.v2 --runc-root "$LAB_DIR/runc" --rootfs "$LAB_DIR/rootfs" "bench-r{}" /bin/true
	)
}
