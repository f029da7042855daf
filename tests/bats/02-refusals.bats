#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# What the policy, the NIC's situation or the grammar forbids: the container does
# not start, one line says why, and nothing is changed.

load helpers

##### The policy

# bats test_tags=guest-soak
@test "an unknown pool: the line names pool, caller and file" {
	refused c1 --annotation "candor.dev/nic=pool=nosuch,mac=$LAB_MAC"
	has "error" "$output" nosuch "containerd:$LAB_NS" "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "a caller who may not use the pool: the line names pool, caller and file" {
	set_policy 's/^allow = .*/allow = ["containerd:somebody-else", "kubernetes:*"]/'
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" wire "containerd:$LAB_NS" "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "a pool that allows nobody" {
	set_policy '/^allow = /d'
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" wire "containerd:$LAB_NS" "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "another of containerd's namespaces is another caller" {
	set_policy "s/^allow = .*/allow = [\"containerd:$LAB_NS\"]/"
	LAB_NS=$LAB_NS-b refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" wire "containerd:$LAB_NS-b" "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "annotations do not make a caller" {
	set_policy 's/^allow = .*/allow = ["kubernetes:*"]/'
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" \
		--annotation io.kubernetes.cri.container-type=sandbox --annotation io.kubernetes.cri.sandbox-namespace=team
	has "error" "$output" wire "containerd:$LAB_NS" "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "no config file: the line names pool, caller and file" {
	# Without a policy the state directory is the default one.
	local had=no
	[[ ! -e /run/candor ]] || had=yes
	rm "$LAB_CONFIG"
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/resource-view=off
	has "error" "$output" wire "containerd:$LAB_NS" "$LAB_CONFIG"
	[[ $had == yes || ! -e /run/candor ]] || fail "the default state directory was made: $(ls /run/candor)"
}

# bats test_tags=guest-soak
@test "a config that anybody may write" {
	chmod 0666 "$LAB_CONFIG"
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "pool wire" "containerd:$LAB_NS" "$LAB_CONFIG" writ
}

# bats test_tags=guest-soak
@test "a config that its group may write" {
	chmod 0660 "$LAB_CONFIG"
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "$LAB_CONFIG" writ
}

# bats test_tags=guest-soak
@test "a config that is not root's" {
	chown 1000 "$LAB_CONFIG"
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "$LAB_CONFIG" root
	chown 0 "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "a mistyped key in the config: file, line and the key that was meant" {
	set_policy 's/^allow = /alow = /'
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "$LAB_CONFIG:$(grep -n '^alow' "$LAB_CONFIG" | cut -d: -f1)" alow allow
}

# bats test_tags=guest-soak
@test "config.d counts as well: a broken file there refuses" {
	mkdir -m 0755 "$LAB_DIR/etc/config.d"
	echo 'nonsense = 1' >"$LAB_DIR/etc/config.d/50-x.toml"
	chmod 0600 "$LAB_DIR/etc/config.d/50-x.toml"
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "$LAB_DIR/etc/config.d/50-x.toml" nonsense
}

# bats test_tags=guest-soak
@test "a policy that breaks keeps running containers as they are, and their NICs come back" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	echo 'this is = not [toml' | lab_write_config
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	has "meminfo" "$(cat_in c1 /proc/meminfo)" MemTotal
	lab_rm c1
	want_all_back 5
}

# bats test_tags=guest-soak
@test "a container that asks for nothing starts under a broken policy" {
	echo 'this is = not [toml' | lab_write_config
	run lab_run candor c1 --rm -- /bin/echo it-runs
	((status == 0)) || fail "$output"
	has "output" "$output" it-runs
}

# bats test_tags=guest-soak
@test "a limit above the policy's ceiling" {
	printf '\n[egress]\nmax_limit = "100M"\n' | cat "$LAB_DIR/config.before" - | lab_write_config
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=101M
	has "error" "$output" 101M 100M "containerd:$LAB_NS" "$LAB_CONFIG"
}

##### The NIC

# The four cases of a NIC that cannot be had; each prints its line.
# bats test_tags=guest-soak
@test "a MAC that is not on this node" {
	local mac
	mac=$(lab_mac)
	refused c1 --annotation "candor.dev/nic=pool=wire,mac=$mac"
	has "error" "$output" "$mac" "not on this node"
}

@test "a NIC that another container holds: the line names the holder, who keeps it" {
	start holder --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	run lab_run candor c1 --rm --annotation "$(nic "ip=$LAB_SUBNET.6/24")" -- /bin/echo it-runs
	((status != 0))
	equal "lines of the error" 1 "${#lines[@]}"
	has "error" "$output" "$LAB_MAC" "held by container holder"
	lab_exec holder /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	equal "records" 1 "$(lab_records | wc -l)"
}

# bats test_tags=guest-soak
@test "the same NIC twice in one container" {
	refused c1 --annotation "candor.dev/nics=[{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\"},{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\"}]"
	has "error" "$output" "$LAB_MAC" nics
}

@test "the NIC that carries the default route" {
	local mac
	mac=$(lab_node ip -j link show dev "$LAB_UPLINK" | jq -r '.[0].address')
	set_policy 's/^macs .*/macs = ["*"]/'
	refused c1 --annotation "candor.dev/nic=pool=wire,mac=$mac"
	has "error" "$output" "$mac" "$LAB_UPLINK" "default route"
	has "route" "$(lab_node ip route show default)" "dev $LAB_UPLINK"
}

@test "a NIC with a master" {
	lab_node ip link add candorbr type bridge
	lab_node ip link set "$LAB_NIC2" master candorbr
	run lab_run candor c1 --rm --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")" -- /bin/echo it-runs
	lab_node ip link del candorbr
	((status != 0))
	equal "lines of the error" 1 "${#lines[@]}"
	has "error" "$output" "$LAB_MAC2" "belongs to candorbr"
	nic2_is_back
}

@test "a NIC on which another interface sits" {
	lab_node ip link add mv0 link "$LAB_NIC2" type macvlan
	run lab_run candor c1 --rm --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")" -- /bin/echo it-runs
	lab_node ip link del mv0
	((status != 0))
	equal "lines of the error" 1 "${#lines[@]}"
	has "error" "$output" "$LAB_MAC2" mv0
}

# bats test_tags=guest-soak
@test "no selector" {
	refused c1 --annotation "candor.dev/nic=pool=wire,ip=$LAB_SUBNET.5/24"
	has "error" "$output" mac
}

# bats test_tags=guest-soak
@test "a NIC of the node that is none of the pool's" {
	local mac
	mac=$(lab_node ip -j link show dev "$LAB_UPLINK" | jq -r '.[0].address')
	refused c1 --annotation "candor.dev/nic=pool=wire,mac=$mac"
	has "error" "$output" "$mac" wire
}

# bats test_tags=guest-soak
@test "the reasons that a NIC cannot be had are told apart" {
	local mac uplink lines_seen=''
	mac=$(lab_mac)
	uplink=$(lab_node ip -j link show dev "$LAB_UPLINK" | jq -r '.[0].address')
	set_policy 's/^macs .*/macs = ["*"]/'
	for nic in "mac=$mac" "mac=$uplink" "ip=$LAB_SUBNET.5/24"; do
		refused c1 --annotation "candor.dev/nic=pool=wire,$nic"
		lines_seen+=$(sed -E "s/$mac|$uplink//g" <<<"$output")$'\n'
	done
	equal "different lines" 3 "$(sort -u <<<"$lines_seen" | grep -c .)"
}

##### The container

@test "the host's network namespace: no NIC" {
	refused c1 --net-host --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "host's network namespace"
}

@test "the host's network namespace: no limit, and the uplink keeps its qdisc" {
	local before
	before=$(lab_node tc qdisc show)
	refused c1 --net-host --annotation candor.dev/egress-limit=50M
	has "error" "$output" "host's network namespace"
	equal "qdiscs" "$before" "$(lab_node tc qdisc show)"
}

# bats test_tags=guest-soak
@test "pid 1's network namespace is the host's as well" {
	can_open /proc/1/ns/net || skip "pid 1's namespaces cannot be opened here: it has capabilities that root has not"
	refused c1 --with-ns network:/proc/1/ns/net --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	has "error" "$output" "host's network namespace"
}

##### The grammar

# bats test_tags=guest-soak
@test "an address outside the pool's subnets" {
	refused c1 --annotation "$(nic "ip=203.0.113.5/24")"
	has "error" "$output" 203.0.113.5 wire "$LAB_CONFIG"
}

# bats test_tags=guest-soak
@test "an IPv4 gateway for a NIC that has IPv6 only" {
	refused c1 --annotation "$(nic "ip=$(lab_subnet6 "$LAB_SUBNET")5/64,gateway=$LAB_PEER_IP")"
	has "error" "$output" "$LAB_PEER_IP"
}

# bats test_tags=guest-soak
@test "rates that are none: -1, 0, 10Z, and 100m with the one that was meant" {
	local rate
	for rate in -1 0 10Z 100m; do
		refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation "candor.dev/egress-limit=$rate"
		has "error" "$output" candor.dev/egress-limit "$rate"
	done
	has "suggestion" "$output" 100M
}

# bats test_tags=guest-soak
@test "an unknown key names the nearest known one" {
	refused c1 --annotation candor.dev/egres-limit=50M
	has "error" "$output" candor.dev/egres-limit candor.dev/egress-limit
}

# bats test_tags=guest-soak
@test "an unknown field of a NIC" {
	refused c1 --annotation "$(nic "gatway=$LAB_PEER_IP")"
	has "error" "$output" gatway gateway
}

# bats test_tags=guest-soak
@test "both nic and nics" {
	refused c1 --annotation "$(nic)" --annotation "candor.dev/nics=[{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\"}]"
	has "error" "$output" candor.dev/nics candor.dev/nic
}

# bats test_tags=guest-soak
@test "a name that no interface can have" {
	refused c1 --annotation "$(nic "interface=a-name-of-17-byte")"
	has "error" "$output" a-name-of-17-byte 15
}

# bats test_tags=guest-soak
@test "what comes later says so" {
	local key
	for key in egress-guarantee ingress-limit memory-request tuning volumes; do
		refused c1 --annotation "candor.dev/$key=1G"
		has "error" "$output" "candor.dev/$key" "not supported yet"
	done
}

# bats test_tags=guest-soak
@test "a VF's settings for a host NIC" {
	refused c1 --annotation "$(nic "vlan=100")"
	has "error" "$output" vlan
}
