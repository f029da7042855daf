#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031,SC2034
# A virtio NIC that comes and goes while the machine runs, as a cloud attaches and
# detaches it, also while a container has it. It is on the wire of the igb PFs.

load ../fixtures/lab
load ../fixtures/sriov

HOTPLUG=/run/guest/hotplug
ID=cloud0
MAC=52:54:0e:e5:00:f7

setup_file() {
	[[ -z $(hotplug_missing) ]] || return 0
	sriov_pf_up "$(sriov_pf_netdev "$SRIOV_PF0")"
	lab_setup_file
}

teardown_file() {
	[[ -z $(hotplug_missing) ]] || return 0
	lab_teardown_file
	local status=$?
	ip link set "$(sriov_pf_netdev "$SRIOV_PF0")" down
	return "$status"
}

hotplug_missing() {
	[[ -x $HOTPLUG ]] || echo "needs a machine into which NICs can be plugged: it runs in the test guest (tests/guest)"
	sriov_missing
}

setup() {
	local why
	why=$(hotplug_missing)
	[[ -z $why ]] || skip "$(head -n 1 <<<"$why")"
	lab_setup
	SUBNET=$(lab_subnet)
	cloud_policy
}

# cloud_policy [SED EXPRESSION]...: the pool has virtio NICs only.
cloud_policy() {
	set_policy 's/^macs *=.*/drivers = ["virtio_net"]/' "s|^subnets *=.*|subnets = [\"$SUBNET.0/24\"]|" "$@"
}

teardown() {
	[[ -n ${LAB_ID:-} ]] || return 0
	[[ -z $(plugged) ]] || "$HOTPLUG" unplug "$ID" "$MAC"
	ip addr flush dev "$(sriov_pf_netdev "$SRIOV_PF0")"
	lab_teardown
}

# plugged prints the PCI address of what is in the slot.
plugged() {
	local dir
	for dir in /sys/bus/pci/devices/0000:03:*; do
		[[ ! -e $dir ]] || printf '%s\n' "${dir##*/}"
	done
}

# plug_in: the NIC is in the machine and on the lab's node, up, with an address,
# as an agent of the cloud's leaves it.
plug_in() {
	NIC=$("$HOTPLUG" plug "$ID" "$MAC") || return
	ip link set "$NIC" netns "$LAB_ID-node" &&
		lab_node ip addr add "$SUBNET.2/24" dev "$NIC" &&
		lab_node ip link set "$NIC" up
}

# reached_from_pf ADDRESS: the PF is on the same wire.
reached_from_pf() {
	ip addr replace "$SUBNET.1/24" dev "$(sriov_pf_netdev "$SRIOV_PF0")" && ping -c 1 -W 3 "$1"
}

on_node_is() { lab_node ip -j -d link show | jq -r --arg mac "$MAC" '.[] | select(.address == $mac) | .ifname'; }
in_container() { [[ -n $(in_net "$1" ip -j link show | jq -r --arg mac "$MAC" '.[] | select(.address == $mac) | .ifname') ]]; }
not_in_container() { ! in_container "$1"; }

cloud_nic() { printf 'candor.dev/nic=pool=wire,mac=%s,ip=%s.5/24' "$MAC" "$SUBNET"; }

@test "plugged in while the machine runs: a virtio NIC, which is pulled out again" {
	NIC=$("$HOTPLUG" plug "$ID" "$MAC")
	equal "MAC" "$MAC" "$(<"/sys/class/net/$NIC/address")"
	equal "driver" virtio_net "$(basename "$(readlink "/sys/class/net/$NIC/device/driver")")"
	equal "slot" 0000:03:00.0 "$(plugged)"
	ip link set "$NIC" up
	ip addr add "$SUBNET.2/24" dev "$NIC"
	"$HOTPLUG" unplug "$ID" "$MAC"
	[[ ! -e /sys/class/net/$NIC ]]
	equal "slot" "" "$(plugged)"
}

@test "a container gets it by its MAC and gives it back" {
	plug_in
	local before
	before=$(lab_nic_state "$NIC")
	start c1 --annotation "$(cloud_nic)"
	in_container c1
	reached_from_pf "$SUBNET.5"
	lab_rm c1
	equal "NIC" "$before" "$(lab_nic_state "$NIC")"
	no_records
}

# As a cloud's agent does: the container first, its NIC some seconds later.
@test "a container waits for a NIC that is plugged in meanwhile" {
	cloud_policy 's/^kind .*/&\nwait = "60s"/'
	background start c1 --annotation "$(cloud_nic)"
	local starting=$!
	sleep 2
	[[ -d /proc/$starting ]] || fail "it did not wait"
	NIC=$("$HOTPLUG" plug "$ID" "$MAC")
	ip link set "$NIC" netns "$LAB_ID-node" # and at once it is gone from there
	wait "$starting" || fail "the container did not start"
	in_container c1
	reached_from_pf "$SUBNET.5"
	lab_rm c1
	equal "NIC" "$NIC" "$(on_node_is)"
	no_records
}

@test "pulled out while a container has it: the container lives on, its record closes, the next one gets it" {
	plug_in
	start c1 --memory-limit 134217728 --annotation "$(cloud_nic)" --annotation candor.dev/egress-limit=50M
	"$HOTPLUG" unplug "$ID" "$MAC"
	lab_wait 3 not_in_container c1
	has "meminfo" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	has "gc" "$(candor gc 2>&1)" "nothing to give back"
	equal "records" 1 "$(lab_records | wc -l)"
	has "list" "$(candor list)" c1 "$(lab_pid c1)"
	lab_rm c1
	no_records || fail "$(candor list)"
	has "gc" "$(candor gc 2>&1)" "nothing to give back"
	journal_says "nic is lost"
	# Another device in the same slot.
	plug_in
	start c2 --annotation "$(cloud_nic)"
	in_container c2
	reached_from_pf "$SUBNET.5"
	lab_rm c2
	equal "NIC" "$NIC" "$(on_node_is)"
	no_records
}

# bats test_tags=guest-soak
@test "pulled out, and the container is killed: candord closes its record" {
	local pid shim containerd
	plug_in
	start c1 --annotation "$(cloud_nic)"
	pid=$(lab_pid c1) shim=$(shim_of c1) containerd=$(running containerd)
	"$HOTPLUG" unplug "$ID" "$MAC"
	kill -KILL "$containerd" "$shim" "$pid"
	lab_wait 6 no_records || fail "the record stays: $(candor list)"
	equal "pins" "" "$(candor_mounts | grep -v '^view')"
}

# Two virtio NICs in one slot have the same place; only their addresses tell.
# bats test_tags=guest-soak
@test "another NIC in the slot of one that was pulled out is not taken for it" {
	plug_in
	start c1 --annotation "$(cloud_nic)"
	"$HOTPLUG" unplug "$ID" "$MAC"
	local other=52:54:0e:e5:00:f8 before
	NIC=$("$HOTPLUG" plug "$ID" "$other")
	ip link set "$NIC" netns "$LAB_ID-node"
	before=$(lab_nic_state "$NIC")
	lab_rm c1
	equal "the other NIC" "$before" "$(lab_nic_state "$NIC")"
	no_records
	journal_says "nic is lost"
	"$HOTPLUG" unplug "$ID" "$other"
}
