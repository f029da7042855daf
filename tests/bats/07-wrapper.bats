#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# candor-runc: below containerd's own runc shim, and called as runc is called.

load helpers

setup() {
	local why
	why=$(missing)
	[[ -z $why ]] || skip "$(paste -sd';' <<<"$why")"
	load_lab
	# Whoever calls the wrapper without a word about it is "runc".
	set_policy 's/^allow = .*/allow = ["runc"]/'
	cp -p "$LAB_CONFIG" "$LAB_DIR/config.wrapper"
}

# below_runc ID FLAGS... -- COMMAND...: ctr with runc's shim and the wrapper.
below_runc() {
	local id=$1
	shift
	lab_run runc "$id" --runc-binary "$LAB_BIN/candor-runc" "$@"
}

candor_start() { below_runc "$1" --detach --null-io "${@:2}" -- /bin/sleep 600; }

@test "ctr run --runc-binary candor-runc: NIC, view and limit, and all of it back" {
	candor_start c1 --memory-limit 134217728 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	has "address" "$(in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	has "limit" "$(in_net c1 tc qdisc show dev net0 root)" htb
	has "meminfo" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	equal "caller" runc "$(record c1 | jq -r .caller)"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	lab_rm c1
	want_all_back 2
}

# bats test_tags=guest-soak
@test "the wrapper's caller is not one of containerd's" {
	set_policy "s/^allow = .*/allow = [\"containerd:$LAB_NS\"]/"
	run below_runc c1 --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" -- /bin/echo it-runs
	((status != 0))
	equal "lines of the error" 1 "${#lines[@]}" || fail "$output"
	has "error" "$output" wire runc "$LAB_CONFIG"
	nic_is_back
	no_records
}

# bats test_tags=guest-soak
@test "--candor-caller binds another one" {
	set_policy 's/^allow = .*/allow = ["docker"]/'
	local bundle
	bundle=$(nic_bundle plain)
	run candor_runc run --bundle "$bundle" plain </dev/null
	((status != 0))
	on_node "$LAB_BIN/candor-runc" --candor-caller=docker --root "$LAB_DIR/runc-plain" run --detach --bundle "$bundle" plain </dev/null >/dev/null
	equal "caller" docker "$(record plain | jq -r .caller)"
	candor_runc delete --force plain
	want_all_back 2
}

# bats test_tags=guest-soak
@test "exit status and output of a container go through" {
	run below_runc c1 --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" -- /bin/sh -c 'echo out; exit 42'
	equal "exit status" 42 "$status"
	equal "output" out "$output"
	want_all_back 2
}

@test "plain calls: create, state, start, exec, kill, delete" {
	local bundle pid
	bundle=$(nic_bundle plain '.linux.resources.memory.limit = 134217728')
	candor_runc create --bundle "$bundle" --pid-file "$BATS_TEST_TMPDIR/pid" plain </dev/null >"$BATS_TEST_TMPDIR/out" 2>&1 || fail "$(<"$BATS_TEST_TMPDIR/out")"
	equal "output of create" "" "$(<"$BATS_TEST_TMPDIR/out")"
	pid=$(<"$BATS_TEST_TMPDIR/pid")
	equal "status" created "$(candor_runc state plain | jq -r .status)"
	has "address" "$(timeout 5 nsenter -t "$pid" -n -- ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	candor_runc start plain
	has "meminfo" "$(candor_runc exec plain /bin/sh -c 'read -r l </proc/meminfo; echo $l')" "MemTotal: 131072 kB"
	has "list" "$(candor_runc list)" plain running
	candor_runc kill plain KILL
	lab_wait 3 lab_dead "$pid"
	run candor_runc delete plain
	((status == 0)) || fail "$output"
	equal "output of delete" "" "$output"
	want_all_back 1
}

# in_dir DIR COMMAND...: in a subshell, for a test's own directory is in the
# environment of all that it starts, and that is how the lab knows its processes.
in_dir() { (cd "$1" && shift && "$@"); }

# bats test_tags=guest-soak
@test "run, in the bundle's own directory" {
	local bundle
	bundle=$(nic_bundle here '.process.args = ["/sbin/ip", "-o", "-4", "addr", "show", "net0"]')
	run in_dir "$bundle" candor_runc run here </dev/null
	((status == 0)) || fail "$output"
	has "output" "$output" "$LAB_SUBNET.5/24"
	want_all_back 2
}

# bats test_tags=guest-soak
@test "a container that is called create" {
	local bundle
	bundle=$(nic_bundle create)
	candor_runc run --detach --bundle "$bundle" create </dev/null >/dev/null
	equal "status" running "$(candor_runc state create | jq -r .status)"
	has "address" "$(timeout 5 nsenter -t "$(plain_pid create)" -n -- ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	candor_runc delete --force create
	want_all_back 2
}

# bats test_tags=guest-soak
@test "what is not for the wrapper is runc's, word for word" {
	local words
	for words in --version "--help" "features" "state nosuch" "list --format json" "create --help" "nosuchcommand" "--nosuchflag"; do
		# shellcheck disable=SC2086
		run plain_runc $words
		local want_status=$status want=$output
		# shellcheck disable=SC2086
		run candor_runc $words
		equal "exit status of $words" "$want_status" "$status"
		equal "output of $words" "$(without_time <<<"$want")" "$(without_time <<<"$output")"
	done
}

without_time() { sed 's/time="[^"]*"//'; }

# bats test_tags=guest-soak
@test "standard output is runc's alone, also when the wrapper refuses" {
	local bundle out
	bundle=$(nic_bundle plain '.annotations["candor.dev/nic"] = "pool=nosuch,mac=02:00:00:00:00:01"')
	out=$(candor_runc create --bundle "$bundle" plain </dev/null 2>"$BATS_TEST_TMPDIR/err") && fail "it was created"
	equal "standard output" "" "$out"
	equal "lines of the error" 1 "$(wc -l <"$BATS_TEST_TMPDIR/err")"
	has "error" "$(<"$BATS_TEST_TMPDIR/err")" nosuch runc "$LAB_CONFIG"
	run candor_runc state plain
	((status != 0))
}

# bats test_tags=guest-soak
@test "an error is in runc's log too, as JSON where runc was asked for it" {
	local bundle log=$BATS_TEST_TMPDIR/log.json
	bundle=$(nic_bundle plain '.annotations["candor.dev/nic"] = "pool=nosuch,mac=02:00:00:00:00:01"')
	run on_node "$LAB_BIN/candor-runc" --root "$LAB_DIR/runc-plain" --log "$log" --log-format json create --bundle "$bundle" plain </dev/null
	((status != 0))
	equal "level" error "$(jq -rs '.[-1].level' "$log")"
	has "msg" "$(jq -rs '.[-1].msg' "$log")" nosuch "$LAB_CONFIG"
	[[ $(jq -rs '.[-1].time' "$log") =~ ^2[0-9]{3}- ]]
}

# bats test_tags=guest-soak
@test "a hook's refusal reaches the caller through runc, in one line that names the matter" {
	local bundle
	bundle=$(nic_bundle plain '.annotations["candor.dev/nic"] = "pool=wire,mac=02:00:00:00:00:01"')
	run candor_runc create --bundle "$bundle" plain </dev/null
	((status != 0))
	has "error" "$output" 02:00:00:00:00:01 "not on this node"
	no_records
	nic_is_back
}

# bats test_tags=guest-soak
@test "a spec that asks for nothing stays byte for byte, and patching twice is patching once" {
	local bundle before
	bundle=$(make_bundle plain '.annotations["candor.dev/resource-view"] = "off"')
	before=$(sha256sum "$bundle/config.json")
	candor_runc run --detach --bundle "$bundle" plain </dev/null >/dev/null
	candor_runc delete --force plain
	equal "untouched spec" "$before" "$(sha256sum "$bundle/config.json")"
	bundle=$(nic_bundle again)
	candor_runc run --detach --bundle "$bundle" again </dev/null >/dev/null
	candor_runc delete --force again
	before=$(jq -S 'del(.linux.timeOffsets)' "$bundle/config.json")
	candor_runc run --detach --bundle "$bundle" again </dev/null >/dev/null
	candor_runc delete --force again
	equal "spec that was patched before" "$before" "$(jq -S 'del(.linux.timeOffsets)' "$bundle/config.json")"
	want_all_back 2
}

# bats test_tags=guest-soak
@test "without runc in PATH: one line" {
	run env PATH=/nonexistent CANDOR_CONFIG="$LAB_CONFIG" "$LAB_BIN/candor-runc" list
	((status != 0))
	equal "lines" 1 "${#lines[@]}"
	has "error" "$output" candor-runc runc CANDOR_RUNC
}

@test "shim and wrapper together: candor's hooks run once" {
	# Each of the two asks the policy; who was bound first is who it is.
	set_policy "s/^allow = .*/allow = [\"containerd:$LAB_NS\", \"runc\"]/"
	# Also a way to hand runc's own options to the shim.
	echo "BinaryName = '$LAB_BIN/candor-runc'" >"$LAB_DIR/etc/options.toml"
	start c1 --runtime-config-path "$LAB_DIR/etc/options.toml" --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	equal "createRuntime hooks" 2 "$(jq '.hooks.createRuntime | length' "$(bundle_of c1)/config.json")"
	equal "caller" "containerd:$LAB_NS" "$(record c1 | jq -r .caller)"
	lab_rm c1
	want_all_back 2
}
