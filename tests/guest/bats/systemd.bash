# shellcheck shell=bash
# BACKGROUND, output and status are bats's and the helpers':
# shellcheck disable=SC2034,SC2154
# The lab of tests/bats, made of units: the guest itself is the node, candor is
# installed as make install does it, containerd is a service, and nobody but
# systemd starts either. It belongs into the guest: it takes the machine's own
# directories and network.

# What is installed where.
CANDOR_BIN=/usr/local/bin
NODE_LIBEXEC=/usr/libexec/candor

# shellcheck source=tests/bats/helpers.bash
source "$BATS_TEST_DIRNAME/../../bats/helpers.bash"

##### The node

missing() {
	[[ $(</proc/1/comm) == systemd && -d /run/guest ]] || echo "needs a guest under systemd (tests/guest/suites.sh --systemd bats:systemd)"
}

setup_file() {
	[[ -z $(missing) ]] || return 0
	# Descriptors 3 and 4 are bats's own: it waits until nobody has them.
	{ node_up && node_ready; } 3>&- 4>&- || {
		node_down
		return 1
	}
}

teardown_file() {
	load_lab || return 0
	free_readers
	node_down
	lab_check_gone
}

node_up() {
	LAB_ID=cdr$(printf '%04x' "$(lab_random 0 65535)")
	LAB_DIR=/tmp/$LAB_ID LAB_STATE=/run/candor LAB_CONFIG=/etc/candor/config.toml LAB_NS=lab-$LAB_ID
	LAB_CANDORD_CGROUP=candord-$(printf '%s' "$LAB_STATE" | sha256sum | cut -c1-8)
	NODE_OTHER_NIC=enp1s0 LAB_NIC2=enp2s0
	cp -a "$LAB_REPO/installed/." / || return
	# A user namespace's root has to come through here to its rootfs.
	mkdir -m 0711 "$LAB_DIR" && mkdir "$LAB_DIR"/{etc,log,fifo,s} || return
	# NICs that were never up have no qdisc: compared is with a node at work.
	ip link set "$NODE_OTHER_NIC" up && ip link set "$LAB_NIC2" up && node_carrier && lab_remember || return
	lab_net_up && node_second_nic || return
	lab_rootfs "$LAB_DIR/rootfs" && node_watch_script || return
	node_policy || return
	printf 'SystemdCgroup = true\n' >"$LAB_DIR/etc/runtime.toml"
	node_units && systemctl start candord.socket && lab_containerd_up
}

# node_ready takes down how the node looks between tests. No container has run:
# the first test shows what that brings to life.
node_ready() {
	cp -p "$LAB_CONFIG" "$LAB_DIR/config.before"
	LAB_NIC_BEFORE=$(lab_nic_state "$LAB_NIC")
	LAB_NIC2_BEFORE=$(lab_nic_state "$LAB_NIC2")
	node_snapshot | sort >"$LAB_DIR/before"
	declare -p NODE_OTHER_NIC >"$BATS_FILE_TMPDIR/node.bash"
	save_lab
}

# The node's network is the guest's.
lab_netns_add() {
	if [[ $1 == *-node ]]; then
		ip netns attach "$1" 1
	else
		ip netns add "$1" && ip -n "$1" link set lo up
	fi
}

# node_second_nic: a card, which udev names, on a wire to the other card.
node_second_nic() {
	LAB_MAC2=$(<"/sys/class/net/$LAB_NIC2/address") LAB_SUBNET2=198.51.100
	LAB_NODE_IP2=$LAB_SUBNET2.2 LAB_PEER_IP2=$LAB_SUBNET2.1
	ip link set "$NODE_OTHER_NIC" netns "$LAB_ID-peer" &&
		ip -n "$LAB_ID-peer" addr add "$LAB_PEER_IP2/24" dev "$NODE_OTHER_NIC" &&
		ip -n "$LAB_ID-peer" link set "$NODE_OTHER_NIC" up &&
		ip addr add "$LAB_NODE_IP2/24" brd + dev "$LAB_NIC2" &&
		ip addr add "$(lab_subnet6 "$LAB_SUBNET2")2/64" dev "$LAB_NIC2" nodad && node_carrier
}

# node_carrier: a card takes seconds until it has one, and until then no routes.
node_carrier() { lab_wait 10 grep -qx 1 "/sys/class/net/$LAB_NIC2/carrier"; }

lab_net_down() {
	ip netns pids "$LAB_ID-peer" 2>/dev/null | xargs -r kill -KILL
	# With the other end, and the default route.
	ip link del "$LAB_NIC" 2>/dev/null
	ip link del "$LAB_UPLINK" 2>/dev/null
	ip addr flush dev "$LAB_NIC2" scope global
	ip -n "$LAB_ID-peer" addr flush dev "$NODE_OTHER_NIC"
	ip -n "$LAB_ID-peer" link set "$NODE_OTHER_NIC" netns 1 && ip link set "$NODE_OTHER_NIC" up
	ip netns del "$LAB_ID-peer"
	ip netns del "$LAB_ID-node"
}

# node_policy: neither state_dir nor bin_dir, as on a node that is installed.
node_policy() {
	lab_write_config <<-EOF_CONFIG
		[pools.wire]
		kind  = "hostnic"
		macs  = ["$LAB_MAC", "$LAB_MAC2"]
		subnets = ["$LAB_SUBNET.0/24", "$LAB_SUBNET2.0/24"]
		allow = ["containerd:$LAB_NS", "runc"]

		[resource_view]
		enabled  = true
		required = true
	EOF_CONFIG
}

# node_units: containerd's unit is the one that it comes with. Where the guest
# has a containerd of Debian's too, its unit is masked, by a link of that name.
NODE_UNIT=/etc/systemd/system/containerd.service
node_units() {
	lab_containerd_config && rm -f "$NODE_UNIT" || return
	cat >"$NODE_UNIT" <<-EOF_UNIT
		[Unit]
		Description=containerd of the suite
		After=network.target local-fs.target dbus.service

		[Service]
		Environment=PATH=$CANDOR_BIN:$LAB_TOOLS:/usr/sbin:/usr/bin:/sbin:/bin
		ExecStart=$LAB_TOOLS/containerd -c $LAB_DIR/etc/containerd.toml
		Type=notify
		Delegate=yes
		KillMode=process
		Restart=always
		RestartSec=5
		LimitNPROC=infinity
		LimitCORE=infinity
		TasksMax=infinity
		OOMScoreAdjust=-999
	EOF_UNIT
	systemctl daemon-reload
}

lab_containerd_up() { systemctl start containerd && lab_wait 20 lab_ctr version; }

lab_containerd_down() { systemctl stop containerd; }

lab_candord_down() { systemctl stop candord.service candord.socket; }

# node_down: as any lab, by the functions above, and the node's unit.
node_down() {
	local status=0
	lab_down || status=1
	ln -sf /dev/null "$NODE_UNIT"
	systemctl daemon-reload
	return "$status"
}

##### Tests

setup() {
	local why
	why=$(missing)
	[[ -z $why ]] || skip "$why"
	load_lab
	# shellcheck disable=SC1091
	source "$BATS_FILE_TMPDIR/node.bash"
}

# teardown is that of the other suites, and the units as they were.
teardown() {
	[[ -n ${LAB_ID:-} ]] || return 0
	local status=0
	if [[ -z ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]]; then
		tell_units
		free_readers
	fi
	units_back
	put_back
	check_clean || status=1
	check_units || status=1
	if ((status)); then mend; fi
	return "$status"
}

tell_units() {
	echo "--- units"
	systemctl status --no-pager --lines 0 candord.service candord.socket containerd.service 2>&1
	echo "--- journal"
	journalctl --no-pager --output short --lines 40 --unit candord.service
	echo "--- candor's own words"
	journalctl --no-pager --output cat --lines 20 -t candor-prestart-net -t candor-prestart-lxcfs -t candor-poststop -t candor-shim -t candor-runc
}

units_back() {
	if [[ -e $(drop_in) ]]; then
		rm -r "$(dirname "$(drop_in)")"
		systemctl daemon-reload
		systemctl stop candord.service
	fi
	systemctl start candord.socket
}

# check_units: a unit that failed stays so until somebody looks.
check_units() {
	local failed
	failed=$(systemctl list-units --failed --plain --no-legend)
	[[ -z $failed ]] && return
	echo "units failed: $failed"
	systemctl reset-failed
	return 1
}

drop_in() { printf '/run/systemd/system/candord.service.d/test.conf\n'; }

# unit_is STATE UNIT...: each of them.
unit_is() {
	local unit want=$1
	shift
	for unit; do equal "$unit" "$want" "$(systemctl is-active "$unit")" || return; done
}

main_pid() { systemctl show --property MainPID --value "$1"; }

# another_main_pid UNIT PID: it runs, and is not that one.
another_main_pid() {
	local now
	now=$(main_pid "$1")
	[[ $now != "$2" && $now != 0 ]]
}

candords() { find /proc/[0-9]*/exe -maxdepth 0 -lname '*/candord' 2>/dev/null | cut -d/ -f3; }
no_candords() { [[ -z $(candords) ]]; }

##### Containers that look at their files, again and again

# node_watch_script: in the container it reads some times a second (more would
# leave the emulated machine nothing) and writes what it saw, and what went
# wrong, to /tmp/NAME.
node_watch_script() {
	cat >"$LAB_DIR/rootfs/root/watch.sh" <<-'EOF_WATCH'
		cd /tmp
		n=0
		while :; do
			total= cpus=
			read -r _ total _ </proc/meminfo || echo "open or read of meminfo" >>"$1.errors"
			cpus=$(grep -c ^processor /proc/cpuinfo) || echo "open or read of cpuinfo" >>"$1.errors"
			case $total-$cpus in *[0-9]-[1-9]*) ;; *) echo "said: $total-$cpus" >>"$1.errors" ;; esac
			n=$((n + 1))
			echo "$total $cpus $n" >"$1.new"
			mv "$1.new" "$1.seen"
			sleep 0.1
		done
	EOF_WATCH
}

# watcher ID FLAGS...: a container that does so.
watcher() {
	local id=$1
	shift
	lab_run candor "$id" --detach --null-io "$@" -- /bin/sh /root/watch.sh "$id" || return
	lab_wait 5 rounds "$id" || fail "$id reads nothing"
}

# seen ID prints the memory in KiB and the number of processors it saw last.
seen() { cut -d' ' -f1,2 "$LAB_DIR/rootfs/tmp/$1.seen"; }
sees() { [[ $(seen "$1") == "$2 $3" ]]; }
rounds() { cut -d' ' -f3 "$LAB_DIR/rootfs/tmp/$1.seen"; }

# reads_on ID: from now on it reads three times more, and nothing has gone wrong.
reads_on() {
	local now
	now=$(rounds "$1") || return
	lab_wait 5 more_rounds "$1" $((now + 3)) || fail "$1 reads no more: $(tail -n 3 "$LAB_DIR/rootfs/tmp/$1.errors" 2>/dev/null)" || return
	[[ ! -s $LAB_DIR/rootfs/tmp/$1.errors ]] || fail "$1 noticed: $(sort "$LAB_DIR/rootfs/tmp/$1.errors" | uniq -c | head -n 5)"
}
more_rounds() { (($(rounds "$1") >= $2)); }
