# shellcheck shell=bash disable=SC2153  # what the lab and the demo set
# What goes through a NIC that candor attached, beside the same NIC used on the host,
# bridge + NAT and a VXLAN overlay: packets per second, bulk, and their CPU time. With
# one container, and with four on one NIC. Bridge and overlay are the demo's, on the
# node's second NIC.
#
# Four containers have a macvlan of the NIC each, which candor attaches as it would any
# NIC. "The same NIC on the host" are then the four macvlans there; the NIC itself,
# with four senders, is beside them, so that the price of macvlans can be seen.
#
# Only the sender's and the receiver's network namespaces matter here, not what else a
# container is: so one program has a socket in each of them (bench/packets).

# shellcheck source=demo/network.bash
source demo/network.bash

bench_rate() {
	local samples=$BENCH_OUT-rate.jsonl round count path
	BENCH_RATE_MACS=()
	for count in 1 2 3 4; do BENCH_RATE_MACS+=("$(lab_mac)"); done
	bench_rate_policy && lab_node sysctl -qw net.ipv4.conf.all.arp_ignore=1 || return
	for ((round = 0; round <= BENCH_ROUNDS; round++)); do
		for count in 1 4; do
			for path in $(bench_rate_order "$count"); do
				# The first round warms up.
				bench_rate_path "$path" "$count" >>"$( ((round)) && echo "$samples" || echo /dev/null)" || {
					bench_say "rate: $path with $count: FAILED"
					return 1
				}
			done
		done
	done
	"$BENCH_BIN/report" paths -o "$(bench_out 6-rate)" <"$samples"
}

# bench_rate_order COUNT prints the ways of one round, drawn anew each time. Candor's
# and the host's, between which the least difference is looked for, are side by side.
bench_rate_order() {
	local same=(candor host) others=(nat vxlan)
	(($1 == 1)) || same=(candor macvlan) others+=(host)
	if ((RANDOM & 1)); then
		shuf -e "${same[@]}" && shuf -e "${others[@]}"
	else
		shuf -e "${others[@]}" && shuf -e "${same[@]}"
	fi
}

# bench_rate_policy: a pool of the macvlans to be.
bench_rate_policy() {
	{
		cat "$LAB_CONFIG"
		cat <<-EOF_CONFIG

			[pools.macvlans]
			kind    = "hostnic"
			macs    = [$(printf '"%s", ' "${BENCH_RATE_MACS[@]}")]
			subnets = ["$LAB_SUBNET.0/24"]
			allow   = ["containerd:$LAB_NS"]
		EOF_CONFIG
	} | lab_write_config
}

# bench_rate_path PATH COUNT makes the way, measures, and takes it away again.
bench_rate_path() {
	local status=0
	BENCH_RATE_FROM=() BENCH_RATE_DEVICES=() BENCH_RATE_TO=$LAB_PEER_IP
	"bench_rate_${1}_up" "$2" && "$BENCH_BIN/packets" -path "$1" -from "$(bench_commas "${BENCH_RATE_FROM[@]}")" \
		-devices "$(bench_commas "${BENCH_RATE_DEVICES[@]}")" -to "$LAB_PEER" -address "$BENCH_RATE_TO" 1 64 256 bulk || status=1
	"bench_rate_${1}_down" "$2"
	return "$status"
}

bench_commas() {
	local IFS=,
	printf '%s\n' "$*"
}

bench_rate_host_up() {
	local i
	for ((i = 0; i < $1; i++)); do BENCH_RATE_FROM+=("$LAB_NODE"); done
}

bench_rate_host_down() { :; }

bench_rate_candor_up() {
	local i nic ids=()
	if (($1 == 1)); then
		ids=(bench-rate-0)
		lab_run candor bench-rate-0 -d --annotation "candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.20/24" -- /bin/sleep 600 || return
	else
		bench_macvlans_add "$1" || return
		for ((i = 0; i < $1; i++)); do
			nic=pool=macvlans,mac=${BENCH_RATE_MACS[i]},ip=$LAB_SUBNET.$((20 + i))/24
			ids+=("bench-rate-$i")
			lab_run candor "bench-rate-$i" -d --annotation "candor.dev/nic=$nic" -- /bin/sleep 600 || return
		done
	fi
	for i in "${ids[@]}"; do BENCH_RATE_FROM+=("/proc/$(lab_pid "$i")/ns/net"); done
}

bench_rate_candor_down() {
	local i
	for ((i = 0; i < $1; i++)); do lab_rm "bench-rate-$i"; done
	(($1 == 1)) || bench_macvlans_del "$1"
}

bench_rate_macvlan_up() {
	local i
	bench_macvlans_add "$1" || return
	for ((i = 0; i < $1; i++)); do
		ip -n "$LAB_ID-node" addr add "$LAB_SUBNET.$((20 + i))/24" dev "mv$i" || return
		BENCH_RATE_FROM+=("$LAB_NODE") BENCH_RATE_DEVICES+=("mv$i")
	done
}

bench_rate_macvlan_down() { bench_macvlans_del "$1"; }

bench_macvlans_add() {
	local i
	for ((i = 0; i < $1; i++)); do
		ip -n "$LAB_ID-node" link add "mv$i" link "$LAB_NIC" address "${BENCH_RATE_MACS[i]}" type macvlan mode bridge &&
			ip -n "$LAB_ID-node" link set "mv$i" up || return
	done
}

bench_macvlans_del() {
	local i
	for ((i = 0; i < $1; i++)); do ip -n "$LAB_ID-node" link del "mv$i"; done
}

# NAT is there only while it is measured: its tracking of connections would cost
# whatever else the host sends.
bench_rate_nat_up() {
	BENCH_RATE_TO=$LAB_PEER_IP2
	make_nat && bench_more_plugs "$1" nat br-nat
}

bench_rate_nat_down() { bench_no_more_plugs "$1" nat br-nat && remove_nat; }

bench_rate_vxlan_up() {
	make_overlay && bench_more_plugs "$1" vxlan br-vx && BENCH_RATE_TO=$OVERLAY.1
}
bench_rate_vxlan_down() { bench_no_more_plugs "$1" vxlan br-vx && remove_overlay; }

# bench_more_plugs COUNT NAME BRIDGE: the demo's bridge has one container. The others
# are on it in the same way, with the addresses after it, up to COUNT.
bench_more_plugs() {
	local count=$1 name=$2 bridge=$3 first mtu subnet i
	read -r first mtu < <(ip -n "$LAB_ID-$name" -j -4 addr show dev eth0 | jq -r '.[0] | "\(.addr_info[0].local) \(.mtu)"')
	subnet=${first%.*}
	BENCH_RATE_FROM=("/run/netns/$LAB_ID-$name")
	for ((i = 1; i < count; i++)); do
		lab_netns_add "$LAB_ID-$name$i" &&
			plug "$LAB_ID-$name$i" "$bridge" "$subnet.$((10 + i))/24" "$mtu" "$bridge$i" || return
		[[ $name != nat ]] || ip -n "$LAB_ID-$name$i" route add default via "$subnet.1" || return
		BENCH_RATE_FROM+=("/run/netns/$LAB_ID-$name$i")
	done
}

# bench_no_more_plugs COUNT NAME BRIDGE: the node's ends first: with a namespace they
# go when the kernel gets round to it, and the next round needs their names.
bench_no_more_plugs() {
	local i
	ip -n "$LAB_ID-node" link del "${3}p"
	for ((i = 1; i < $1; i++)); do ip -n "$LAB_ID-node" link del "$3$i" && ip netns del "$LAB_ID-$2$i"; done
}
