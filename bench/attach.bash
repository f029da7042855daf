# shellcheck shell=bash
# A host NIC into a container and back: candor's hooks, called as runc calls them,
# beside the CNI plugins host-device and static, called as a CNI runtime calls them.
# Same NIC, same address, same two namespaces. The peer does less: it keeps no record,
# and leaves the host's NIC down and without addresses, which are put back off the clock.

bench_attach() {
	local before=$LAB_DIR/before bundle=$LAB_DIR/bundle address=$LAB_SUBNET.9/24
	bench_has_plugins || return 0
	lab_netns_add "$LAB_ID-inside" && bench_no_dad || return
	cat >"$before" <<-EOF_BEFORE
		link set $LAB_NIC up
		addr replace $LAB_NODE_IP/24 brd + dev $LAB_NIC
		addr replace $(lab_subnet6 "$LAB_SUBNET")2/64 dev $LAB_NIC nodad
	EOF_BEFORE
	bench_bundle "$bundle" "candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$address" || return
	bench_attach_plan 5-attach-1-hostnic "a host NIC" "host-device + static" "$bundle" "$LAB_TOOLS/cni/host-device" \
		"$(jq -n --arg nic "$LAB_NIC" --arg address "$address" \
			'{cniVersion: "1.0.0", name: "bench", type: "host-device", device: $nic, ipam: {type: "static", addresses: [{address: $address}]}}')" \
		ip -batch "$before" |
		lab_node "$BENCH_BIN/attach"
}

# bench_has_plugins: whether the peers are there. Why not has been said by who built
# them.
bench_has_plugins() {
	[[ -x $LAB_TOOLS/cni/host-device && -x $LAB_TOOLS/cni/static && -x $LAB_TOOLS/cni/host-local ]] && return
	bench_say "left out: no CNI plugins in bin/tools/cni (scripts/tools.sh cni builds them)"
	return 1
}

# bench_attach_plan FILE WHAT PEER BUNDLE PLUGIN CONFIG BEFORE... prints a plan for
# bench/attach.
bench_attach_plan() {
	local file=$1 what=$2 peer=$3 bundle=$4 plugin=$5 config=$6
	shift 6
	jq -n --arg what "$what" --arg peer "$peer" --arg bundle "$bundle" --arg plugin "$plugin" --argjson config "$config" \
		--arg out "$(bench_out "$file")" --argjson pairs "$BENCH_PAIRS" --arg inside "/run/netns/$LAB_ID-inside" \
		--arg bin "$LAB_BIN" --arg plugins "$LAB_TOOLS/cni" --arg policy "$LAB_CONFIG" --arg caller "containerd:$LAB_NS" \
		'{
			part: "attach", $what, $peer, goal: "<= 1", $out, $pairs, warmup: 3, settle: 100, $inside, before: $ARGS.positional,
			attach: [$bin + "/candor-prestart-net", "--config", $policy, "--caller", $caller],
			give_back: [$bin + "/candor-poststop", "--config", $policy, "--caller", $caller],
			$bundle, $plugin, $plugins, $config
		}' --args -- "$@"
}

# bench_bundle DIR ANNOTATION...: a bundle with just so much of a config.json as the
# hooks read.
bench_bundle() {
	local dir=$1
	shift
	mkdir -p "$dir/rootfs" && (umask 077 && jq -n \
		'{ociVersion: "1.2.0", root: {path: "rootfs"}, annotations: ($ARGS.positional | map(capture("^(?<key>[^=]*)=(?<value>.*)")) | from_entries)}' \
		--args -- "$@" >"$dir/config.json")
}

# bench_no_dad: the NIC's link-local address, new each time it comes up, is not to be
# looked for on the wire for a second: "before" would be another one for whoever is
# quick.
bench_no_dad() {
	lab_node sysctl -qw net.ipv6.conf.default.accept_dad=0 "net.ipv6.conf.$LAB_NIC.accept_dad=0"
}
