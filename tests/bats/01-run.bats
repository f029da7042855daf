#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# The main way: a container gets a NIC, honest resource files and a limit, and
# gives all of it back.

load helpers

@test "the NIC is in the container, as asked for, and no longer on the node" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24,gateway=$LAB_PEER_IP")"
	local link
	link=$(in_net c1 ip -j -d link show dev net0)
	equal "MAC" "$LAB_MAC" "$(jq -r '.[0].address' <<<"$link")"
	equal "MTU" "$LAB_MTU" "$(jq -r '.[0].mtu' <<<"$link")"
	equal "up" true "$(jq -r '.[0].flags | index("UP") != null' <<<"$link")"
	equal "addresses" "$LAB_SUBNET.5/24" "$(in_net c1 ip -j addr show dev net0 |
		jq -r '[.[0].addr_info[] | select(.scope == "global") | "\(.local)/\(.prefixlen)"] | join(" ")')"
	run lab_node ip link show dev "$LAB_NIC"
	((status != 0))
	run lab_node ip link show dev "$LAB_ALTNAME"
	((status != 0))
}

# bats test_tags=guest-soak
@test "the container speaks with the peer, under the NIC's own address" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	lab_peer ping -c 1 -W 3 "$LAB_SUBNET.5"
	equal "MAC that the peer sees" "$LAB_MAC" "$(lab_peer ip -j neigh show "$LAB_SUBNET.5" | jq -r '.[0].lladdr')"
}

# bats test_tags=guest-soak
@test "a gateway becomes a default route that gives way to the engine's own" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24,gateway=$LAB_PEER_IP")"
	has "default route" "$(in_net c1 ip route show default)" "via $LAB_PEER_IP dev net0" "metric 4096"
	# Whatever route the engine brings, answers leave by the NIC that was asked.
	has "route of the NIC's own address" "$(in_net c1 ip route get 203.0.113.9 from "$LAB_SUBNET.5")" "via $LAB_PEER_IP dev net0"
}

# bats test_tags=guest-soak
@test "default-route takes the engine's metric" {
	start c1 --annotation "candor.dev/nics=[{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"],\"gateway\":[\"$LAB_PEER_IP\"],\"default-route\":true}]"
	local route
	route=$(in_net c1 ip route show default)
	has "default route" "$route" "via $LAB_PEER_IP dev net0"
	[[ $route != *metric* ]] || fail "default route has a metric: $route"
}

@test "IPv6: address, no duplicate detection to wait for, peer reached" {
	local prefix
	prefix=$(lab_subnet6 "$LAB_SUBNET")
	start c1 --annotation "$(nic "ip=${prefix}5/64")"
	local addr
	addr=$(in_net c1 ip -6 addr show dev net0 scope global)
	has "address" "$addr" "${prefix}5/64"
	[[ $addr != *tentative* ]] || fail "$addr"
	lab_peer ping -6 -c 1 -W 3 "${prefix}5"
}

# bats test_tags=guest-soak
@test "a mac alone keeps the addresses that the NIC had on the host" {
	start c1 --annotation "$(nic)"
	local want got
	want=$(jq -r '.addresses | join(" ")' <<<"$LAB_NIC_BEFORE")
	got=$(in_net c1 ip -j addr show dev net0 |
		jq -r '[.[0].addr_info[] | select(.scope != "link") | "\(.local)/\(.prefixlen)"] | sort | join(" ")')
	equal "addresses" "$want" "$got"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "two NICs with names, MTU and routes of their own" {
	start c1 --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"interface\":\"data0\",\"ips\":[\"$LAB_SUBNET.5/24\"],\"mtu\":1300,\"routes\":[{\"dst\":\"203.0.113.0/24\",\"gw\":\"$LAB_PEER_IP\"}]},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"]}]"
	equal "MTU of data0" 1300 "$(in_net c1 ip -j link show dev data0 | jq '.[0].mtu')"
	equal "MAC of net0" "$LAB_MAC2" "$(in_net c1 ip -j link show dev net0 | jq -r '.[0].address')"
	has "route" "$(in_net c1 ip route show 203.0.113.0/24)" "via $LAB_PEER_IP dev data0"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_SUBNET2.1"
	lab_rm c1
	want_all_back 1
}

@test "after the delete the NIC is as it was: name, altnames, MAC, MTU, addresses, routes, state" {
	start c1 --annotation "candor.dev/nics=[{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"],\"mtu\":1280}]"
	# The container may do to its NIC what it likes.
	in_net c1 ip link set net0 down
	in_net c1 ip link set net0 address "$(lab_mac)"
	in_net c1 ip link set net0 name whatever mtu 1290
	in_net c1 ip addr flush dev whatever
	lab_rm c1
	equal "NIC" "$LAB_NIC_BEFORE" "$(lab_nic_state)"
	no_records
	lab_node ping -c 1 -W 3 "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "a NIC that was down on the host is down again afterwards" {
	lab_node ip link set "$LAB_NIC2" down
	local before
	before=$(lab_nic_state "$LAB_NIC2")
	start c1 --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_SUBNET2.1"
	lab_rm c1
	# A NIC that was never up in its namespace has no qdisc yet: nobody's setting.
	equal "NIC" "$(jq "del(.qdiscs)" <<<"$before")" "$(lab_nic_state "$LAB_NIC2" | jq "del(.qdiscs)")"
	lab_node ip link set "$LAB_NIC2" up
	# Going down took the IPv6 addresses along, as it does on every host.
	lab_node ip addr replace "$(lab_subnet6 "$LAB_SUBNET2")2/64" dev "$LAB_NIC2" nodad
}

# bats test_tags=guest-soak
@test "a NIC that is plugged in while the container starts: it waits, as long as the pool says" {
	local mac
	mac=$(lab_mac)
	set_policy "s/^macs .*/macs = [\"$mac\"]\nwait = \"2s\"/"
	refused c1 --annotation "candor.dev/nic=pool=wire,mac=$mac,ip=$LAB_SUBNET.5/24"
	has "error" "$output" "$mac" "did not come within 2s"
	set_policy "s/^macs .*/macs = [\"$mac\"]\nwait = \"20s\"/"
	background start c1 --annotation "candor.dev/nic=pool=wire,mac=$mac,ip=$LAB_SUBNET.5/24"
	local starting=$!
	sleep 1
	[[ -d /proc/$starting ]] || fail "it did not wait"
	lab_node ip link add late0 address "$mac" type veth peer name late1
	wait "$starting" || fail "the container did not start"
	has "address" "$(in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	lab_rm c1
	equal "MAC on the node" "$mac" "$(lab_node ip -j link show dev late0 | jq -r '.[0].address')"
	lab_node ip link del late0
}

# bats test_tags=guest-soak
@test "run --rm, with everything on, over and over: the NIC is free at once each time" {
	local i
	for i in 1 2 3 4; do
		run lab_run candor c1 --rm --memory-limit 268435456 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" \
			--annotation candor.dev/egress-limit=50M -- /bin/sh -c 'ip -o -4 addr show net0; grep MemTotal: /proc/meminfo; exit 7'
		equal "exit status" 7 "$status"
		has "run $i" "$output" "$LAB_SUBNET.5/24" "262144 kB"
		nic_is_back || fail "run $i: the NIC is not back"
	done
}

# bats test_tags=guest-soak
@test "the resource files show the container's own limits" {
	start c1 --memory-limit 268435456 --cpu-quota 100000 --cpu-period 100000
	has "meminfo" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 262144 kB" "MemAvailable:" "SwapTotal:"
	equal "processors in cpuinfo" 1 "$(cat_in c1 /proc/cpuinfo | grep -c '^processor')"
	equal "processors in stat" 1 "$(cat_in c1 /proc/stat | grep -c '^cpu[0-9]')"
	equal "cpus online" 0 "$(cat_in c1 /sys/devices/system/cpu/online)"
	[[ $(cat_in c1 /proc/loadavg) =~ ^[0-9]+\.[0-9]{2}\ [0-9]+\.[0-9]{2}\ [0-9]+\.[0-9]{2}\ [0-9]+/[0-9]+\ [0-9]+$ ]]
	has "swaps" "$(cat_in c1 /proc/swaps)" Filename
	local up
	up=$(cat_in c1 /proc/uptime)
	between "uptime in seconds" 0 30 "${up%%.*}"
}

# bats test_tags=guest-soak
@test "exec sees the view as well" {
	start c1 --memory-limit 134217728
	local mine
	mine=$(lab_exec c1 /bin/sh -c 'grep MemTotal: /proc/meminfo; readlink /proc/self/ns/time; wc -l </proc/swaps')
	has "exec" "$(tr -s ' ' <<<"$mine")" "MemTotal: 131072 kB"
	has "exec's time namespace" "$mine" "$(readlink "/proc/$(lab_pid c1)/ns/time")"
}

# bats test_tags=guest-soak
@test "pause, resume, exec, metrics and kill work as under runc's own shim" {
	start c1 --memory-limit 134217728 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	lab_ctr task pause c1
	has "paused" "$(lab_ctr task ls)" PAUSED
	lab_ctr task resume c1
	lab_exec c1 /bin/true
	run lab_exec c1 /bin/sh -c 'exit 3'
	equal "exit status of exec" 3 "$status"
	lab_ctr task metrics c1 >/dev/null
	lab_ctr task kill -s KILL c1
	lab_wait 5 lab_ctr task rm c1
	want_all_back 2
}

# bats test_tags=guest-soak
@test "a container that ends by itself gives the NIC back when its task is deleted" {
	lab_run candor c1 --detach --null-io --annotation "$(nic "ip=$LAB_SUBNET.5/24")" -- /bin/true
	lab_wait 5 lab_ctr task rm c1
	want_all_back 2
}

# bats test_tags=guest-soak
@test "two containers at once, each with its NIC and its own numbers" {
	start c1 --memory-limit 134217728 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	start c2 --memory-limit 201326592 --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")"
	has "c1" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	has "c2" "$(cat_in c2 /proc/meminfo | tr -s ' ')" "MemTotal: 196608 kB"
	lab_rm c1
	nic_is_back
	has "c2 still" "$(cat_in c2 /proc/meminfo | tr -s ' ')" "MemTotal: 196608 kB"
	lab_exec c2 /bin/ping -c 1 -W 3 "$LAB_SUBNET2.1"
}

# bats test_tags=guest-soak
@test "eight containers that start at once" {
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		start "many$i" --memory-limit "$((i * 67108864))" 3>&- 4>&- &
		pids+=("$!")
	done
	for i in "${pids[@]}"; do wait "$i" || fail "one of them did not start"; done
	for i in 1 2 3 4 5 6 7 8; do
		has "many$i" "$(cat_in "many$i" /proc/meminfo | tr -s ' ')" "MemTotal: $((i * 65536)) kB"
	done
}

# bats test_tags=guest-soak
@test "a container that asks for nothing, with the view off, keeps its spec byte for byte" {
	lab_run candor c1 --detach --null-io --annotation candor.dev/resource-view=off -- /bin/sleep 600
	lab_run runc c2 --detach --null-io --annotation candor.dev/resource-view=off -- /bin/sleep 600
	equal "spec" "$(sed 's/c2/c1/g' "$(bundle_of c2)/config.json")" "$(cat "$(bundle_of c1)/config.json")"
	no_records
	[[ $(cat_in c1 /proc/meminfo | head -1) == "$(head -1 /proc/meminfo)" ]]
}

# bats test_tags=guest-soak
@test "candor list shows who holds what" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	run candor list
	((status == 0))
	equal "lines" 2 "${#lines[@]}"
	has "list" "${lines[1]}" c1 "containerd:$LAB_NS" attached "$(lab_pid c1)" net0 50M files
	local json
	json=$(candor list --json)
	equal "ids" c1 "$(jq -r '[.[].id] | join(" ")' <<<"$json")"
	equal "NIC's name on the host" "$LAB_NIC" "$(jq -r '.[0].nics[0].name' <<<"$json")"
	equal "alive" true "$(jq -r '.[0].alive' <<<"$json")"
	lab_rm c1
	equal "list of nothing" '[]' "$(candor list --json | jq -c .)"
}

# bats test_tags=guest-soak
@test "candor inspect prints one record, by id or by key" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	local byid
	byid=$(candor inspect c1)
	equal "MAC" "$LAB_MAC" "$(jq -r '.nics[0].mac' <<<"$byid")"
	equal "by key" "$byid" "$(candor inspect "$(jq -r .key <<<"$byid")")"
	run candor inspect nosuch
	((status != 0))
	equal "lines" 1 "${#lines[@]}"
	has "error" "$output" nosuch
}

# bats test_tags=guest-soak
@test "candor check finds nothing to name in a container as it was started, and a NIC that was taken down" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	run candor check
	((status == 0)) || fail "$output"
	equal "check" "all as recorded" "$output"
	in_net c1 ip link set dev net0 down
	run candor check c1
	equal "exit status" 1 "$status"
	equal "lines" 1 "${#lines[@]}"
	has "difference" "$output" "c1: nic $LAB_MAC ($LAB_NIC)" "expected up, is down"
	run candor check --json
	equal "as JSON" "c1 up down" "$(jq -r '.[] | "\(.container) \(.expected) \(.actual)"' <<<"$output")"
}

# bats test_tags=guest-soak
@test "candor network-status prints what the container's kernel shows" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24,gateway=$LAB_PEER_IP")"
	in_net c1 ip link set dev net0 mtu 1300
	equal "status" "candor/wire net0 $LAB_SUBNET.5 $LAB_MAC 1300 true $LAB_PEER_IP {}" "$(candor network-status c1 |
		jq -r '.[] | "\(.name) \(.interface) \(.ips | join(",")) \(.mac) \(.mtu) \(.default) \(.gateway | join(",")) \(.dns)"')"
	equal "of all" "$(candor network-status c1 | jq -c .)" "$(candor network-status | jq -c .c1)"
}

# bats test_tags=guest-soak
@test "candor spec shows what would be patched, and touches nothing" {
	local bundle=$BATS_TEST_TMPDIR/bundle before
	mkdir "$bundle"
	(cd "$bundle" && "$LAB_TOOLS/runc" spec)
	jq --arg nic "pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.5/24" '.annotations["candor.dev/nic"] = $nic' "$bundle/config.json" >"$bundle/new"
	mv "$bundle/new" "$bundle/config.json"
	before=$(
		stat -c '%i %Y %s' "$bundle/config.json"
		sha256sum "$bundle/config.json"
	)
	run candor spec --caller "containerd:$LAB_NS" "$bundle"
	((status == 0)) || fail "$output"
	has "diff" "$output" candor-prestart-net candor-prestart-lxcfs candor-poststop createRuntime
	[[ $output == *$'\n+'* ]] || fail "no added lines: $output"
	# Who may not have it is told so, behind the diff.
	run candor spec --caller docker "$bundle"
	((status != 0))
	has "refusal" "${lines[-1]}" wire docker "$LAB_CONFIG"
	equal "config.json" "$before" "$(
		stat -c '%i %Y %s' "$bundle/config.json"
		sha256sum "$bundle/config.json"
	)"
	no_records
}

# bats test_tags=guest-soak
@test "candor gc has nothing to do on a tidy node" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "dry run" "$(candor gc --dry-run 2>&1)" "nothing to give back"
	has "gc" "$(candor gc 2>&1)" "nothing to give back"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "every program says its version" {
	local program version
	version=$(candor version | awk '{ print $2 }')
	[[ -n $version ]]
	for program in candor-prestart-net candor-prestart-lxcfs candor-poststop; do
		has "$program" "$("$LAB_BIN/$program" --version)" "$version"
	done
}
