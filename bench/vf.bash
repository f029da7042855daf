# shellcheck shell=bash
# A VF into a container and back, with its address, in a VLAN, and then with a MAC as
# well: candor's hooks beside sriov-cni and host-local. It needs a PF that it may have
# for itself: CANDOR_TEST_PFS="PCI-ADDRESS ...", as in the test guest (make bench-vf);
# and sriov-cni, which is no part of this project's set-up: bin/tools/cni/sriov, or
# BENCH_SRIOV_CNI=FILE.
#
# The host is here the machine's own network namespace: sysfs, by which sriov-cni
# finds PF and VF, shows no other's.

# shellcheck source=tests/guest/fixtures/sriov.bash
source tests/guest/fixtures/sriov.bash

bench_vf() {
	local sriov=${BENCH_SRIOV_CNI:-$LAB_TOOLS/cni/sriov} vf
	[[ -n ${BENCH_VF_PF:-} ]] || {
		bench_say "left out: no PF to have for itself (CANDOR_TEST_PFS); make bench-vf runs it in the test guest"
		return 0
	}
	bench_has_plugins || return 0
	[[ -x $sriov ]] || {
		bench_say "left out: no sriov-cni ($sriov)"
		return 0
	}
	[[ -e /run/netns/$LAB_ID-inside ]] || lab_netns_add "$LAB_ID-inside" || return
	bench_vf_policy "$BENCH_VF_PF" || return
	vf=$(sriov_vf_pci "$BENCH_VF_PF" 0)
	bench_vf_plan 5-attach-2-vf "a VF, VLAN" "$sriov" "$vf" &&
		bench_vf_plan 5-attach-3-vf-mac "a VF, VLAN, MAC" "$sriov" "$vf" 02:00:00:00:00:aa || return
	ip link set "$BENCH_VF" up # sriov-cni, should it be the last, leaves it down
}

# bench_vf_up makes a VF, before there is a lab: what the machine looks like with it is
# what has to be left.
bench_vf_up() {
	local pf
	read -r pf _ <<<"${CANDOR_TEST_PFS:-}"
	[[ -n $pf ]] || return 0
	BENCH_VF_PF=$pf
	sriov_pf_up "$(sriov_pf_netdev "$pf")" && sriov_numvfs "$pf" 1 || return
	BENCH_VF=$(sriov_vf_netdev "$pf" 0)
	sriov_pf_up "$BENCH_VF"
}

bench_vf_policy() {
	{
		cat "$LAB_CONFIG"
		cat <<-EOF_CONFIG

			[pools.vfs]
			kind    = "vf"
			pfs     = ["$1#0"]
			macs    = ["02:*"]
			vlans   = ["100"]
			subnets = ["198.18.9.0/24"]
			allow   = ["containerd:$LAB_NS"]
		EOF_CONFIG
	} | lab_write_config
}

# bench_vf_plan FILE WHAT SRIOV-CNI VF [MAC]: with a VF that is up, for igbvf takes the
# MAC that its PF has for it only when it goes down, and sriov-cni does not wait for that.
bench_vf_plan() {
	local file=$1 what=$2 sriov=$3 vf=$4 mac=${5:-} bundle=$LAB_DIR/bundle-$1
	bench_bundle "$bundle" "candor.dev/nics=$(jq -cn --arg mac "$mac" \
		'[{pool: "vfs", ips: ["198.18.9.5"], vlan: 100} + if $mac == "" then {} else {$mac} end]')" || return
	bench_attach_plan "$file" "$what" "sriov-cni + host-local" "$bundle" "$sriov" \
		"$(jq -n --arg vf "$vf" --arg mac "$mac" --arg dir "$LAB_DIR/host-local" '{
			cniVersion: "1.0.0", name: "bench", type: "sriov", deviceID: $vf, vlan: 100,
			ipam: {type: "host-local", dataDir: $dir, ranges: [[{subnet: "198.18.9.0/24", rangeStart: "198.18.9.5", rangeEnd: "198.18.9.5"}]]}
		} + if $mac == "" then {} else {$mac} end')" \
		ip link set "$BENCH_VF" up |
		"$BENCH_BIN/attach"
}

# bench_vf_down: no VFs, and the PF down, as they were.
bench_vf_down() {
	[[ -n ${BENCH_VF_PF:-} ]] || return 0
	sriov_numvfs "$BENCH_VF_PF" 0 && ip link set "$(sriov_pf_netdev "$BENCH_VF_PF")" down
	BENCH_VF_PF=''
}
