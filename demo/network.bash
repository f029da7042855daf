# shellcheck shell=bash disable=SC2034,SC2153,SC2178  # namerefs; what run.sh draws
# Second table: the container's network. runc behind a bridge and NAT, runc on a
# VXLAN overlay, candor with the NIC; the other end is the same peer each time. The
# two of runc share the node's second NIC, on a wire of the same kind, so that all
# three can be measured in turns: what else the machine does hits them alike.

PORT=7000 # of the web server that says who asks

show_its_network() {
	local -A nat=() overlay=() candor=()
	# A page that says the client's address: in the container and at the peer.
	mkdir -p "$LAB_DIR/rootfs/www/cgi-bin"
	# shellcheck disable=SC2016  # the page expands it
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%%s" "$REMOTE_ADDR"\n' >"$LAB_DIR/rootfs/www/cgi-bin/who"
	chmod 0755 "$LAB_DIR/rootfs/www/cgi-bin/who"
	cp demo/ask.sh "$LAB_DIR/rootfs/ask.sh"
	lab_peer busybox httpd -f -p "0.0.0.0:$PORT" -h "$LAB_DIR/rootfs/www" >/dev/null 2>&1 &
	disown $!
	lab_peer iperf3 --server >"$LAB_DIR/log/iperf3" 2>&1 &
	IPERF_PID=$!
	disown "$IPERF_PID"

	make_nat && start_server runc net-nat --with-ns "network:/run/netns/$LAB_ID-nat"
	make_overlay && start_server runc net-overlay --with-ns "network:/run/netns/$LAB_ID-vxlan"
	start_server candor net-candor --annotation "$NIC_REQUEST"
	who_is_it nat net-nat "$LAB_PEER_IP2" "$LAB_NODE_IP2"
	who_is_it overlay net-overlay "$OVERLAY.1" "$OVERLAY.2"
	who_is_it candor net-candor "$LAB_PEER_IP" "$ADDRESS"
	# More rounds on a machine too busy for three to mean anything.
	for ROUNDS in 1 2 3 4 5 6 7; do
		measure nat net-nat "$LAB_PEER_IP2"
		measure overlay net-overlay "$OVERLAY.1"
		measure candor net-candor "$LAB_PEER_IP"
		((ROUNDS < 3)) && continue
		at_least_both gbits && at_most_both cpu && at_least_both pps && break
	done
	lab_rm net-nat net-overlay net-candor
	remove_nat
	remove_overlay
	network_table
}

network_table() {
	table "Its network (medians of $ROUNDS rounds, in turns)" "" "runc, bridge + NAT" "runc, VXLAN overlay" "candor, the NIC" "right is"
	check "$(right at_least_both gbits)" "TCP, Gbit/s" "$(plain "$(median "${nat[gbits]-}")" 2)" "$(plain "$(median "${overlay[gbits]-}")" 2)" "$(plain "$(median "${candor[gbits]-}")" 2)" "not below the others"
	check "$(right at_most_both cpu)" "CPU seconds per Gbit" "$(plain "$(median "${nat[cpu]-}")" 3)" "$(plain "$(median "${overlay[cpu]-}")" 3)" "$(plain "$(median "${candor[cpu]-}")" 3)" "not above the others"
	check "$(right at_least_both pps)" "64 byte packets per second" "$(plain "$(median "${nat[pps]-}")" 0)" "$(plain "$(median "${overlay[pps]-}")" 0)" "$(plain "$(median "${candor[pps]-}")" 0)" "not below the others"
	check "$(right test "${candor[client]-}" = "$LAB_PEER_IP")" "client that its server sees" "${nat[client]:-none}" "${overlay[client]:-none}" "${candor[client]:-none}" "$LAB_PEER_IP, the client's"
	check "$(right test "${candor[seen]-}" = "$ADDRESS")" "who the peer says it is" "${nat[seen]:-none}" "${overlay[seen]:-none}" "${candor[seen]:-none}" "$ADDRESS, its own"
	table_end
	cat <<-EOF_NOTE

		  CPU: of the container, the receiver and ksoftirqd. NAT publishes the port as a Kubernetes NodePort does
		  (DNAT and SNAT). A quarter of noise is allowed; rounds of half a second are no benchmark: make bench.
	EOF_NOTE
}

at_least_both() { compare_both "$1" 1; }
at_most_both() { compare_both "$1" -1; }
compare_both() {
	awk -v c="$(median "${candor[$1]-}")" -v a="$(median "${nat[$1]-}")" -v b="$(median "${overlay[$1]-}")" -v up="$2" '
		BEGIN { if (c <= 0) exit 1; if (up > 0) exit !(c >= 0.8 * a && c >= 0.8 * b); exit !(c <= 1.25 * a && c <= 1.25 * b) }'
}

# start_server RUNTIME ID FLAGS...: a container that answers on PORT.
start_server() {
	local runtime=$1 id=$2
	shift 2
	lab_run "$runtime" "$id" -d "$@" -- /bin/busybox httpd -f -p "0.0.0.0:$PORT" -h /www
}

# who_is_it ARRAY ID PEER SERVED: PEER is the peer's address as the container
# reaches it, SERVED the one at which the peer reaches the container's server.
who_is_it() {
	local -n into=$1
	into[client]=$(lab_peer busybox sh demo/ask.sh "$4" "$PORT")
	into[seen]=$(lab_exec "$2" /bin/sh /ask.sh "$3" "$PORT")
}

# measure ARRAY ID PEER: one round, 500 MB of TCP and 6 MB of small packets (or
# DEMO_TCP and DEMO_UDP); what came out is added to the array's lists.
measure() {
	local -n into=$1
	local id=$2 peer=$3 pid before after json
	pid=$(lab_pid "$id")
	before=$(spent "$pid")
	json=$(lab_exec "$id" /usr/bin/iperf3 -c "$peer" -n "${DEMO_TCP:-500M}" -J)
	after=$(spent "$pid")
	into[gbits]+=" $(jq -r '.end.sum_received.bits_per_second / 1e9' <<<"$json")"
	into[cpu]+=" $(jq -r --argjson b "$before" --argjson a "$after" '($a - $b) / (.end.sum_received.bytes * 8 / 1e9)' <<<"$json")"
	json=$(lab_exec "$id" /usr/bin/iperf3 -c "$peer" -u -l 64 -b 0 -n "${DEMO_UDP:-6M}" -J)
	into[pps]+=" $(jq -r '.end.sum | (.packets - .lost_packets) / .seconds' <<<"$json")"
}

# median LIST prints the middle number of a list, 0 of an empty one.
median() { tr -s ' ' '\n' <<<"$1" | sed '/^$/d' | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# spent PID prints the CPU seconds of the container and of the receiving side.
spent() {
	local -a softirqd
	read -ra softirqd < <(softirqd_pids)
	awk -v a="$(cpu_seconds "$1")" -v b="$(process_seconds "$IPERF_PID" "${softirqd[@]}")" 'BEGIN { print a + b }'
}

# make_nat: a bridge with private addresses, forwarding, and NAT in both
# directions out of the second host NIC.
make_nat() {
	local address
	address=$(lab_subnet)
	lab_netns_add "$LAB_ID-nat" &&
		ip -n "$LAB_ID-node" link add br-nat type bridge &&
		ip -n "$LAB_ID-node" addr add "$address.1/24" dev br-nat &&
		ip -n "$LAB_ID-node" link set br-nat up &&
		plug "$LAB_ID-nat" br-nat "$address.2/24" "$LAB_MTU" &&
		ip -n "$LAB_ID-nat" route add default via "$address.1" &&
		lab_node sysctl -qw net.ipv4.ip_forward=1 &&
		lab_node nft -f - <<-EOF_NFT
			table ip cdr_nat {
			  chain prerouting {
			    type nat hook prerouting priority dstnat;
			    iifname "$LAB_NIC2" tcp dport $PORT dnat to $address.2
			  }
			  chain postrouting {
			    type nat hook postrouting priority srcnat;
			    ip saddr $address.0/24 oifname "$LAB_NIC2" masquerade
			    ct status dnat oifname "br-nat" masquerade
			  }
			}
		EOF_NFT
}

remove_nat() {
	lab_node nft delete table ip cdr_nat
	ip -n "$LAB_ID-node" link del br-nat
	ip netns del "$LAB_ID-nat"
	lab_node sysctl -qw net.ipv4.ip_forward=0
}

# make_overlay: the same on a VXLAN between the node and the peer, which stands
# for the other host.
make_overlay() {
	local vni
	OVERLAY=$(lab_subnet) vni=$(lab_random 1 65535)
	lab_netns_add "$LAB_ID-vxlan" &&
		ip -n "$LAB_ID-node" link add vx0 mtu $((LAB_MTU - 50)) type vxlan id "$vni" local "$LAB_NODE_IP2" remote "$LAB_PEER_IP2" dstport 4789 &&
		ip -n "$LAB_ID-node" link add br-vx type bridge &&
		ip -n "$LAB_ID-node" link set vx0 master br-vx up &&
		ip -n "$LAB_ID-node" link set br-vx up &&
		plug "$LAB_ID-vxlan" br-vx "$OVERLAY.2/24" $((LAB_MTU - 50)) &&
		ip -n "$LAB_ID-peer" link add vx0 mtu $((LAB_MTU - 50)) type vxlan id "$vni" local "$LAB_PEER_IP2" remote "$LAB_NODE_IP2" dstport 4789 &&
		ip -n "$LAB_ID-peer" addr add "$OVERLAY.1/24" dev vx0 &&
		ip -n "$LAB_ID-peer" link set vx0 up
}

remove_overlay() {
	ip -n "$LAB_ID-node" link del vx0
	ip -n "$LAB_ID-node" link del br-vx
	ip -n "$LAB_ID-peer" link del vx0
	ip netns del "$LAB_ID-vxlan"
}

# plug NETNS BRIDGE ADDRESS MTU [PORT]: the veth pair that a CNI plugin would make.
plug() {
	local port=${5:-${2}p}
	ip -n "$LAB_ID-node" link add "$port" mtu "$4" type veth peer name eth0 mtu "$4" netns "$1" &&
		ip -n "$LAB_ID-node" link set "$port" master "$2" up &&
		ip -n "$1" addr add "$3" dev eth0 &&
		ip -n "$1" link set eth0 up
}
