# shellcheck shell=bash disable=SC2153  # what run.sh draws
# Third table: the promised rate against what arrives at the other end of the
# wire, by the counters of the peer's interface.

show_its_limit() {
	local tcp udp
	# A veth hands over 64 kB segments whole and counts their headers once, as
	# no wire would. Without TSO the kernel cuts them behind the shaper, where a
	# real NIC does, and the peer counts frames.
	lab_node ethtool -K "$LAB_NIC" tx-tcp-segmentation off tx-tcp6-segmentation off tx-udp-segmentation off >/dev/null 2>&1
	table "Its limit (candor.dev/egress-limit=${RATE}M)" "" "promised" "on the wire" "off by" "right is"
	if lab_run candor limit -d --annotation "$NIC_REQUEST" --annotation "candor.dev/egress-limit=${RATE}M" -- /bin/sleep 600; then
		tcp=$(wire_rate limit -c "$LAB_PEER_IP" -t 6)
		limit_row TCP "$tcp"
		# Four sockets: one's buffer is 3 ms' worth, less than a busy machine's pauses.
		udp=$(wire_rate limit -c "$LAB_PEER_IP" -t 6 -u -l 1200 -P 4 -b "$((RATE / 2))M")
		limit_row "UDP, twice as much sent" "$udp"
	else
		check 1 "the container starts" "" no "" yes
	fi
	lab_rm limit
	lab_node ethtool -K "$LAB_NIC" tx-tcp-segmentation on tx-tcp6-segmentation on tx-udp-segmentation on >/dev/null 2>&1
	table_end
}

# limit_row NAME RATE: nothing makes a shaper send too much, but an emulated machine
# sends late: DEMO_SHORT is what may be missing, in percent (3).
limit_row() {
	local off short=${DEMO_SHORT:-3} want="within 3 %"
	((short == 3)) || want="3 % above at most, $short % below"
	off=$(awk -v m="${2:-0}" -v r="$RATE" 'BEGIN { printf "%.1f", (m / r - 1) * 100 }')
	check "$(right awk -v o="$off" -v s="$short" 'BEGIN { exit !(o < 3 && o > -s) }')" "$1" "$RATE Mbit/s" "$(plain "${2:-0}" 1) Mbit/s" "$off %" "$want"
}

# wire_rate ID IPERF-ARGUMENTS... prints the Mbit/s that reach the peer. Measured
# again, twice at most, if it is too little: a busy machine sends late, but nothing
# makes a shaper send too much.
wire_rate() {
	local rate try
	for try in 1 2 3; do
		rate=$(wire_rate_once "$@")
		if ((try == 3)) || awk -v m="$rate" -v r="$RATE" -v s="${DEMO_SHORT:-3}" 'BEGIN { exit !(m / r > 1 - s / 100) }'; then break; fi
	done
	printf '%s\n' "$rate"
}

# wire_rate_once: while iperf3 runs, without its first second.
wire_rate_once() {
	local id=$1 client
	shift
	lab_exec "$id" /usr/bin/iperf3 "$@" >"$LAB_DIR/log/iperf3-client" 2>&1 &
	client=$!
	lab_peer demo/rate.sh wire0 $((3 * ${LAB_PATIENCE:-1}))
	wait "$client"
}
