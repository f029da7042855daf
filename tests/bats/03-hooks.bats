#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# The hooks, called by hand: twice, too early, too late, with nonsense. An exit
# status and one line; nothing breaks, nothing is taken from anybody.

load helpers

# hook NAME ARGUMENTS...: on the lab's node, the state on standard input.
hook() {
	local name=$1
	shift
	on_node "$LAB_BIN/candor-$name" --config "$LAB_CONFIG" "$@"
}

# attach: prestart-net as the shim would have it called.
attach() { hook prestart-net --caller "containerd:$LAB_NS"; }

# make_init starts a process with a network namespace of its own and makes a
# bundle that asks for the lab's NIC: $INIT and $BUNDLE.
make_init() {
	BUNDLE=$(nic_bundle hand)
	background unshare --net sleep 600
	INIT=$!
	lab_wait 3 own_network "$INIT"
}

own_network() { [[ $(readlink "/proc/$1/ns/net") != $(readlink /proc/self/ns/net) && $(cat "/proc/$1/comm") == sleep ]]; }

# state [ID] [PID] [BUNDLE]: the state JSON that a runtime writes.
state() {
	jq -n --arg id "${1:-hand}" --argjson pid "${2:-$INIT}" --arg bundle "${3:-$BUNDLE}" \
		'{ociVersion: "1.2.0", id: $id, status: (if $pid > 0 then "creating" else "stopped" end), bundle: $bundle} + if $pid > 0 then {pid: $pid} else {} end'
}

inside() { timeout -k 1 5 nsenter --target "$INIT" --net -- "$@"; }

end_init() {
	kill -KILL "$INIT"
	lab_wait 2 lab_dead "$INIT"
}

# one_line STATUS: what `run` saw was this exit status and one line.
one_line() {
	equal "exit status" "$1" "$status" || fail "$output" || return
	equal "lines" 1 "${#lines[@]}" || fail "$output"
}

untouched() { nic_is_back && nic2_is_back && no_records; }

@test "prestart-net attaches, poststop gives back" {
	make_init
	run attach <<<"$(state)"
	((status == 0)) || fail "$output"
	equal "output" "" "$output"
	has "address" "$(inside ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	equal "state" attached "$(record hand | jq -r .state)"
	end_init
	run hook poststop <<<"$(state hand 0)"
	((status == 0)) || fail "$output"
	equal "output" "" "$output"
	untouched
}

# bats test_tags=guest-soak
@test "prestart-net twice: the second finds the work done" {
	make_init
	attach <<<"$(state)"
	local before
	before=$(record hand)
	run attach <<<"$(state)"
	((status == 0)) || fail "$output"
	equal "record" "$before" "$(record hand)"
	equal "links inside" "lo net0" "$(inside ip -j link show | jq -r '[.[].ifname] | sort | join(" ")')"
	end_init
	hook poststop <<<"$(state hand 0)"
	untouched
}

# bats test_tags=guest-soak
@test "poststop twice, and once more" {
	make_init
	attach <<<"$(state)"
	end_init
	local i
	for i in 1 2 3; do
		run hook poststop <<<"$(state hand 0)"
		((status == 0)) || fail "call $i: $output"
		equal "output of call $i" "" "$output"
		untouched
	done
}

@test "two poststops at once" {
	make_init
	attach <<<"$(state)"
	end_init
	hook poststop <<<"$(state hand 0)" &
	local first=$!
	hook poststop <<<"$(state hand 0)"
	wait "$first"
	untouched
}

# bats test_tags=guest-soak
@test "poststop before any attach" {
	make_init
	run hook poststop <<<"$(state hand 0)"
	((status == 0)) || fail "$output"
	untouched
}

# bats test_tags=guest-soak
@test "poststop with an id that nobody knows" {
	make_init
	attach <<<"$(state)"
	run hook poststop <<<"$(state stranger 0)"
	((status == 0)) || fail "$output"
	has "address still" "$(inside ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	# The same id with another bundle is another container.
	run hook poststop <<<"$(state hand 0 /tmp/another/bundle)"
	((status == 0)) || fail "$output"
	has "address still" "$(inside ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	end_init
	hook poststop <<<"$(state hand 0)"
}

# bats test_tags=guest-soak
@test "poststop while the container lives takes nothing from it" {
	make_init
	attach <<<"$(state)"
	run hook poststop <<<"$(state hand 0)"
	((status == 0)) || fail "$output"
	has "address still" "$(inside ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	equal "state" attached "$(record hand | jq -r .state)"
	end_init
	hook poststop <<<"$(state hand 0)"
	untouched
}

# bats test_tags=guest-soak
@test "prestart-net for a pid that is no process" {
	make_init
	run attach <<<"$(state hand 4194303)"
	one_line 1
	has "error" "$output" candor-prestart-net hand 4194303
	untouched
}

# bats test_tags=guest-soak
@test "prestart-net for a process in the host's network" {
	make_init
	background nsenter --net="$LAB_NODE" -- sleep 600
	local shared=$!
	lab_wait 3 own_network "$shared"
	run attach <<<"$(state hand "$shared")"
	one_line 1
	has "error" "$output" "host's network namespace"
	if can_open /proc/1/ns/net; then
		run attach <<<"$(state hand 1)"
		one_line 1
		has "error" "$output" "host's network namespace"
	fi
	untouched
}

# bats test_tags=guest-soak
@test "without --caller nothing is granted" {
	make_init
	run hook prestart-net <<<"$(state)"
	one_line 1
	has "error" "$output" wire "$LAB_CONFIG" caller
	run hook prestart-net --caller "" <<<"$(state)"
	one_line 1
	untouched
}

# bats test_tags=guest-soak
@test "a caller that the state makes up does not count" {
	make_init
	run hook prestart-net <<<"$(state | jq --arg c "containerd:$LAB_NS" '.caller = $c | .annotations = {"candor.dev/caller": $c, "io.container.manager": "libpod"}')"
	one_line 1
	untouched
}

# bats test_tags=guest-soak
@test "garbage on standard input: each hook says one line" {
	make_init
	local name input
	for name in prestart-net prestart-lxcfs poststop; do
		for input in '' 'not json' '[]' '"text"' '{"id": "hand"' '{}' '{"id":"hand"}' '{"id":5,"pid":1,"bundle":"/x"}' \
			'{"id":"../../etc","pid":1,"bundle":"/x"}' '{"id":"a/b","pid":1,"bundle":"/x"}' '{"id":"hand","pid":1,"bundle":"relative"}' \
			'{"id":"hand","pid":"1","bundle":"/x"}' $'{"id":"ha\nnd","pid":1,"bundle":"/x"}' '{"id":"hand","pid":-5,"bundle":""}'; do
			run hook "$name" --caller "containerd:$LAB_NS" <<<"$input"
			one_line 1 || fail "$name with: $input"
			has "$name" "$output" "candor-$name"
		done
		run hook "$name" --caller "containerd:$LAB_NS" </dev/urandom
		one_line 1 || fail "$name with /dev/urandom"
	done
	untouched
}

# bats test_tags=guest-soak
@test "more input than a state can have" {
	make_init
	local name
	state | jq --arg fill "$(head -c 60000 /dev/zero | tr '\0' x)" '.annotations = ([range(40)] | map({key: "a\(.)", value: $fill}) | from_entries)' >"$BATS_TEST_TMPDIR/big"
	(($(stat -c %s "$BATS_TEST_TMPDIR/big") > 2000000))
	for name in prestart-net prestart-lxcfs poststop; do
		run hook "$name" --caller "containerd:$LAB_NS" <"$BATS_TEST_TMPDIR/big"
		one_line 1 || fail "$name"
	done
	untouched
}

# bats test_tags=guest-soak
@test "arguments that a hook does not know, or that lack their value" {
	local name
	for name in prestart-net prestart-lxcfs poststop; do
		run hook "$name" --nonsense </dev/null
		one_line 2
		has "error" "$output" --nonsense
		run hook "$name" --caller </dev/null
		one_line 2
		has "error" "$output" --caller
	done
}

# wants_own_config COMMAND...: the command spoils BUNDLE/config.json; then the
# hooks that read it say so.
wants_own_config() {
	local name
	"$@"
	for name in prestart-net prestart-lxcfs; do
		run hook "$name" --caller "containerd:$LAB_NS" <<<"$(state)"
		one_line 1 || return
		has "$name" "$output" config.json || return
	done
	untouched
}

# bats test_tags=guest-soak
@test "config.json is a symbolic link" {
	make_init
	mv "$BUNDLE/config.json" "$BUNDLE/real.json"
	wants_own_config ln -s real.json "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is another user's" {
	make_init
	wants_own_config chown 1000 "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is one that others may write" {
	make_init
	wants_own_config chmod 0666 "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is a fifo, on which nobody may wait" {
	make_init
	rm "$BUNDLE/config.json"
	wants_own_config mkfifo -m 0600 "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is a directory" {
	make_init
	rm "$BUNDLE/config.json"
	wants_own_config mkdir "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is not there" {
	make_init
	wants_own_config rm "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is no JSON" {
	make_init
	wants_own_config sed -i 's/{//' "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "config.json is larger than any" {
	make_init
	wants_own_config truncate -s 9M "$BUNDLE/config.json"
}

# bats test_tags=guest-soak
@test "poststop gives back under a broken policy, when it is told the state directory" {
	make_init
	attach <<<"$(state)"
	end_init
	echo 'not toml [' | lab_write_config
	run hook poststop --state-dir "$LAB_STATE" <<<"$(state hand 0)"
	((status == 0)) || fail "$output"
	untouched
}

# bats test_tags=guest-soak
@test "runc alone, with each hook written twice into config.json: all is done once" {
	local bundle
	bundle=$(nic_bundle twice --arg bin "$LAB_BIN" --arg config "$LAB_CONFIG" --arg caller "containerd:$LAB_NS" '
		def hook($name): {path: ($bin + "/" + $name), args: [$name, "--config", $config, "--caller", $caller], timeout: 10};
		.linux.resources.memory.limit = 134217728
		| .hooks = {createRuntime: [hook("candor-prestart-net", "candor-prestart-net", "candor-prestart-lxcfs", "candor-prestart-lxcfs")],
			poststop: [hook("candor-poststop", "candor-poststop")]}')
	plain_runc run --detach --bundle "$bundle" twice </dev/null >/dev/null
	local pid
	pid=$(plain_pid twice)
	has "address" "$(timeout 5 nsenter -t "$pid" -n -- ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	has "meminfo" "$(plain_runc exec twice /bin/cat /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	equal "meminfo's mounts" 1 "$(grep -c ' /proc/meminfo ' "/proc/$pid/mountinfo")"
	plain_runc delete --force twice
	want_all_back 2
}

# A unit with PrivateMounts= or ProtectSystem= gives its engine mounts of its own, in
# which what the engine's processes mount dies with them.
@test "an engine with mounts of its own: the NIC comes and goes, whoever calls poststop" {
	can_open /proc/1/ns/mnt || skip "pid 1's namespaces cannot be opened here: it has capabilities that root has not"
	make_init
	local private=(on_node unshare --mount --propagation private) where
	for where in inside outside; do
		"${private[@]}" "$LAB_BIN/candor-prestart-net" --config "$LAB_CONFIG" --caller "containerd:$LAB_NS" <<<"$(state)"
		has "address" "$(inside ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
		# As all the others see it.
		has "pins" "$(candor_mounts)" "pin $(record hand | jq -r .key)"
		has "list" "$(candor list)" hand attached
		run hook poststop <<<"$(state hand 0)"
		equal "address of the living" "$LAB_SUBNET.5" "$(inside ip -j -4 addr show dev net0 | jq -r '.[0].addr_info[0].local')"
		end_init
		if [[ $where == inside ]]; then
			"${private[@]}" "$LAB_BIN/candor-poststop" --config "$LAB_CONFIG" <<<"$(state hand 0)"
		else
			hook poststop <<<"$(state hand 0)"
		fi
		untouched
		equal "pins" "" "$(candor_mounts | grep -v '^view' || true)"
		make_init
	done
}
