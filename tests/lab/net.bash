# shellcheck shell=bash disable=SC2034  # the LAB_* variables are for whoever sources this
# The lab's network: the node and the peer as namespaces, the wires between
# them, and the node's uplink, so that "carries the default route" can be tested.
#
# LAB_ENDS="eth2 eth4 eth3 eth5", set by the caller: NICs of its namespace instead of
# veth, for each wire the node's end and the peer's. They are down and have no
# addresses; lab_down brings them home so.

lab_node() { nsenter --net="$LAB_NODE" -- "$@"; }
lab_peer() { nsenter --net="$LAB_PEER" -- "$@"; }

# lab_mac [NIC] prints the NIC's address; without one a random, locally
# administered unicast address.
lab_mac() {
	if [[ -n ${1:-} ]]; then
		cat "/sys/class/net/$1/address"
		return
	fi
	printf '02:%02x:%02x:%02x:%02x:%02x\n' $((RANDOM & 255)) $((RANDOM & 255)) $((RANDOM & 255)) $((RANDOM & 255)) $((RANDOM & 255))
}

# lab_subnet prints the first three octets of a random /24. Never one that the
# machine itself has: `make demo NIC=` runs beside real networks.
lab_subnet() {
	local s
	while :; do
		if ((RANDOM & 1)); then s=10.$(lab_random 1 254).$(lab_random 0 255); else s=198.$(lab_random 18 19).$(lab_random 0 255); fi
		ip -4 -o addr show | grep -F " $s." >/dev/null || break
	done
	printf '%s\n' "$s"
}

lab_netns_add() {
	ip netns add "$1" && ip -n "$1" link set lo up
}

# lab_wire_up NIC MAC ALTNAME MTU SUBNET PEER_NIC [END PEER_END]: one wire, a veth
# pair or two NICs of LAB_ENDS; its node end is a host NIC as an administrator
# leaves it: up, with addresses of both families.
lab_wire_up() {
	local nic=$1 mac=$2 altname=$3 mtu=$4 subnet=$5 peer_nic=$6 end=${7:-} peer_end=${8:-}
	if [[ -n $end ]]; then
		lab_borrow "$end" node "$nic" "$mtu" && lab_borrow "$peer_end" peer "$peer_nic" "$mtu"
	else
		ip -n "$LAB_ID-node" link add "$nic" address "$mac" mtu "$mtu" type veth \
			peer name "$peer_nic" address "$(lab_mac)" mtu "$mtu" netns "$LAB_ID-peer"
	fi &&
		ip -n "$LAB_ID-node" link property add dev "$nic" altname "$altname" &&
		ip -n "$LAB_ID-node" addr add "$subnet.2/24" brd + dev "$nic" &&
		ip -n "$LAB_ID-node" addr add "$(lab_subnet6 "$subnet")2/64" dev "$nic" nodad &&
		ip -n "$LAB_ID-peer" addr add "$subnet.1/24" brd + dev "$peer_nic" &&
		ip -n "$LAB_ID-peer" addr add "$(lab_subnet6 "$subnet")1/64" dev "$peer_nic" nodad &&
		ip -n "$LAB_ID-peer" link set "$peer_nic" up &&
		ip -n "$LAB_ID-node" link set "$nic" up
}

# lab_borrow NIC node|peer NAME MTU moves a NIC of the caller's namespace.
lab_borrow() {
	local mtu
	mtu=$(cat "/sys/class/net/$1/mtu") && ip link set "$1" netns "$LAB_ID-$2" name "$3" || return
	LAB_BORROWED+=("$2 $3 $1 $mtu")
	ip -n "$LAB_ID-$2" link set "$3" mtu "$4"
}

# lab_give_back moves the borrowed NICs home: down, without addresses, under their
# own names and with the MTU that they had.
lab_give_back() {
	local borrowed place name home mtu altname
	for borrowed in "${LAB_BORROWED[@]}"; do
		read -r place name home mtu <<<"$borrowed"
		# Altnames travel along, and addresses do not.
		for altname in $(ip -n "$LAB_ID-$place" -j link show dev "$name" | jq -r '.[0].altnames[]?'); do
			ip -n "$LAB_ID-$place" link property del dev "$name" altname "$altname"
		done
		{
			ip -n "$LAB_ID-$place" link set "$name" down mtu "$mtu" &&
				ip -n "$LAB_ID-$place" link set "$name" netns "$$" name "$home"
		} || lab_error "the borrowed NIC $home ($name) is not in $LAB_ID-$place any more"
	done
	LAB_BORROWED=()
}

# lab_subnet6 10.1.2 -> fd00:10:1:2:: (the octets as they are, read as hex).
lab_subnet6() { printf 'fd00:%s::\n' "${1//./:}"; }

lab_net_up() {
	if [[ -n ${LAB_OWN_NIC:-} ]]; then
		LAB_NODE=/proc/$$/ns/net LAB_PEER='' LAB_NIC=$LAB_OWN_NIC LAB_ALTNAME='' LAB_SUBNET=''
		LAB_MAC=$(ip -j link show dev "$LAB_NIC" | jq -r '.[0].address') || return
		LAB_MTU=$(ip -j link show dev "$LAB_NIC" | jq -r '.[0].mtu')
		return
	fi
	local ends
	read -ra ends <<<"${LAB_ENDS:-}"
	LAB_BORROWED=()
	LAB_NODE=/run/netns/$LAB_ID-node LAB_PEER=/run/netns/$LAB_ID-peer
	LAB_NIC=ens$(lab_random 10 99) LAB_MAC=$(lab_mac "${ends[0]-}") LAB_ALTNAME=enp$(lab_random 1 9)s$(lab_random 1 31)f0
	LAB_MTU=$(lab_random 1400 1500)
	LAB_SUBNET=$(lab_subnet)
	LAB_NODE_IP=$LAB_SUBNET.2 LAB_PEER_IP=$LAB_SUBNET.1
	lab_netns_add "$LAB_ID-node" && lab_netns_add "$LAB_ID-peer" &&
		lab_wire_up "$LAB_NIC" "$LAB_MAC" "$LAB_ALTNAME" "$LAB_MTU" "$LAB_SUBNET" wire0 "${ends[@]:0:2}" || return

	if [[ -n ${LAB_SECOND:-} ]]; then
		LAB_NIC2=eno$(lab_random 10 99) LAB_MAC2=$(lab_mac "${ends[2]-}") LAB_ALTNAME2=enp$(lab_random 10 19)s0
		while LAB_SUBNET2=$(lab_subnet) && [[ $LAB_SUBNET2 == "$LAB_SUBNET" ]]; do :; done
		LAB_NODE_IP2=$LAB_SUBNET2.2 LAB_PEER_IP2=$LAB_SUBNET2.1
		lab_wire_up "$LAB_NIC2" "$LAB_MAC2" "$LAB_ALTNAME2" "$LAB_MTU" "$LAB_SUBNET2" wire1 "${ends[@]:2:2}" || return
	fi

	LAB_MORE_NICS=() LAB_MORE_MACS=() LAB_MORE_SUBNETS=()
	local i
	for ((i = 0; i < ${LAB_MORE:-0}; i++)); do lab_more_up "$i" || return; done

	# The uplink: the node's own address and default route, never to be given away.
	LAB_UPLINK=eth0
	ip -n "$LAB_ID-node" link add "$LAB_UPLINK" type veth peer name up0 netns "$LAB_ID-peer" &&
		ip -n "$LAB_ID-node" addr add 192.0.2.2/30 dev "$LAB_UPLINK" &&
		ip -n "$LAB_ID-peer" addr add 192.0.2.1/30 dev up0 &&
		ip -n "$LAB_ID-peer" link set up0 up &&
		ip -n "$LAB_ID-node" link set "$LAB_UPLINK" up &&
		ip -n "$LAB_ID-node" route add default via 192.0.2.1 dev "$LAB_UPLINK"
}

# lab_more_up NUMBER: one more host NIC, with a name that the first two cannot have.
lab_more_up() {
	local nic=ens$((100 + $1)) mac subnet
	mac=$(lab_mac)
	while subnet=$(lab_subnet) && [[ " $LAB_SUBNET ${LAB_SUBNET2:-} ${LAB_MORE_SUBNETS[*]} " == *" $subnet "* ]]; do :; done
	lab_wire_up "$nic" "$mac" "enp$((20 + $1))s0" "$LAB_MTU" "$subnet" "wire$((2 + $1))" || return
	LAB_MORE_NICS+=("$nic") LAB_MORE_MACS+=("$mac") LAB_MORE_SUBNETS+=("$subnet")
}

# lab_nic_state [NIC] prints, as JSON with sorted keys, what has to be the same
# after a container gave the NIC back. From the kernel, not from candor.
lab_nic_state() {
	local nic=${1:-$LAB_NIC}
	# The kernel's own link-local address and its routes come back by
	# themselves, a moment after the link; they are no setting of anybody's.
	{
		lab_node ip -j -d addr show dev "$nic"
		lab_node ip -j route show table all dev "$nic"
		lab_node ip -j -6 route show table all dev "$nic"
		lab_node tc -j qdisc show dev "$nic"
	} | jq -sS '{
			name: .[0][0].ifname, mac: .[0][0].address, altnames: ((.[0][0].altnames // []) | sort),
			alias: (.[0][0].ifalias // ""), mtu: .[0][0].mtu, txqlen: .[0][0].txqlen,
			gso_max_size: .[0][0].gso_max_size, up: (.[0][0].flags | index("UP") != null),
			addresses: [.[0][0].addr_info[] | select(.scope != "link") | "\(.local)/\(.prefixlen)\(if .noprefixroute then " noprefixroute" else "" end)"] | sort,
			routes: [(.[1] + .[2])[] | select((.dst | test("^(fe80:|ff00:|multicast)") | not) and (.type // "unicast") == "unicast")
				| "\(.dst)\(if .gateway then " via " + .gateway else "" end)\(if .metric then " metric \(.metric)" else "" end)"] | sort | unique,
			qdiscs: [.[3][] | .kind] | sort
		}'
}

lab_net_down() {
	[[ -z ${LAB_OWN_NIC:-} ]] || return 0
	lab_give_back
	local name
	for name in $(ip netns list | awk -v id="$LAB_ID-" 'index($1, id) == 1 { print $1 }'); do
		ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null
		ip netns del "$name"
	done
}
