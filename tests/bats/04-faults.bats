#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031
# Faults, made and not imagined: what is killed in the middle of its work, what
# fails half way, what has the same name. NICs come back, readers notice nothing.

load helpers

ask_all() {
	printf '%s\n' --annotation "$(nic "ip=$LAB_SUBNET.5/24,gateway=$LAB_PEER_IP")" --annotation candor.dev/egress-limit=50M
}

# runc_create prints the pid of the `runc create` under way.
runc_create() {
	local pid
	for pid in $(running runc); do
		[[ " $(tr '\0' ' ' <"/proc/$pid/cmdline") " == *" create "* ]] && printf '%s\n' "$pid"
	done
	return 0
}

hook_pids() { running candor-prestart-net; }

runs() { [[ -n $("$@") ]]; }

##### A transaction that fails half way

# bats test_tags=guest-soak
@test "the second of two NICs finds its name taken in the container: the first is back" {
	ip netns add "$LAB_ID-taken"
	ip -n "$LAB_ID-taken" link add net1 type veth peer name other
	refused c1 --with-ns "network:/run/netns/$LAB_ID-taken" --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"]},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"]}]"
	has "error" "$output" net1
	equal "links of that namespace" "lo net1 other" "$(ip -n "$LAB_ID-taken" -j link show | jq -r '[.[].ifname] | sort | join(" ")')"
	ip netns del "$LAB_ID-taken"
}

# bats test_tags=guest-soak
@test "the second of two NICs has a bad gateway: the first is back" {
	# A network that has a default route: the first NIC is in when that is met.
	local joined=$LAB_ID-joined
	ip netns add "$joined"
	ip -n "$joined" link add there type veth peer name here
	ip -n "$joined" addr add 192.0.2.1/30 dev here
	ip -n "$joined" link set there up
	ip -n "$joined" link set here up
	ip -n "$joined" route add default via 192.0.2.2
	local before
	before=$(ip -n "$joined" -o link | wc -l)
	refused c1 --with-ns "network:/run/netns/$joined" --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"]},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"],\"gateway\":[\"$LAB_SUBNET2.1\"],\"default-route\":true}]"
	has "error" "$output" "$LAB_MAC2" "default route"
	equal "interfaces inside" "$before" "$(ip -n "$joined" -o link | wc -l)"
	ip netns del "$joined"
}

# bats test_tags=guest-soak
@test "a gateway that is the NIC's own address: nothing is changed" {
	refused c1 --annotation "candor.dev/nics=[
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\",\"ips\":[\"$LAB_SUBNET2.5/24\"]},
		{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.5/24\"],\"gateway\":[\"$LAB_SUBNET.5\"]}]"
	has "error" "$output" "$LAB_SUBNET.5"
}

# bats test_tags=guest-soak
@test "a state directory without room for a record: nothing is touched" {
	mkdir -p "$LAB_DIR/full"
	mount -t tmpfs -o size=64k tmpfs "$LAB_DIR/full"
	set_policy "s|^state_dir.*|state_dir = \"$LAB_DIR/full/state\"|"
	# Once with room, so that the directory is there.
	lab_run candor c1 --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/resource-view=off -- /bin/true
	nic_is_back
	head -c 70000 /dev/zero >"$LAB_DIR/full/fill" 2>/dev/null || true
	refused c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/resource-view=off
	has "error" "$output" "no space left"
	rm "$LAB_DIR/full/fill"
	lab_run candor c1 --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/resource-view=off -- /bin/true
	nic_is_back
}

##### runc and the hook are killed

# bats test_tags=guest-soak
@test "kill -9 of runc while prestart-net waits for the allocator: the hook undoes its own work" {
	local flags
	mapfile -t flags < <(ask_all)
	exec 9>"$LAB_STATE/lock"
	flock --timeout 5 9
	background start c1 "${flags[@]}" 9>&-
	lab_wait 5 runs hook_pids
	lab_wait 5 runs runc_create
	kill -KILL "$(runc_create)"
	sleep 0.1
	exec 9>&-
	lab_wait 5 no_hook
	want_all_back 6
	remove c1
	forget_cgroups
}

no_hook() { ! runs hook_pids; }

# kill_at STEP WHOM: a container's prestart-net is stopped right after its
# STEP-th fsync(2); each record that it writes takes two, one before and one after
# the rename. There runc, or runc and the hook, are killed.
kill_at() {
	local step=$1 whom=$2 flags pid bin=$LAB_DIR/slow-bin trace=$LAB_DIR/log/trace
	rm -rf "$bin" "$trace"
	mkdir -p "$bin"
	ln -s "$LAB_BIN"/{candord,candor-prestart-lxcfs,candor-poststop} "$bin/"
	cat >"$bin/candor-prestart-net" <<-EOF_HOOK
		#!/bin/sh
		exec strace -f -qq -o $trace -e trace=fsync -e inject=fsync:signal=STOP:when=$step $LAB_BIN/candor-prestart-net "\$@"
	EOF_HOOK
	chmod 0755 "$bin/candor-prestart-net"
	set_policy "s|^bin_dir.*|bin_dir = \"$bin\"|"
	mapfile -t flags < <(ask_all)
	background start c1 "${flags[@]}"
	lab_wait 8 grep -q 'stopped by SIGSTOP' "$trace" || fail "the hook was not stopped" || return
	pid=$(hook_pids)
	"at_step_$step" || fail "step $step is another one now" || return
	if [[ $whom == both ]]; then
		# The hook, before its tracer lets it go.
		kill -KILL "$(runc_create)" "$pid" || return
	else
		kill -KILL "$(runc_create)" || return
		kill -CONT "$pid"
	fi
	# A hook that lives on ends by itself, and undoes its work.
	lab_wait 8 no_hook || fail "the hook does not end" || return
	want_all_back 6 || return
	remove c1
	forget_cgroups
}

# at_step_N: what is so at that step, and not so at the one before.
at_step_2() { [[ $(of_record .state) == intent ]] && nic_is_back; }
at_step_3() { ! lab_node ip link show dev "$LAB_NIC" 2>/dev/null && [[ $(of_record '.nics[0].inner_index') == null ]]; }
at_step_4() { [[ $(of_record '.nics[0].inner_index') != null ]] && in_net_of_record c1 ip link show dev "$(of_record '.nics[0].transient_name')"; }
at_step_5() { in_net_of_record c1 ip -4 addr show dev net0 up | grep -qF "$LAB_SUBNET.5/24" && [[ $(of_record .egress.devices) == null ]]; }
at_step_6() { [[ $(of_record '.egress.devices[0].name') == net0 ]] && ! in_net_of_record c1 tc qdisc show dev net0 root | grep -q htb; }
at_step_7() { in_net_of_record c1 tc qdisc show dev net0 root | grep -q htb && [[ $(of_record .state) == intent ]]; }
at_step_8() { [[ $(of_record .state) == attached ]]; }
of_record() { record c1 | jq -r "$1"; }

needs_strace() {
	command -v strace >/dev/null || skip "needs strace (make setup-test)"
	strace -qq -o /dev/null -e trace=none true 2>/dev/null || skip "strace cannot trace here"
}

# bats test_tags=guest-soak
@test "kill -9 of runc alone, with the NIC moved: the hook undoes its own work" {
	needs_strace
	kill_at 3 runc
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the intent is written, nothing is done" {
	needs_strace
	kill_at 2 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the NIC is moved, its new index not recorded" {
	needs_strace
	kill_at 3 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the NIC has its transient name" {
	needs_strace
	kill_at 4 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the NIC is in place, without the limit" {
	needs_strace
	kill_at 5 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the limit is announced" {
	needs_strace
	kill_at 6 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: the limit is in place, the last record is not" {
	needs_strace
	kill_at 7 both
}

# bats test_tags=guest-soak
@test "kill -9 of runc and prestart-net: all is in place and recorded" {
	needs_strace
	kill_at 8 both
}

##### The shim, containerd

# bats test_tags=guest-soak
@test "kill -9 of the shim: containerd cleans up, the NIC is back" {
	local flags pid
	mapfile -t flags < <(ask_all)
	start c1 "${flags[@]}"
	pid=$(lab_pid c1)
	kill -KILL "$(shim_of c1)"
	lab_wait 10 lab_dead "$pid" || fail "the container lives on"
	want_all_back 6
}

# bats test_tags=guest-soak
@test "kill -9 of containerd: the container keeps all that it has" {
	local flags
	mapfile -t flags < <(ask_all)
	start c1 "${flags[@]}" --memory-limit 134217728
	kill_containerd
	has "address" "$(in_net_of_record c1 ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	lab_containerd_up 3>&- 4>&-
	lab_wait 10 lab_exec c1 /bin/true
	has "meminfo" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	lab_rm c1
	want_all_back 2
}

kill_containerd() {
	local pid
	pid=$(running containerd)
	kill -KILL "$pid"
	lab_wait 3 lab_dead "$pid"
}

# in_net_of_record: in_net for when containerd cannot be asked.
in_net_of_record() {
	local pid
	pid=$(record "$1" | jq .owner.pid)
	shift
	timeout -k 1 5 nsenter --target "$pid" --net -- "$@"
}

# bats test_tags=guest-soak
@test "kill -9 of containerd and the shim: once containerd is up again the NIC is back" {
	local flags pid
	mapfile -t flags < <(ask_all)
	start c1 "${flags[@]}"
	pid=$(lab_pid c1)
	local shim
	shim=$(shim_of c1)
	kill_containerd
	kill -KILL "$shim"
	# The container lives on, so that nothing is taken from it.
	sleep 1.5
	[[ -d /proc/$pid ]]
	has "address" "$(in_net_of_record c1 ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	lab_containerd_up 3>&- 4>&-
	lab_wait 15 lab_dead "$pid" || fail "the container lives on"
	want_all_back 6
}

# bats test_tags=guest-soak
@test "kill -9 of containerd before it knows its new shim: the shim leaves by itself" {
	# A shim whose start is answered by nobody: what containerd runs ends it first.
	cat >"$LAB_BIN/containerd-shim-orphan-v1" <<-'EOF'
		#!/bin/sh
		answer=$(containerd-shim-candor-v1 "$@") || exit
		case " $* " in *" start "*) kill -KILL "$PPID" ;; esac
		printf '%s' "$answer"
	EOF
	chmod +x "$LAB_BIN/containerd-shim-orphan-v1"
	run lab_ctr run --runtime io.containerd.orphan.v1 --detach --null-io --rootfs "$LAB_DIR/rootfs" c1 /bin/sleep 600
	lab_dead "$LAB_CONTAINERD_PID" || fail "containerd lives on"
	[[ -n $(shim_of c1) ]] || fail "no shim was started"
	lab_containerd_up 3>&- 4>&-
	lab_rm c1
	lab_wait 10 no_shims || fail "a shim stays: $(lab_command "$(shim_of c1)")"
	rm "$LAB_BIN/containerd-shim-orphan-v1"
}

@test "kill -9 of containerd, the shim and the container: candord gives back by itself" {
	local flags pid shim
	mapfile -t flags < <(ask_all)
	start c1 "${flags[@]}"
	pid=$(lab_pid c1) shim=$(shim_of c1)
	kill_containerd
	kill -KILL "$shim" "$pid"
	want_all_back 5
}

# bats test_tags=guest-soak
@test "kill -9 of the same, and candord too: candor gc gives back without any of them" {
	local flags pid shim
	mapfile -t flags < <(ask_all)
	start c1 "${flags[@]}"
	pid=$(lab_pid c1) shim=$(shim_of c1)
	kill_candord supervisor worker
	kill_containerd
	kill -KILL "$shim" "$pid"
	sleep 2
	run candor gc --dry-run
	((status == 0)) || fail "$output"
	has "dry run" "$output" c1 "$LAB_NIC" "$LAB_MAC"
	equal "records" 1 "$(lab_records | wc -l)"
	run candor gc
	((status == 0)) || fail "$output"
	has "gc" "$output" c1 "$LAB_NIC"
	want_all_back 1
}

##### candord

# read_for SECONDS: a container c1 with a limit in which eight readers read.
# Four open, read and close in a shell's own process; four start cat each time.
start_readers() {
	rm -rf "$LAB_DIR/rootfs/tmp/readers"
	mkdir -p "$LAB_DIR/rootfs/tmp/readers"
	cat >"$LAB_DIR/rootfs/tmp/readers.sh" <<-'EOF_READERS'
		cd /tmp/readers
		quick() {
			n=0
			while [ ! -e stop ]; do
				for f in meminfo:MemTotal: stat:cpu cpuinfo:processor; do
					line=
					read -r line <"/proc/${f%%:*}" || echo "open or read of ${f%%:*}" >>errors
					case $line in ${f#*:}*) ;; *) echo "${f%%:*} said: $line" >>errors ;; esac
				done
				n=$((n + 1))
			done
			echo "$n" >"count.$1"
		}
		whole() {
			n=0
			while [ ! -e stop ]; do
				out=$(grep -h "" /proc/meminfo /proc/stat /sys/devices/system/cpu/online 2>>errors) || echo "grep failed" >>errors
				case $out in *"MemTotal:         131072 kB"*softirq*) ;; *) echo "grep said: $out" | head -n 3 >>errors ;; esac
				n=$((n + 1))
			done
			echo "$n" >"count.$1"
		}
		for i in 1 2 3 4; do quick $i & done
		for i in 5 6 7 8; do whole $i & done
		wait
		touch done
		exec sleep 600
	EOF_READERS
	lab_run candor c1 --detach --null-io --memory-limit 134217728 -- /bin/sh /tmp/readers.sh
	lab_wait 5 cat_in c1 /proc/meminfo
}

# end_readers COUNT: the readers made no error, and at least so many rounds each.
end_readers() {
	local dir=$LAB_DIR/rootfs/tmp/readers i
	touch "$dir/stop"
	lab_wait 5 test -e "$dir/done" || {
		free_readers
		fail "readers hang"
	} || return
	[[ ! -s $dir/errors ]] || fail "readers noticed: $(sort "$dir/errors" | uniq -c | head -5)" || return
	for i in 1 2 3 4 5 6 7 8; do
		(($(<"$dir/count.$i") >= $1)) || fail "reader $i read $(<"$dir/count.$i") times" || return
	done
	echo "rounds: $(cat "$dir"/count.* | paste -sd' ')"
}

# bats test_tags=guest-soak
@test "kill -9 of candord's worker, again and again, while eight readers read" {
	start_readers
	local i worker
	for i in $(seq 12); do
		worker=$(candord_pid worker)
		kill_candord worker
		sleep 0.3
		lab_wait 3 new_worker "$worker" || fail "no new worker after $worker"
	done
	end_readers 20
}

# bats test_tags=guest-soak
@test "candord reload, again and again, while eight readers read" {
	start_readers
	local i supervisor worker
	supervisor=$(candord_pid supervisor)
	for i in $(seq 6); do
		worker=$(candord_pid worker)
		run "$LAB_BIN/candord" reload --config "$LAB_CONFIG"
		((status == 0)) || fail "$output"
		[[ $output =~ ^reloaded:\ version\ [^\ ]+,\ generation\ ([0-9]+)\ -\>\ version\ [^\ ]+,\ generation\ ([0-9]+)$ ]] || fail "$output"
		((BASH_REMATCH[2] == BASH_REMATCH[1] + 1)) || fail "$output"
		new_worker "$worker" || fail "worker $worker stays"
		lab_dead "$worker" || fail "worker $worker lives"
	done
	equal "supervisor" "$supervisor" "$(candord_pid supervisor)"
	end_readers 20
}

new_worker() {
	local pid
	pid=$(candord_pid worker)
	[[ $pid != "$1" && -d /proc/$pid ]]
}

@test "a worker that hangs (SIGSTOP) is replaced, and readers wait for it only shortly" {
	start_readers
	local worker
	worker=$(candord_pid worker)
	kill -STOP "$worker"
	lab_wait 20 new_worker "$worker" || {
		kill -CONT "$worker"
		fail "the worker that hangs stays"
	}
	sleep 1
	end_readers 5
}

# bats test_tags=guest-soak
@test "kill -9 of the supervisor alone: the worker serves on, the next container start brings another" {
	start_readers
	local worker
	worker=$(candord_pid worker)
	kill_candord supervisor
	sleep 1
	equal "worker" "$worker" "$(candord_pid worker)"
	start c2 --memory-limit 67108864
	has "c2" "$(cat_in c2 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	[[ $(readlink "/proc/$(candord_pid supervisor)/exe") == */candord* ]] || fail "no new supervisor"
	# The new one holds all that is needed to replace the worker.
	worker=$(candord_pid worker)
	kill_candord worker
	lab_wait 3 new_worker "$worker" || fail "no new worker"
	sleep 0.5
	end_readers 20
}

# bats test_tags=guest-soak
@test "kill -9 of supervisor and worker: the next container start heals the running ones" {
	start c1 --memory-limit 134217728
	kill_candord supervisor worker
	run cat_in c1 /proc/meminfo
	((status != 0))
	start c2 --memory-limit 67108864
	has "c2" "$(cat_in c2 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	lab_wait 5 healed || fail "c1: $(cat_in c1 /proc/meminfo 2>&1 | head -2)"
	has "online" "$(cat_in c1 /sys/devices/system/cpu/online)" 0
	has "a new exec" "$(lab_exec c1 /usr/bin/head -n 1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	# Once more: what heals once must heal twice.
	kill_candord supervisor worker
	start c3 --memory-limit 67108864
	lab_wait 5 healed || fail "c1, second time: $(cat_in c1 /proc/meminfo 2>&1 | head -2)"
}

healed() { [[ $(cat_in c1 /proc/meminfo | tr -s ' ') == *"MemTotal: 131072 kB"* ]]; }

# bats test_tags=guest-soak
@test "kill -9 of supervisor and worker: candor remount heals the running ones, once" {
	start c1 --memory-limit 134217728
	start c2 --memory-limit 67108864
	kill_candord supervisor worker
	run cat_in c1 /proc/meminfo
	((status != 0))
	run candor remount
	((status == 0)) || fail "$output"
	has "remount" "$output" "c1: " "c2: "
	healed || fail "c1: $(cat_in c1 /proc/meminfo 2>&1 | head -2)"
	has "c2" "$(cat_in c2 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	local supervisor worker
	supervisor=$(candord_pid supervisor) worker=$(candord_pid worker)
	run candor remount
	((status == 0)) || fail "$output"
	has "remount, again" "$output" "c1: nothing to mend" "c2: nothing to mend"
	equal "candord" "$supervisor $worker" "$(candord_pid supervisor) $(candord_pid worker)"
}

# bats test_tags=guest-soak
@test "eight containers that start while nobody serves: one candord, and all have the view" {
	kill_candord supervisor worker
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		start "many$i" --memory-limit "$((i * 67108864))" 3>&- 4>&- &
		pids+=("$!")
	done
	for i in "${pids[@]}"; do wait "$i" || fail "one of them did not start"; done
	for i in 1 2 3 4 5 6 7 8; do
		has "many$i" "$(cat_in "many$i" /proc/meminfo | tr -s ' ')" "MemTotal: $((i * 65536)) kB"
	done
	equal "candord processes" 2 "$(running candord | wc -l)"
}

##### The same id

# bats test_tags=guest-soak
@test "the same id in two of containerd's namespaces: two records, two NICs" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --memory-limit 134217728
	LAB_NS=$LAB_NS-b start c1 --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")" --memory-limit 67108864
	equal "records" 2 "$(lab_records | wc -l)"
	run candor inspect c1
	((status != 0))
	has "error" "$output" "2 containers are called c1"
	has "first" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 131072 kB"
	has "second" "$(LAB_NS=$LAB_NS-b cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	lab_rm c1
	nic_is_back
	has "second still" "$(LAB_NS=$LAB_NS-b in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET2.5/24"
	has "second still" "$(LAB_NS=$LAB_NS-b cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	LAB_NS=$LAB_NS-b lab_rm c1
	want_all_back 2
}

# bats test_tags=guest-soak
@test "the same id again right after a kill -9, through containerd" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	local pid shim
	pid=$(lab_pid c1) shim=$(shim_of c1)
	kill -KILL "$shim" "$pid"
	# Until containerd has seen it the id is taken; then at once.
	lab_wait 8 start_again || fail "$(start_again 2>&1)"
	has "address" "$(in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET.6/24"
	# Late cleaners of the old one: give them time to do harm.
	sleep 2.5
	has "address still" "$(in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET.6/24"
	equal "owner" "$(lab_pid c1)" "$(record c1 | jq .owner.pid)"
	lab_rm c1
	want_all_back 2
}

start_again() {
	lab_ctr container rm c1 >/dev/null 2>&1
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.6/24")"
}

# bats test_tags=guest-soak
@test "the same id and bundle again right after a kill -9; the old one's late poststop touches nothing" {
	local bundle old
	bundle=$(nic_bundle same)
	set_policy 's/^allow = .*/allow = ["runc"]/'
	LAB_RUNC_ROOT=$LAB_DIR/runc-old candor_runc run --detach --bundle "$bundle" same </dev/null >/dev/null
	old=$(record same)
	kill -KILL "$(jq .owner.pid <<<"$old")"
	# At once: nobody has given back yet.
	# Its cgroup is the old one's no longer, else runc could not delete the old one.
	jq ".linux.cgroupsPath += \"-new\"" "$bundle/config.json" >"$bundle/new" && mv "$bundle/new" "$bundle/config.json"
	LAB_RUNC_ROOT=$LAB_DIR/runc-new candor_runc run --detach --bundle "$bundle" same </dev/null >/dev/null
	equal "key" "$(jq -r .key <<<"$old")" "$(record same | jq -r .key)"
	[[ $(jq .owner.pid <<<"$old") != $(record same | jq .owner.pid) ]]
	has "address" "$(in_net_of_record same ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	LAB_RUNC_ROOT=$LAB_DIR/runc-old candor_runc delete --force same
	sleep 1.5
	has "address still" "$(in_net_of_record same ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
	LAB_RUNC_ROOT=$LAB_DIR/runc-new candor_runc delete --force same
	want_all_back 2
}

# bats test_tags=guest-soak
@test "a record of another boot is erased, and touches no NIC" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")"
	local file
	file=$(lab_records)
	jq '.boot_id = "00000000-0000-0000-0000-000000000000" | .id = "old" | .key = "old-0123456789" | .owner.pid = 1' "$file" >"$LAB_STATE/ledger/old-0123456789.json"
	candor gc
	lab_wait 5 test ! -e "$LAB_STATE/ledger/old-0123456789.json"
	has "address still" "$(in_net c1 ip -4 addr show dev net0)" "$LAB_SUBNET.5/24"
}

# bats test_tags=guest-soak
@test "a record that a newer candor wrote is left alone, and said so" {
	printf '{"version": 99, "key": "new-0123456789"}\n' >"$LAB_STATE/ledger/new-0123456789.json"
	run candor list
	has "list" "$output" "format 99"
	run candor gc
	has "gc" "$output" "format 99"
	sleep 1.5
	[[ -e $LAB_STATE/ledger/new-0123456789.json ]]
	rm "$LAB_STATE/ledger/new-0123456789.json"
}
