#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154  # jq's variables; bats's: output, lines, status
# A node as it is installed, with systemd as pid 1: candord is started by its
# socket and bounded by its unit, containers are scopes, and everything may be
# restarted under them.

bats_require_minimum_version 1.5.0
load systemd

##### Start

@test "the socket alone: nothing runs until the first container, which then has its view" {
	unit_is active candord.socket
	unit_is inactive candord.service
	equal "candords" "" "$(candords)"
	watcher c1 --memory-limit 67108864
	equal "memory and processors" "65536 2" "$(seen c1)"
	unit_is active candord.service
	local pid
	pid=$(main_pid candord)
	equal "program" "$NODE_LIBEXEC/candord" "$(readlink "/proc/$pid/exe")"
	for pid in $pid $(candord_pid worker); do
		equal "cgroup of $pid" "0::/system.slice/candord.service" "$(<"/proc/$pid/cgroup")"
		equal "oom_score_adj of $pid" -999 "$(<"/proc/$pid/oom_score_adj")"
	done
	# Nothing that a shim started.
	equal "candords" 2 "$(candords | wc -l)"
	[[ ! -e /sys/fs/cgroup/$LAB_CANDORD_CGROUP ]]
}

##### What the unit bounds

@test "candord has the rights that it needs and no others" {
	systemctl start candord.service
	lab_wait 5 are_candords supervisor worker
	local pid status
	for pid in $(main_pid candord) $(candord_pid worker); do
		status=$(tr '\t' ' ' <"/proc/$pid/status")
		# DAC_READ_SEARCH 2, NET_ADMIN 12, SYS_CHROOT 18, SYS_PTRACE 19, SYS_ADMIN 21
		has "$pid" "$status" "CapBnd: 00000000002c1004" "CapEff: 00000000002c1004" "CapAmb: 0000000000000000" "NoNewPrivs: 1" "Seccomp: 2"
	done
	# Its mounts are those of pid 1, its name is not the host's to change.
	[[ /proc/$pid/ns/mnt -ef /proc/1/ns/mnt ]] || fail "candord has mounts of its own"
	[[ ! /proc/$pid/ns/uts -ef /proc/1/ns/uts ]] || fail "candord can change the host's name"
	systemd-analyze security --no-pager --threshold 50 candord.service | tail -n 1
}

# bats test_tags=guest-soak
@test "a drop-in with all that gives a unit its own mounts: candord leaves them, and works" {
	mkdir -p "$(dirname "$(drop_in)")"
	cat >"$(drop_in)" <<-EOF_DROP_IN
		[Service]
		ProtectSystem=strict
		ProtectHome=yes
		PrivateTmp=yes
		PrivateDevices=yes
		ProtectKernelTunables=yes
		ProtectKernelModules=yes
		ProtectKernelLogs=yes
		ProtectControlGroups=yes
		ProtectProc=invisible
	EOF_DROP_IN
	systemctl daemon-reload
	systemctl restart candord
	watcher c1 --memory-limit 67108864
	equal "memory and processors" "65536 2" "$(seen c1)"
	[[ /proc/$(candord_pid worker)/ns/mnt -ef /proc/1/ns/mnt ]]
}

##### What dies, and what is restarted

# new_limit ID BYTES: in its cgroup, as `ctr task update` would.
new_limit() { printf '%s\n' "$2" >"/sys/fs/cgroup/$LAB_NS/$1/memory.max"; }

@test "restart, reload, kill -9 of supervisor, worker and both: a reader sees no error, and new numbers" {
	watcher c1 --memory-limit 67108864
	local supervisor worker bytes=67108864 what
	for what in restart reload supervisor worker both; do
		supervisor=$(main_pid candord) worker=$(candord_pid worker)
		equal "descriptors that systemd keeps" 2 "$(systemctl show --property NFileDescriptorStore --value candord.service)"
		case $what in
		restart | reload) systemctl "$what" candord ;;
		both) kill_candord supervisor worker ;;
		*) kill_candord "$what" ;;
		esac
		case $what in
		reload | worker) equal "$what: supervisor" "$supervisor" "$(main_pid candord)" ;;
		*) lab_wait 5 another_main_pid candord "$supervisor" || fail "$what: systemd has started none" ;;
		esac
		lab_wait 5 another_worker "$worker" || fail "$what: worker $worker stays"
		bytes=$((bytes + 16777216))
		new_limit c1 "$bytes"
		lab_wait 1 sees c1 $((bytes / 1024)) 2 || fail "$what: the limit is $((bytes / 1024)) KiB, the reader sees $(seen c1)"
		reads_on c1
	done
}
another_worker() { [[ $(candord_pid worker) != "$1" ]] && are_candords supervisor worker; }

@test "stop of service and socket: the worker serves on, and the next one takes over from it" {
	watcher c1 --memory-limit 67108864
	local worker
	worker=$(candord_pid worker)
	systemctl stop candord.service candord.socket
	unit_is inactive candord.service candord.socket
	equal "candords" "$worker" "$(candords)"
	reads_on c1
	systemctl start candord.socket
	unit_is inactive candord.service
	start c2
	unit_is active candord.service
	lab_wait 5 lab_dead "$worker" || fail "the old worker stays"
	reads_on c1
}

# A shim that started a candord of its own then would take the socket's path away.
@test "stop of the service alone: the worker that is left serves new containers, and nobody but systemd starts another" {
	watcher c1 --memory-limit 67108864
	local socket worker
	socket=$(stat -c %i "$LAB_STATE/candord.sock") worker=$(candord_pid worker)
	systemctl stop candord.service
	start c2 --memory-limit 33554432
	[[ $(cat_in c2 /proc/meminfo) == "MemTotal:"*" 32768 kB"* ]]
	[[ $(tr '\0' ' ' </proc/"$(candord_pid supervisor)"/cmdline 2>/dev/null) != *own-cgroup* ]]
	lab_rm c2
	systemctl start candord.service
	lab_wait 5 lab_dead "$worker" || fail "the old worker stays"
	equal "the socket" "$socket" "$(stat -c %i "$LAB_STATE/candord.sock")"
	reads_on c1
}

# Dead files and none that wait: systemd keeps the connection of a candord that is
# killed, but nobody can keep one that is cut.
@test "the connection is cut: candord mounts anew and mends every container, one with a user namespace too" {
	watcher c1 --memory-limit 67108864
	local root=$LAB_DIR/user-rootfs pid
	mkdir -p "$root"/{bin,proc,sys,dev,tmp}
	cp "$LAB_DIR/rootfs/bin/busybox" "$root/bin/"
	# Nobody but its root may look into it; candord has no CAP_DAC_OVERRIDE.
	chown -R 100000:100000 "$root"
	chmod 0700 "$root"
	make_bundle u1 --arg root "$root" '.root.path = $root | .process.args = ["/bin/busybox", "sleep", "600"]
		| .linux.namespaces += [{type: "user"}] | .linux.resources.memory.limit = 33554432
		| .linux.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .linux.gidMappings = .linux.uidMappings'
	candor_runc run --detach --bundle "$LAB_DIR/bundles/u1" u1 </dev/null >/dev/null 2>&1
	pid=$(plain_pid u1)
	user_reads "$pid"
	free_readers
	lab_wait 10 user_reads "$pid" || fail "u1 is not mended"
	rm -f "$LAB_DIR/rootfs/tmp/c1.errors" # it met the moment in between
	lab_wait 10 sees c1 65536 2 && reads_on c1 || fail "c1 is not mended"
	equal "times that u1 was mended" 1 "$(journalctl --unit candord --since "-5min" --output cat | grep -c 'mended the resource view of a container container=u1')"
}
user_reads() {
	[[ $(nsenter --target "$1" --mount --user --setuid 0 --setgid 0 -- /bin/busybox head -n 1 /proc/meminfo 2>&1) == MemTotal:*\ 32768\ kB ]]
}

@test "units that are enabled when containers run already: systemd's candord takes over from the shim's" {
	systemctl stop candord.service candord.socket
	lab_wait 2 no_candords || fail "candord serves nobody, and stays: $(candords)"
	watcher c1 --memory-limit 67108864
	unit_is inactive candord.service
	equal "its cgroup" "0::/$LAB_CANDORD_CGROUP" "$(<"/proc/$(candord_pid supervisor)/cgroup")"
	systemctl start candord.service
	lab_wait 5 serves candord.service || fail "candord.service does not serve: $(cat "$LAB_STATE/candord.json")"
	equal "restarts" 0 "$(systemctl show --property NRestarts --value candord.service)"
	lab_wait 2 test ! -e "/sys/fs/cgroup/$LAB_CANDORD_CGROUP" || fail "the other one's cgroup stays"
	start c2
	reads_on c1
}
# serves UNIT: its main process is the supervisor that candord.json names.
serves() { [[ $(candord_pid supervisor) == "$(main_pid "$1")" ]] && are_candords supervisor worker; }

##### Scopes

scope() { printf '%s-%s.scope\n' "$LAB_NS" "$1"; }
no_scope() { [[ ! -d /sys/fs/cgroup/system.slice/$(scope "$1") && $(systemctl show --property LoadState --value "$(scope "$1")") == not-found ]]; }

@test "a container that is a scope: limits are seen, also those that systemctl sets; NIC and limit come and go" {
	watcher c1 --runtime-config-path "$LAB_DIR/etc/runtime.toml" --cgroup "system.slice:$LAB_NS:c1" \
		--memory-limit 67108864 --cpus 1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	unit_is active "$(scope c1)"
	equal "cgroup" "0::/system.slice/$(scope c1)" "$(<"/proc/$(lab_pid c1)/cgroup")"
	equal "systemd's limit" 67108864 "$(systemctl show --property MemoryMax --value "$(scope c1)")"
	equal "memory and processors" "65536 1" "$(seen c1)"
	has "qdisc" "$(in_net c1 tc class show dev net0)" "rate 50Mbit"
	in_net c1 ping -c 1 -W 5 "$LAB_PEER_IP"
	systemctl set-property --runtime "$(scope c1)" MemoryMax=128M CPUQuota=200%
	lab_wait 1 sees c1 131072 2 || fail "after set-property: $(seen c1)"
	systemctl set-property --runtime "$(scope c1)" AllowedCPUs=1
	lab_wait 1 sees c1 131072 1 || fail "after AllowedCPUs: $(seen c1)"
	reads_on c1
	lab_rm c1
	want_all_back 1
	lab_wait 2 no_scope c1 || fail "the scope is left"
}

# bats test_tags=guest-soak
@test "candor-runc --systemd-cgroup: the same, without containerd" {
	nic_bundle b1 --arg path "system.slice:$LAB_NS:b1" '.linux.cgroupsPath = $path | .annotations["candor.dev/egress-limit"] = "50M"
		| .linux.resources.memory.limit = 67108864 | .linux.resources.cpu = {cpus: "0"}
		| .process.args = ["/bin/sh", "/root/watch.sh", "b1"] | .root.readonly = false' >/dev/null
	candor_runc --systemd-cgroup run --detach --bundle "$LAB_DIR/bundles/b1" b1 </dev/null >/dev/null 2>&1
	lab_wait 5 rounds b1
	unit_is active "$(scope b1)"
	equal "memory and processors" "65536 1" "$(seen b1)"
	has "link" "$(nsenter --net="/proc/$(plain_pid b1)/ns/net" ip -br link show dev net0)" "$LAB_MAC"
	systemctl set-property --runtime "$(scope b1)" MemoryMax=96M AllowedCPUs=0-1
	lab_wait 1 sees b1 98304 2 || fail "after set-property: $(seen b1)"
	reads_on b1
	candor_runc --systemd-cgroup delete --force b1
	want_all_back 1
	lab_wait 2 no_scope b1 || fail "the scope is left"
}

##### What stands in the journal

# entries MATCH...: as JSON lines, the oldest first.
entries() {
	journalctl --sync
	journalctl --output json --since "-5min" "$@"
}

@test "the journal has refusals, attachments and candord's own words, in fields" {
	refused r1 --annotation "candor.dev/nic=pool=other,mac=$LAB_MAC"
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	local caller=containerd:$LAB_NS worker
	run -0 jq -r '[.PRIORITY, .CANDOR_CALLER, .CANDOR_BUNDLE, .MESSAGE] | join("|")' <(entries CANDOR_CONTAINER=r1)
	has "refusal" "$output" "3|$caller|$(bundle_of r1)|" "pool other"
	run -0 jq -r '[.PRIORITY, .SYSLOG_IDENTIFIER, .CANDOR_CALLER, .CANDOR_NICS, .CANDOR_EGRESS_LIMIT, .MESSAGE] | join("|")' <(entries CANDOR_CONTAINER=c1)
	has "attach" "$output" "6|candor-prestart-net|$caller|$LAB_NIC($LAB_MAC)=net0|50M|attached "
	lab_rm c1
	run -0 jq -r '[.CANDOR_EGRESS_LIMIT, .CANDOR_NICS, .MESSAGE] | join("|")' <(entries CANDOR_CONTAINER=c1)
	has "give-back" "$output" "50M|$LAB_NIC($LAB_MAC)=net0|gave back "
	worker=$(candord_pid worker)
	kill_candord worker
	lab_wait 5 another_worker "$worker"
	run -0 jq -r '[.PRIORITY, .SYSLOG_IDENTIFIER, ._SYSTEMD_UNIT, .MESSAGE] | join("|")' <(entries CANDOR_WORKER="$worker")
	has "candord" "$output" "4|candord|candord.service|worker died "
}

##### NICs

# bats test_tags=guest-soak
@test "restart of containerd: the container keeps NIC and view, and gives both back when it is deleted" {
	watcher c1 --memory-limit 67108864 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	local before init
	before=$(main_pid containerd) init=$(lab_pid c1)
	systemctl restart containerd
	another_main_pid containerd "$before"
	lab_wait 20 lab_ctr version
	equal "its init" "$init" "$(lab_pid c1)"
	reads_on c1
	in_net c1 ping -c 1 -W 5 "$LAB_PEER_IP"
	has "limit" "$(in_net c1 tc class show dev net0)" "rate 50Mbit"
	lab_rm c1
	want_all_back 1
}

@test "a card that udev names comes back with its names and addresses, before and after udev has seen it" {
	has "altname" "$LAB_NIC2_BEFORE" "enx${LAB_MAC2//:/}" # udev's
	start c1 --annotation "$(nic2 "ip=$LAB_SUBNET2.5/24")"
	has "link" "$(in_net c1 ip -br link show dev net0)" "$LAB_MAC2"
	[[ ! -e /sys/class/net/$LAB_NIC2 ]]
	lab_wait 10 in_net c1 ping -c 1 -W 1 "$LAB_PEER_IP2" || fail "the card does not reach its peer"
	lab_rm c1
	want_all_back 3
	udevadm settle
	want_all_back 1
}

# bats test_tags=guest-soak
@test "a container that is killed with its shim: candord gives its NIC back" {
	start c1 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" --annotation candor.dev/egress-limit=50M
	# With containerd stopped nobody calls poststop.
	local init shim
	init=$(lab_pid c1) shim=$(shim_of c1)
	systemctl stop containerd
	kill -KILL "$shim" "$init"
	want_all_back 6
	journalctl --sync
	has "journal" "$(journalctl --unit candord --since -1min --output cat -t candord)" "gave back container=c1 "
	systemctl start containerd
}

##### The end

@test "all stopped, as by a shutdown: no process, mount, cgroup and failed unit is left, and a new start works" {
	watcher c1 --memory-limit 67108864
	local worker
	worker=$(candord_pid worker)
	# A container that runs on: its files are served until everything is told to end.
	systemctl stop containerd candord.service candord.socket
	reads_on c1
	kill -TERM "$worker"
	lab_wait 2 no_candords || fail "candord does not end at SIGTERM: the shutdown would wait for it"
	kill -KILL "$(shim_of c1)"
	echo 1 >"/sys/fs/cgroup/$LAB_NS/c1/cgroup.kill"
	systemctl stop run-candor-mnt.mount run-candor.mount # as umount.target does
	equal "mounts" "" "$(grep -F "$LAB_STATE" /proc/1/mountinfo)"
	equal "cgroups" "" "$(find /sys/fs/cgroup -name 'candord*')"
	equal "failed units" "" "$(systemctl list-units --failed --plain --no-legend)"
	rm -r "$LAB_STATE" # as /run of the next boot
	systemctl start candord.socket containerd
	lab_wait 20 lab_ctr version
	remove c1
	watcher c2 --memory-limit 67108864
	equal "memory and processors" "65536 2" "$(seen c2)"
}
