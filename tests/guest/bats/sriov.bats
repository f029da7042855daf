#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2153
# The SR-IOV fixture, and real VFs as NICs of candor's containers: the lab's wires
# are VFs, so that LAB_NIC is a PCI function and the peer sits behind the other PF.

load ../fixtures/lab
load ../fixtures/sriov

setup_file() {
	[[ -z $(sriov_missing) ]] || return 0
	sriov_state >"$BATS_FILE_TMPDIR/before"
	# Two wires, and a VF of each PF for tests that ruin it.
	sriov_up 3 && LAB_ENDS=$(sriov_wires 2) && lab_setup_file
}

teardown_file() {
	[[ -s $BATS_FILE_TMPDIR/before ]] || return 0
	lab_teardown_file
	local status=$?
	sriov_down || status=1
	sriov_state | diff "$BATS_FILE_TMPDIR/before" - || status=1
	return "$status"
}

# sriov_state is what the machine's NICs look like with and without VFs.
sriov_state() {
	cat /sys/bus/pci/devices/{"$SRIOV_PF0","$SRIOV_PF1"}/sriov_numvfs
	lspci -D -d ::0200
	ip -br link | sort
}

setup() {
	local why
	why=$(sriov_missing)
	[[ -z $why ]] || skip "$(head -n 1 <<<"$why")"
	lab_setup
	VF_SETTINGS=$(sriov_vf_settings "$SRIOV_PF0")
}

# pci_in ID prints the PCI address of a container's net0.
pci_in() { in_net "$1" ip -j -d link show dev net0 | jq -r '.[0] | select(.parentbus == "pci") | .parentdev'; }

# vf_is_back: as it was, with its PF as well.
vf_is_back() {
	want_all_back "$1" && equal "PCI address" "$(sriov_vf_pci "$SRIOV_PF0" 0)" \
		"$(lab_node ip -j -d link show dev "$LAB_NIC" | jq -r '.[0].parentdev')" &&
		equal "what the PF knows of its VFs" "$VF_SETTINGS" "$(sriov_vf_settings "$SRIOV_PF0")"
}

# spare0 prints the netdev of the first PF's VF that belongs to no wire.
spare0() { sriov_vf_netdev "$SRIOV_PF0" 2; }
has_spare() { [[ -n $(spare0) ]]; }

# rebind_spare NAME: the kernel gives the new netdev the first name that is free.
rebind_spare() {
	sriov_rebind "$(sriov_vf_pci "$SRIOV_PF0" 2)" && lab_wait 5 has_spare && ip link set "$(spare0)" name "$1"
}

@test "a VF is a PCI function of its own, with the driver igbvf, below its PF" {
	equal "VFs" 6 "$(sriov_list | wc -l)"
	local pf pci
	while read -r pf _ pci _; do
		equal "driver of $pci" igbvf "$(sriov_driver "$pci")"
		equal "PF of $pci" "$pf" "$(sriov_netdev "$(basename "$(readlink "/sys/bus/pci/devices/$pci/physfn")")")"
		equal "class of $pci" 0x020000 "$(<"/sys/bus/pci/devices/$pci/class")"
	done < <(sriov_list)
	equal "MAC that the PF knows" "$LAB_MAC" "$(jq -r '.[0].address' <<<"$VF_SETTINGS")"
}

# bats test_tags=guest-soak
@test "VF to VF across the PFs: frames, and no others than the wire's own" {
	lab_node ping -c 3 -i 0.2 -W 3 "$LAB_PEER_IP"
	lab_node ping -c 1 -W 3 "$LAB_PEER_IP2"
	equal "the peer's neighbour" "$LAB_MAC" "$(lab_peer ip -j neigh show "$LAB_NODE_IP" dev wire0 | jq -r '.[0].lladdr')"
	background nsenter --net="$LAB_PEER" -- iperf3 --server --one-off --bind "$LAB_PEER_IP" >/dev/null
	lab_wait 3 listening
	local bits
	bits=$(lab_node iperf3 --client "$LAB_PEER_IP" --time 2 --json | jq '.end.sum_received.bits_per_second | floor')
	echo "$bits bit/s"
	((bits > 1000000))
	# The node knows both addresses; on each wire its NIC there answers, alone.
	equal "who answers on wire0" "$LAB_MAC" "$(who_has wire0 "$LAB_NODE_IP")"
	equal "who answers on wire1" "$LAB_MAC2" "$(who_has wire1 "$LAB_NODE_IP")"
}
who_has() { lab_peer busybox arping -c 2 -w 3 -I "$1" "$2" | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}' | sort -u; }
listening() { lab_peer ss -Hltn sport = :5201 | grep -q .; }

@test "a container gets the VF by its MAC, and speaks with the peer" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24,gateway=$LAB_PEER_IP")"
	equal "PCI address in the container" "$(sriov_vf_pci "$SRIOV_PF0" 0)" "$(pci_in c1)"
	equal "MAC" "$LAB_MAC" "$(in_net c1 ip -j link show dev net0 | jq -r '.[0].address')"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	lab_peer ping -c 1 -W 3 "$LAB_SUBNET.5"
	equal "MAC that the peer sees" "$LAB_MAC" "$(lab_peer ip -j neigh show "$LAB_SUBNET.5" | jq -r '.[0].lladdr')"
	lab_rm c1
	vf_is_back 2
	lab_node ping -c 1 -W 3 "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "a pool that names VFs by their PCI addresses" {
	set_policy "s/^macs *=.*/pci = [\"${SRIOV_PF0%:00.0}:10.[0-9]\"]/"
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	equal "PCI address in the container" "$(sriov_vf_pci "$SRIOV_PF0" 0)" "$(pci_in c1)"
	# A VF of the other PF is none of the pool's.
	local other
	other=$(lab_peer ip -j link show dev wire0 | jq -r '.[0].address')
	run lab_run candor c2 --rm --annotation "candor.dev/nic=pool=wire,mac=$other,ip=$LAB_SUBNET.6/24" -- /bin/true
	((status != 0))
	lab_rm c1
	vf_is_back 2
}

# bats test_tags=guest-soak
@test "two VFs in one container, MTU and MAC changed inside: both as before" {
	start c1 --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"],\"mtu\":1300},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"]}]"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP2"
	in_net c1 ip link set net0 down
	in_net c1 ip link set net0 address "$(lab_mac)" mtu 1290 name whatever
	in_net c1 ip link set whatever up
	lab_rm c1
	vf_is_back 2
	lab_node ping -c 1 -W 3 "$LAB_PEER_IP"
}

vf_state() { lab_node ip -j link show dev "$1" | jq -c '.[0] | {ifname, address, mtu, flags, altnames}'; }

# Until then igbvf knows no permanent address; afterwards it takes the current one.
# bats test_tags=guest-soak
@test "a VF that was never up, whose MAC the container changes: as before" {
	local vf mac before
	vf=$(spare0) mac=$(<"/sys/class/net/$(spare0)/address")
	ip link set "$vf" netns "$LAB_ID-node"
	before=$(vf_state "$vf")
	equal "permanent address of a VF that was never up" null "$(lab_node ip -j link show dev "$vf" | jq '.[0].permaddr')"
	set_policy "s/^macs *=.*/pci = [\"$(sriov_vf_pci "$SRIOV_PF0" 2)\"]/"
	start c1 --annotation "candor.dev/nic=pool=wire,mac=$mac,ip=$LAB_SUBNET.5/24"
	equal "MAC" "$mac" "$(in_net c1 ip -j link show dev net0 | jq -r '.[0].address')"
	in_net c1 ip link set net0 down
	in_net c1 ip link set net0 address "$(lab_mac)"
	in_net c1 ip link set net0 up
	lab_rm c1
	equal "VF" "$before" "$(vf_state "$vf")"
	# Not the container's, by which somebody else's NIC may be asked for.
	has "permanent address" "null $mac" "$(lab_node ip -j link show dev "$vf" | jq -r '.[0].permaddr')"
	no_records
	lab_node ip link set "$vf" netns "$$"
}

# bats test_tags=guest-soak
@test "kill -9 of the shim: the VF is back" {
	local pid
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	pid=$(lab_pid c1)
	kill -KILL "$(shim_of c1)"
	lab_wait 10 lab_dead "$pid" || fail "the container lives on"
	vf_is_back 6
}

# bats test_tags=guest-soak
@test "kill -9 of containerd, the shim and the container: candord gives the VF back" {
	local pid shim containerd
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	pid=$(lab_pid c1) shim=$(shim_of c1) containerd=$(running containerd)
	kill -KILL "$containerd" "$shim" "$pid"
	vf_is_back 6
	lab_node ping -c 1 -W 3 "$LAB_PEER_IP"
}

@test "a MAC that the PF gives is the VF's once it is reset, and the VF cannot change it" {
	local vf mac pf admin=02:00:5e:10:00:01
	vf=$(spare0) mac=$(<"/sys/class/net/$(spare0)/address") pf=$(sriov_pf_netdev "$SRIOV_PF0")
	ip link set "$pf" vf 2 mac "$admin"
	equal "MAC in the PF" "$admin" "$(sriov_vf_settings "$SRIOV_PF0" | jq -r '.[2].address')"
	[[ $(<"/sys/class/net/$vf/address") != "$admin" ]] || fail "the VF has it already"
	rebind_spare "$vf"
	equal "MAC in the VF" "$admin" "$(<"/sys/class/net/$vf/address")"
	run ip link set "$vf" address "$(lab_mac)"
	((status != 0)) || fail "the VF changed it"
	ip link set "$pf" vf 2 mac 00:00:00:00:00:00
	rebind_spare "$vf"
	ip link set "$vf" address "$mac"
}

@test "what the kernel does with a VF whose namespace dies: down, under a name of its own" {
	local vf mac
	vf=$(spare0) mac=$(<"/sys/class/net/$(spare0)/address")
	ip netns add "$LAB_ID-dies"
	ip link set "$vf" netns "$LAB_ID-dies"
	# A container's name for it, which the machine has already.
	ip -n "$LAB_ID-dies" link set "$vf" name "$(sriov_pf_netdev "$SRIOV_PF0")" up
	ip netns del "$LAB_ID-dies"
	lab_wait 5 has_spare
	[[ $(spare0) == dev* ]] || fail "it is called $(spare0)"
	equal "MAC" "$mac" "$(<"/sys/class/net/$(spare0)/address")"
	equal "up" null "$(ip -j link show dev "$(spare0)" | jq '.[0].flags | index("UP")')"
	ip link set "$(spare0)" name "$vf"
}

@test "the number of VFs: only by way of 0, and within what the PF has" {
	run bash -c "echo 2 >/sys/bus/pci/devices/$SRIOV_PF0/sriov_numvfs"
	((status != 0))
	has "error" "$output" "busy"
	equal "VFs" 6 "$(sriov_list | wc -l)"
	equal "VFs that the PF can have" 7 "$(<"/sys/bus/pci/devices/$SRIOV_PF0/sriov_totalvfs")"
}

# The example of docs/nics.md, with this machine's PF and the lab's addresses: the
# peer is in VLAN 100, behind the other PF.
@test "a vf pool: a free VF, with the VLAN, MAC and rate that are asked for" {
	local pf=fast0 mac=02:00:00:00:00:05 pf_before spare before
	pf_before=$(sriov_pf_netdev "$SRIOV_PF0") spare=$(spare0)
	# As on a node: its PFs are in its own network namespace.
	ip link set "$pf_before" netns "$LAB_ID-node" name "$pf"
	lab_node ip link set "$pf" up
	ip link set "$spare" netns "$LAB_ID-node" name fast0v2
	before=$(pf_says "$pf")
	set_policy "\$ a [pools.fast]" "\$ a kind = \"vf\"" "\$ a pfs = [\"$pf#2-6\"]" "\$ a macs = [\"02:*\"]" \
		"\$ a vlans = [\"100-199\"]" "\$ a subnets = [\"$LAB_SUBNET.0/24\"]" "\$ a allow = [\"containerd:$LAB_NS\"]"
	start c1 --annotation "candor.dev/nics=[{\"pool\":\"fast\",\"mac\":\"$mac\",\"ips\":[\"$LAB_SUBNET.5\"],\"vlan\":100,\"max-tx-rate\":\"1G\"}]"
	equal "PCI address in the container" "$(sriov_vf_pci "$SRIOV_PF0" 2)" "$(pci_in c1)"
	equal "what the PF says" "[\"$mac\",100,1000]" "$(pf_says "$pf" | jq -c '[.address, .vlan_list[0].vlan, .rate.max_tx]')"
	lab_wait 10 lab_exec c1 /bin/ping -c 1 -W 1 "$LAB_PEER_IP"
	equal "MAC that the peer sees" "$mac" "$(lab_peer ip -j neigh show "$LAB_SUBNET.5" | jq -r '.[0].lladdr')"
	# The pool has one VF on the node.
	run lab_run candor c2 --rm --annotation candor.dev/nic=pool=fast -- /bin/true
	((status != 0))
	has "error" "$output" "pool fast is exhausted: of its 1 VFs 1 held by container c1"
	lab_rm c1
	no_records
	equal "what the PF says" "$before" "$(pf_says "$pf")"
	lab_node ip link set fast0v2 netns "$$" name "$spare"
	lab_node ip link set "$pf" netns "$$" name "$pf_before"
	sriov_pf_up "$pf_before"
}
# pf_says NETDEV: what it says of its VF 2. Of the others it says for a moment that they
# have no MAC, when it was taken up and they were reset.
pf_says() { lab_node ip -j link show "$1" | jq -cS '.[0].vfinfo_list[2]'; }
