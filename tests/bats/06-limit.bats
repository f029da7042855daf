#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# The egress limit: on the device in the container, by the kernel's own numbers
# and by bytes on the wire; and on a network that comes after create.

load helpers

# rate_in ID DEVICE: the rate of candor's class on a device, in bits per second.
rate_in() { in_net "$1" tc class show dev "$2" | rate_of; }

# rate_of reads what tc prints: "rate 40Mbit" (its JSON came after Debian 12).
rate_of() {
	grep -oE "rate [0-9]+[KMG]?bit" | sort -u | awk "{ sub(/bit\$/, \"\", \$2); print \$2 }" | sed "s/K\$/000/; s/M\$/000000/; s/G\$/000000000/"
}

# wire_rate BITS: iperf3 from the container c1 to the peer, for two seconds; the
# rate of what the peer's end of the wire took in, in percent of BITS.
measure() {
	# Not by lab_peer: the pid has to be the server's own.
	background nsenter --net="$LAB_PEER" -- iperf3 --server --one-off --bind "$LAB_PEER_IP" >/dev/null
	lab_wait 3 listening || fail "iperf3 does not listen" || return
	local before after start stop
	# Let a first burst pass: buffers fill.
	lab_ctr task exec --detach --exec-id perf c1 /usr/bin/iperf3 --client "$LAB_PEER_IP" --time 6 --connect-timeout 2000 "${@:2}"
	sleep 1.2
	before=$(received) start=${EPOCHREALTIME/./}
	sleep 2.5
	after=$(received) stop=${EPOCHREALTIME/./}
	# veth counts no preamble and no gap, and neither does the limit.
	PERCENT=$(((after - before) * 8 * 1000000 * 100 / (stop - start) / $1))
	echo "$PERCENT percent of $1 bit/s"
}

# as_promised: never more than the rate; and, where the machine is not emulated
# and can send as much, no less.
as_promised() { between "percent of the rate" $((${LAB_PATIENCE:-1} > 1 ? 20 : 93)) 103 "$PERCENT"; }
received() { lab_peer cat /proc/net/dev | awk '$1 == "wire0:" { print $2 }'; }
listening() { lab_peer ss -Hltn sport = :5201 | grep -q .; }

@test "the limit is a class on the NIC inside, and gone with it" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	has "root qdisc" "$(in_net c1 tc qdisc show dev net0 root)" htb
	equal "rate" 50000000 "$(rate_in c1 net0)"
	equal "rate in the record" 50000000 "$(record c1 | jq .egress.limit_bits)"
	lab_rm c1
	want_all_back 1 # the state has the NIC's qdiscs and gso_max_size
}

@test "TCP gets the rate that was promised, and no more" {
	command -v iperf3 >/dev/null || skip "needs iperf3 (make setup)"
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=80M
	measure 80000000
	as_promised
}

# bats test_tags=guest-soak
@test "UDP that wants more than the rate is held to it" {
	command -v iperf3 >/dev/null || skip "needs iperf3 (make setup)"
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=20M
	measure 20000000 --udp --bitrate 60M
	as_promised
}

# bats test_tags=guest-soak
@test "rates as Kubernetes writes them" {
	local pair
	for pair in 1500k=1500000 1G=1000000000 12345678=12345678; do
		start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation "candor.dev/egress-limit=${pair%=*}"
		between "rate of ${pair%=*}" "$((${pair#*=} * 999 / 1000))" "$((${pair#*=} * 1001 / 1000))" "$(rate_in c1 net0)"
		equal "rate in the record" "${pair#*=}" "$(record c1 | jq .egress.limit_bits)"
		lab_rm c1
	done
}

# bats test_tags=guest-soak
@test "every device of the container carries the limit" {
	start c1 --annotation candor.dev/egress-limit=50M --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"]},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"]}]"
	equal "net0" 50000000 "$(rate_in c1 net0)"
	equal "net1" 50000000 "$(rate_in c1 net1)"
}

# bats test_tags=guest-soak
@test "a limit without a NIC, on the veth of a namespace that others made; taken off again" {
	ip netns add "$LAB_ID-cni"
	ip -n "$LAB_ID-cni" link add eth0 type veth peer name hosts netns "$LAB_ID-node"
	ip -n "$LAB_ID-cni" link set eth0 up
	local before
	before=$(
		ip -n "$LAB_ID-cni" -d link show eth0
		tc -n "$LAB_ID-cni" qdisc show
	)
	start c1 --with-ns "network:/run/netns/$LAB_ID-cni" --annotation candor.dev/egress-limit=30M
	equal "rate" 30000000 "$(rate_in c1 eth0)"
	lab_rm c1
	equal "the veth afterwards" "$before" "$(
		ip -n "$LAB_ID-cni" -d link show eth0
		tc -n "$LAB_ID-cni" qdisc show
	)"
	ip netns del "$LAB_ID-cni"
}

# bats test_tags=guest-soak
@test "a qdisc that somebody else put on the device is not replaced" {
	ip netns add "$LAB_ID-cni"
	ip -n "$LAB_ID-cni" link add eth0 type veth peer name hosts netns "$LAB_ID-node"
	ip -n "$LAB_ID-cni" link set eth0 up
	tc -n "$LAB_ID-cni" qdisc add dev eth0 root tbf rate 1mbit burst 10kb latency 50ms
	refused c1 --with-ns "network:/run/netns/$LAB_ID-cni" --annotation candor.dev/egress-limit=30M
	has "error" "$output" eth0 tbf
	has "qdisc" "$(tc -n "$LAB_ID-cni" qdisc show dev eth0 root)" tbf
	ip netns del "$LAB_ID-cni"
}

# bats test_tags=guest-soak
@test "CAP_NET_ADMIN with a limit is refused, with the reason" {
	refused c1 --cap-add CAP_NET_ADMIN --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	has "error" "$output" CAP_NET_ADMIN candor.dev/egress-limit
}

# bats test_tags=guest-soak
@test "a privileged container with a limit is refused" {
	refused c1 --privileged --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	has "error" "$output" CAP_NET_ADMIN
}

# bats test_tags=guest-soak
@test "CAP_NET_ADMIN without a limit is nobody's business" {
	start c1 --cap-add CAP_NET_ADMIN --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "the container cannot lift its limit" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	run lab_exec c1 /sbin/ip link set net0 down
	((status != 0))
	equal "rate" 50000000 "$(rate_in c1 net0)"
}

##### A limit that changes

# bats test_tags=guest-soak
@test "candor set: another limit for a connection that stays, and back on the host all is as it was" {
	command -v iperf3 >/dev/null || skip "needs iperf3 (make setup)"
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=80M
	background nsenter --net="$LAB_PEER" -- iperf3 --server --one-off --json --bind "$LAB_PEER_IP" >"$LAB_DIR/iperf"
	lab_wait 3 listening || fail "iperf3 does not listen"
	lab_ctr task exec --detach --exec-id perf c1 /usr/bin/iperf3 --client "$LAB_PEER_IP" --time 6 --connect-timeout 2000
	sleep 1
	candor set c1 egress-limit=20M
	sleep 0.5
	local before after began
	before=$(received) began=${EPOCHREALTIME/./}
	sleep 2
	after=$(received)
	between "percent of 20 Mbit/s" 20 105 $(((after - before) * 8 * 100 / (${EPOCHREALTIME/./} - began) / 20))
	local top
	top=$(candor top --once --interval 500ms --json | jq -c '.[]')
	equal "limit that candor top shows" 'c1 net0 20000000' "$(jq -r '"\(.container) \(.device) \(.limit_bits)"' <<<"$top")"
	jq -e '.rate_bits > 4000000 and .rate_bits < 24000000 and .held_share > 0' <<<"$top" || fail "candor top: $top"
	equal "rate" 20000000 "$(rate_in c1 net0)"
	equal "rate in the record" 20000000 "$(record c1 | jq .egress.limit_bits)"
	candor set c1 candor.dev/egress-limit=1G
	equal "rate" 1000000000 "$(rate_in c1 net0)"
	candor check c1
	lab_wait 10 test -s "$LAB_DIR/iperf" || fail "iperf3 does not end"
	equal "what the connection ended with" null "$(jq .error "$LAB_DIR/iperf")"
	lab_rm c1
	want_all_back 1
}

# bats test_tags=guest-soak
@test "candor set: what cannot be set is one line, and nothing changes" {
	local before
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	start c2
	before=$(record c1)
	cp "$LAB_CONFIG" "$LAB_DIR/config.before"
	printf '\n[egress]\nmax_limit = "100M"\n' | cat "$LAB_DIR/config.before" - | lab_write_config
	refuses() { # ID RATE WORD...
		run candor set "$1" "egress-limit=$2"
		((status == 1)) || fail "candor set $1 egress-limit=$2: $status: $output"
		equal "lines" 1 "${#lines[@]}"
		has "error" "$output" "${@:3}"
	}
	refuses c1 200M c1 200M 100M max_limit "$LAB_CONFIG"
	refuses c1 1 "out of bounds"
	refuses c2 1M c2 "without a limit"
	refuses c3 1M c3 "holds nothing"
	equal "the record" "$before" "$(record c1)"
	equal "rate" 50000000 "$(rate_in c1 net0)"
	candor set c1 egress-limit=100M
	equal "rate" 100000000 "$(rate_in c1 net0)"
}

##### A network that comes after create

@test "a network between create and start is shaped before the process runs (candor-runc)" {
	local bundle
	set_policy 's/^allow = .*/allow = ["runc"]/'
	bundle=$(make_bundle late '.annotations["candor.dev/egress-limit"] = "40M" | .process.args = ["/bin/sh", "-c", "touch /tmp/late; sleep 600"]')
	candor_runc create --bundle "$bundle" late </dev/null >/dev/null
	equal "state" pending "$(record late | jq -r .state)"
	local pid
	pid=$(plain_pid late)
	lab_node ip link add lateh type veth peer name eth0 netns "$pid"
	nsenter -t "$pid" -n -- ip link set eth0 up
	candor_runc start late
	equal "state" attached "$(record late | jq -r .state)"
	equal "rate" 40000000 "$(nsenter -t "$pid" -n -- tc class show dev eth0 | rate_of)"
	candor_runc delete --force late
	lab_wait 2 no_late_link || lab_node ip link del lateh
}

no_late_link() { ! lab_node ip link show lateh; }

# bats test_tags=guest-soak
@test "a network that never comes: start is refused, in one line (candor-runc)" {
	local bundle
	set_policy 's/^allow = .*/allow = ["runc"]/'
	bundle=$(make_bundle never '.annotations["candor.dev/egress-limit"] = "40M" | .process.args = ["/bin/touch", "/tmp/never"]')
	candor_runc create --bundle "$bundle" never </dev/null >/dev/null
	run candor_runc start never
	((status != 0))
	equal "lines" 1 "${#lines[@]}"
	has "error" "$output" candor.dev/egress-limit "no network device"
	[[ ! -e $LAB_DIR/rootfs/tmp/never ]]
	candor_runc delete --force never
}

# bats test_tags=guest-soak
@test "under hooks.d alone nobody comes back before the start: a limit without a network is refused" {
	local bundle
	bundle=$(make_bundle hooksd --arg bin "$LAB_BIN" --arg config "$LAB_CONFIG" --arg caller "containerd:$LAB_NS" '
		def hook($name): {path: ($bin + "/" + $name), args: [$name, "--config", $config, "--caller", $caller], timeout: 10};
		.annotations["candor.dev/egress-limit"] = "40M"
		| .hooks = {createRuntime: [hook("candor-prestart-net")], poststop: [hook("candor-poststop")]}')
	run plain_runc run --bundle "$bundle" hooksd </dev/null
	((status != 0))
	has "error" "$output" candor.dev/egress-limit "no network device" candor-runc
	no_records
}

# bats test_tags=guest-soak
@test "a limit and no network at all: ctr's container does not start, in one line" {
	refused c1 --annotation candor.dev/egress-limit=40M
	has "error" "$output" candor.dev/egress-limit "no network device"
}

# cni_ctr ARGUMENTS...: ctr with a CNI of its own, whose only plugin makes a veth
# between the node and the container: ctr calls it between create and start.
# ctr looks in fixed places, so that it gets them in a mount namespace of its own.
cni_ctr() {
	local dir=$LAB_DIR/cni
	mkdir -p "$dir"/{etc,bin}
	cat >"$dir/etc/10-lab.conflist" <<-EOF_CONF
		{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "lab-veth"}]}
	EOF_CONF
	cat >"$dir/bin/lab-veth" <<-'EOF_PLUGIN'
		#!/bin/sh
		cat >/dev/null
		case $CNI_COMMAND in
		VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
		ADD)
			set -e
			ip link add cnih type veth peer name cnic
			nsenter --net="$CNI_NETNS" true
			ln -sf "$CNI_NETNS" "$CNI_STATE/netns"
			pid=${CNI_NETNS#/proc/}
			ip link set cnic netns "${pid%%/*}"
			nsenter --net="$CNI_NETNS" sh -ec "ip link set cnic name $CNI_IFNAME; ip addr add 10.99.0.2/24 dev $CNI_IFNAME; ip link set $CNI_IFNAME up"
			ip link set cnih up
			echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"address":"10.99.0.2/24","interface":0}]}'
			;;
		*) ip link del cnih 2>/dev/null || true ;;
		esac
	EOF_PLUGIN
	chmod 0755 "$dir/bin/lab-veth"
	CNI_STATE=$dir CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 timeout -k 1 20 nsenter --net="$LAB_NODE" -- \
		unshare --mount sh -ec '
			mount -t tmpfs tmpfs "$0/bin/../mnt"
			for top in etc opt var; do
				mkdir -p "$0/mnt/$top" "$0/mnt/$top.work"
				mount -t overlay overlay -o "lowerdir=/$top,upperdir=$0/mnt/$top,workdir=$0/mnt/$top.work" "/$top"
			done
			mkdir -p /etc/cni/net.d /opt/cni/bin
			cp "$0"/etc/* /etc/cni/net.d/
			cp "$0"/bin/* /opt/cni/bin/
			exec "$@"' "$dir" "$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" --namespace "$LAB_NS" "$@" 3>&- 4>&-
}

@test "ctr --cni: a network that comes after create carries the limit when the process starts" {
	mkdir -p "$LAB_DIR/cni/mnt"
	run cni_ctr run --cni --detach --null-io --fifo-dir "$LAB_DIR/fifo" --runtime io.containerd.candor.v1 \
		--annotation candor.dev/egress-limit=40M --rootfs "$LAB_DIR/rootfs" c1 /bin/sleep 600
	((status == 0)) || fail "$output"
	equal "rate" 40000000 "$(rate_in c1 eth0)"
	equal "state" attached "$(record c1 | jq -r .state)"
	equal "device in the record" eth0 "$(record c1 | jq -r '.egress.devices[0].name')"
	lab_rm c1
	lab_wait 2 no_cni_link || lab_node ip link del cnih
}

no_cni_link() { ! lab_node ip link show cnih; }

# bats test_tags=guest-soak
@test "a NIC and a late network: both carry the limit" {
	mkdir -p "$LAB_DIR/cni/mnt"
	run cni_ctr run --cni --detach --null-io --fifo-dir "$LAB_DIR/fifo" --runtime io.containerd.candor.v1 \
		--annotation candor.dev/egress-limit=40M --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --rootfs "$LAB_DIR/rootfs" c1 /bin/sleep 600
	((status == 0)) || fail "$output"
	equal "rate of the NIC" 40000000 "$(rate_in c1 net0)"
	equal "rate of the late network" 40000000 "$(rate_in c1 eth0)"
	lab_rm c1
	lab_wait 2 no_cni_link || lab_node ip link del cnih
}
