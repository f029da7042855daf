#!/usr/bin/env bats
# Single quotes are for jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# The netdevsim fixture: a PF that takes the VF settings which igb refuses, and
# tells them again.

load ../fixtures/netdevsim

DEVICE=7

setup_file() {
	[[ -z $(netdevsim_missing) ]] || return 0
	ip -br link >"$BATS_FILE_TMPDIR/before"
	netdevsim_up "$DEVICE" 3
}

teardown_file() {
	[[ -s $BATS_FILE_TMPDIR/before ]] || return 0
	netdevsim_down "$DEVICE"
	ip -br link | diff "$BATS_FILE_TMPDIR/before" -
}

setup() {
	local why
	why=$(netdevsim_missing)
	[[ -z $why ]] || skip "$why"
	PF=$(netdevsim_netdev "$DEVICE")
}

# vf INDEX FILTER prints what the PF says of a VF.
vf() { ip -j link show dev "$PF" | jq -c ".[0].vfinfo_list[] | select(.vf == $1) | $2"; }

# equal WHAT WANT GOT
equal() {
	[[ $2 == "$3" ]] || {
		printf '%s: want %s, got %s\n' "$1" "$2" "$3" >&2
		return 1
	}
}

@test "a PF with three VFs, on a bus of its own" {
	[[ -n $PF ]]
	equal "VFs" 3 "$(ip -j link show dev "$PF" | jq '.[0].vfinfo_list | length')"
	equal "place" '["netdevsim","netdevsim7"]' "$(ip -j -d link show dev "$PF" | jq -c '.[0] | [.parentbus, .parentdev]')"
	equal "kind" null "$(ip -j -d link show dev "$PF" | jq '.[0].linkinfo.info_kind')"
	[[ ! -e /sys/bus/netdevsim/devices/netdevsim7/virtfn0 ]]
}

@test "802.1ad, with a priority" {
	ip link set "$PF" vf 0 vlan 5 qos 3 proto 802.1ad
	equal "VLAN" '[{"vlan":5,"qos":3,"protocol":"802.1ad"}]' "$(vf 0 .vlan_list)"
	equal "VLAN of another VF" '[{}]' "$(vf 1 .vlan_list)"
	ip link set "$PF" vf 0 vlan 0
	equal "no VLAN" '[{}]' "$(vf 0 .vlan_list)"
}

@test "least and highest rate" {
	ip link set "$PF" vf 0 min_tx_rate 100 max_tx_rate 200
	equal "rates" '{"max_tx":200,"min_tx":100}' "$(vf 0 .rate)"
	ip link set "$PF" vf 0 min_tx_rate 0 max_tx_rate 0
	equal "no rates" '{"max_tx":0,"min_tx":0}' "$(vf 0 .rate)"
}

@test "link state" {
	local state
	for state in enable disable auto; do
		ip link set "$PF" vf 1 state "$state"
		equal "state" "\"$state\"" "$(vf 1 .link_state)"
	done
}

@test "trust and spoofchk" {
	ip link set "$PF" vf 2 trust on spoofchk on
	equal "on" '[true,true]' "$(vf 2 '[.trust, .spoofchk]')"
	equal "of another VF" '[false,false]' "$(vf 1 '[.trust, .spoofchk]')"
	ip link set "$PF" vf 2 trust off spoofchk off
	equal "off" '[false,false]' "$(vf 2 '[.trust, .spoofchk]')"
}

@test "a MAC for a VF" {
	ip link set "$PF" vf 1 mac 02:00:5e:10:00:01
	equal "MAC" '"02:00:5e:10:00:01"' "$(vf 1 .address)"
}

@test "a VF that is not there is refused" {
	run ip link set "$PF" vf 3 vlan 5
	((status != 0))
}

@test "the number of VFs, by way of 0" {
	run netdevsim_numvfs "$DEVICE" 2
	((status != 0))
	netdevsim_numvfs "$DEVICE" 0
	netdevsim_numvfs "$DEVICE" 2
	equal "VFs" 2 "$(ip -j link show dev "$PF" | jq '.[0].vfinfo_list | length')"
	netdevsim_numvfs "$DEVICE" 0
	netdevsim_numvfs "$DEVICE" 3
}
