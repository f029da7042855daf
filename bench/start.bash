# shellcheck shell=bash
# A container's whole life: `ctr run --rm ... true` with candor and everything
# on, beside containerd's own runc shim and nothing of that.

bench_start() {
	local accounts=() ctr=("$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" --namespace "$LAB_NS" run --rm --fifo-dir "$LAB_DIR/fifo")
	local limits=(--memory-limit 268435456 --cpu-quota 100000 --cpu-period 100000)
	local ask=(
		--annotation "candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.9/24,gateway=$LAB_PEER_IP"
		--annotation candor.dev/egress-limit=50M
		--annotation candor.dev/resource-view=on
	)
	export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1

	# Once before: where there is no systemd the first container starts candord.
	lab_run candor bench-first --rm "${limits[@]}" "${ask[@]}" -- /bin/true || return

	# containerd, ctr and what they start; containers; candord. A group of
	# its own for each, so that nothing is counted twice.
	accounts+=(-cgroup "$(bench_cgroup tree "$LAB_CONTAINERD_PID")")
	mkdir -p "$(bench_cpu_root)/$LAB_NS" && accounts+=(-cgroup "$(bench_cpu_root)/$LAB_NS")
	# shellcheck disable=SC2046  # one word per pid
	accounts+=(-cgroup "$(bench_cgroup candord $(bench_candord_pids))")

	(
		bench_cgroup tree "$BASHPID" >/dev/null
		exec "$BENCH_BIN/pairs" -part start -what "ctr run --rm true with NIC, view and limit" -peer io.containerd.runc.v2 \
			-goal "<= 1.10" -cpu-goal "<= 1.10" -pairs "$BENCH_PAIRS" -settle 100ms "${accounts[@]}" -o "$(bench_out 2-start)" \
			-- "${ctr[@]}" --runtime io.containerd.candor.v1 "${limits[@]}" "${ask[@]}" --rootfs "$LAB_DIR/rootfs" "bench-c{}" /bin/true \
			--- "${ctr[@]}" --runtime io.containerd.runc.v2 --runc-root "$LAB_DIR/runc" "${limits[@]}" --rootfs "$LAB_DIR/rootfs" "bench-r{}" /bin/true
	)
}
