# shellcheck shell=bash
# The promised rate against what arrives at the other end of the wire.

bench_limit() {
	local mbit
	# Packets are to be cut before the wire, so that the peer counts each one's
	# headers; above the qdisc nothing changes.
	lab_node ethtool -K "$LAB_NIC" tso off tx-udp-segmentation off >/dev/null || return
	for mbit in 10 100 1000; do
		bench_limit_at "$mbit" || return
	done
	lab_node ethtool -K "$LAB_NIC" tso on tx-udp-segmentation on >/dev/null
}

bench_limit_at() {
	local mbit=$1 id=bench-limit-$1 inside payload=1300 streams=1
	lab_run candor "$id" -d --annotation "candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.9/24" \
		--annotation "candor.dev/egress-limit=${mbit}M" -- /bin/sleep 600 || return
	inside=/proc/$(lab_pid "$id")/ns/net
	# 1300: the wire's MTU is drawn from 1400 up. At 1 Gbit/s one system call
	# per packet is more than a core does beside the receiver, and the send
	# buffer of one socket is a queue of 1.7 ms.
	((mbit < 1000)) || payload=8000 streams=4
	bench_limit_flow "$inside" "3-limit-$(printf %04d "$mbit")-tcp" "$mbit" "TCP" &&
		bench_limit_flow "$inside" "3-limit-$(printf %04d "$mbit")-udp" "$mbit" "UDP, twice the limit offered," -u -l "$payload" -P "$streams" -b "$((mbit * 2 / streams))M"
	local status=$?
	lab_rm "$id"
	return "$status"
}

# bench_limit_flow NETNS FILE MBIT WHAT IPERF3-FLAGS...
bench_limit_flow() {
	local inside=$1 file=$2 mbit=$3 what=$4 server client ping=''
	shift 4
	lab_peer iperf3 -s -1 >/dev/null &
	server=$!
	lab_wait 5 bench_listens || return
	# Real-time: a sender that has to wait for a core leaves the queue empty,
	# and the wire's rate says something about the machine only.
	nsenter --net="$inside" chrt -r 10 iperf3 -c "$LAB_PEER_IP" -t 9 "$@" >/dev/null 2>"$LAB_DIR/log/iperf3" &
	client=$!
	if [[ $mbit == 10 && $what == TCP ]] && command -v ping >/dev/null; then
		(sleep 2 && nsenter --net="$inside" ping -i 0.02 -c 250 -W 1 "$LAB_PEER_IP") >"$LAB_DIR/log/ping" &
		ping=$!
	fi
	lab_peer "$BENCH_BIN/wire" -device wire0 -limit "${mbit}000000" -what "$what at $mbit Mbit/s" -skip 2s -o "$(bench_out "$file")"
	local status=$?
	wait "$client" "$server"
	if [[ -n $ping ]]; then
		wait "$ping"
		"$BENCH_BIN/report" pings -what "ping beside TCP at 10 Mbit/s" -limit 12 -o "$(bench_out 3-ping)" <"$LAB_DIR/log/ping" || status=1
	fi
	return "$status"
}

bench_listens() { [[ -n $(lab_peer ss -Hltn 'sport = :5201') ]]; }
