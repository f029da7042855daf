# shellcheck shell=bash
# Removing what a lab made, and showing that nothing is left. Only what carries
# the lab's own id is ever removed: several labs may run on one machine.

# lab_processes prints the pids of the lab's processes: those that have its
# directory, state directory or containerd namespace in their arguments or
# environment. Never the caller's own shell.
lab_processes() {
	local files pid seen=' '
	# One grep for all of /proc: this runs after each test. It has ended when its
	# own line is looked at.
	files=$(grep -lsaF -e "$LAB_DIR/" -e "$LAB_STATE" -e "$LAB_NS" /proc/[0-9]*/{cmdline,environ})
	while IFS=/ read -r _ _ pid _; do
		[[ -n $pid && $pid != "$$" && $pid != "$BASHPID" && $seen != *" $pid "* ]] || continue
		seen+="$pid "
		lab_dead "$pid" || printf '%s\n' "$pid"
	done <<<"$files"
}

# lab_command PID prints its command line, nothing if it has ended meanwhile.
lab_command() { { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null; }

# lab_stragglers_down kills what is left: shims of a killed containerd, inits.
lab_stragglers_down() {
	local pids
	pids=$(lab_processes)
	[[ -n $pids ]] || return 0
	# shellcheck disable=SC2086  # one word per pid is what is wanted
	kill -KILL $pids 2>/dev/null || true
	lab_wait 3 lab_no_processes || lab_error "processes that do not die: $(lab_processes | paste -sd' ')"
}

lab_no_processes() { [[ -z $(lab_processes) ]]; }

# lab_mounts prints the lab's mount points, the innermost last. In pid 1's
# namespace: that is where candor mounts.
lab_mounts() {
	awk -v a="$LAB_DIR" -v b="$LAB_STATE" '$5 == a || index($5, a "/") == 1 || $5 == b || index($5, b "/") == 1 { print $5 }' /proc/1/mountinfo
}

lab_has_mounts() { [[ -n $(lab_mounts) ]]; }

lab_mounts_down() {
	local point
	lab_mounts | tac | while read -r point; do umount -l "$point" 2>/dev/null; done
	# Again: an unmount may uncover a mount below it.
	lab_mounts | tac | while read -r point; do umount -l "$point" 2>/dev/null; done
	return 0
}

# lab_cgroups prints the lab's cgroups, the innermost first: the containers' lie
# below containerd's namespace name, candord's carries a hash of its state
# directory (daemon/cgroups.go).
lab_cgroups() {
	find /sys/fs/cgroup -mindepth 1 -maxdepth 4 -depth -type d \( -path "*/$LAB_NS*" -o -name "$LAB_CANDORD_CGROUP" \) 2>/dev/null
}

lab_cgroups_down() {
	local path
	lab_cgroups | while read -r path; do lab_wait 2 rmdir "$path" || [[ ! -d $path ]] || lab_error "cgroup $path stays"; done
}

# lab_remember notes what the machine has before the lab changes anything.
lab_remember() {
	LAB_MACHINE_BEFORE=$(lab_machine_state)
}

# lab_machine_state prints the machine's own network: what no lab may change.
lab_machine_state() { lab_machine_network | sort; }

lab_machine_network() {
	ip -j -d link show | jq -r '.[] | "link \(.ifname) \(.address) mtu \(.mtu) \(.flags | join(","))"'
	ip -o addr show | awk '$4 !~ /^fe80:/ { print "address", $2, $4 }'
	ip -o route show table all | grep -vE '^(fe80|ff00|multicast|local fe80|anycast)' | sed 's/ expires [0-9]*sec//; s/^/route /'
	ip rule show | sed 's/^/rule /'
	tc qdisc show | awk '{ print "qdisc", $2, $3, $4, $5 }'
	nft list tables 2>/dev/null | sed 's/^/nft /'
}

# lab_snapshot prints the node as it is between tests: its links and their
# settings, addresses, routes, rules, qdiscs, nft tables, namespaces, mounts,
# records, cgroups and processes. candord and its mounts belong to the node, not
# to a container, and are left out; so are the kinds in LAB_SNAPSHOT_WITHOUT
# ("cgroup|process").
lab_snapshot() { lab_snapshot_unsorted | grep -vE "^(${LAB_SNAPSHOT_WITHOUT:-none}) " | sort; }

# Few programs, each called once: this runs after each test.
lab_snapshot_unsorted() {
	# shellcheck disable=SC2016  # expanded by the inner shell
	lab_node sh -c '
		ip -j -d link show | jq -r "$1"
		echo @address && ip -o addr show
		echo @route && ip -o route show table all
		echo @rule && ip rule show
		echo @qdisc && tc qdisc show
		echo @nft && nft list ruleset 2>/dev/null
		echo @mount && cat /proc/1/mountinfo' sh '.[] | "link \(.ifname) \(.address) mtu \(.mtu) txqlen \(.txqlen) gso \(.gso_max_size) \(.altnames // [] | sort | join(",")) \(.ifalias // "") \(if (.flags | index("UP")) then "up" else "down" end)"' |
		awk -v dir="$LAB_DIR" -v state="$LAB_STATE" '
			/^@/ { kind = substr($0, 2); next }
			kind == "address" { if ($4 !~ /^fe80:/) print kind, $2, $4; next }
			kind == "route" && /^(fe80|ff00|multicast|local fe80|anycast)/ { next }
			kind == "qdisc" { print kind, $2, $3, $4, $5; next }
			kind == "mount" {
				if ($5 == dir || index($5, dir "/") == 1 || index($5, state "/") == 1 && $5 != state "/mnt") print kind, $5
				next
			}
			kind { print kind, $0; next }
			{ print }'
	local file pid
	for file in /run/netns/"$LAB_ID"-*; do [[ ! -e $file ]] || printf 'netns %s\n' "${file##*/}"; done
	for file in "$LAB_STATE"/ledger/*.json; do [[ ! -e $file ]] || printf 'record %s\n' "$file"; done
	lab_cgroups | grep -vE -e '/candord' -e "/$LAB_NS(-b)?\$" | sed 's/^/cgroup /'
	for pid in $(lab_processes); do
		case $(readlink "/proc/$pid/exe") in
		*/candord* | */containerd) ;;
		*/bash | */iperf3) ;; # the tests' own
		'') ;;
		*) printf 'process %s\n' "$(lab_command "$pid")" ;;
		esac
	done
}

# lab_check_clean FILE [SECONDS]: the node is as the snapshot in FILE says, now
# or within SECONDS (3): orphaned shims take a moment. Else prints the difference.
lab_check_clean() {
	local before=$1 after=$LAB_DIR/snapshot-after
	lab_wait "${2:-3}" lab_same_as "$before" "$after" && return 0
	lab_error "the node is not as it was before (- before, + now):"
	diff -U0 "$before" "$after" | grep -E '^[-+][^-+]' >&2
	return 1
}

lab_same_as() {
	lab_snapshot >"$2"
	cmp "$1" "$2"
}

# (return 0, not return: in a trap, a bare one gives the status from before it.)
#
# lab_check_gone: after lab_down nothing on the machine carries the lab's id, and
# the machine's own network is as it was before lab_up.
lab_check_gone() {
	lab_wait 3 lab_nothing_left && return 0
	lab_error "left behind by $LAB_ID (< before, > now):"
	lab_left_behind >&2
	return 1
}

lab_nothing_left() { [[ -z $(lab_left_behind) ]]; }

lab_left_behind() {
	lab_processes | while read -r pid; do printf 'process %s %s\n' "$pid" "$(lab_command "$pid")"; done
	lab_mounts | sed 's/^/mount /'
	ip netns list | grep -F "$LAB_ID" | sed 's/^/netns /'
	lab_cgroups | sed 's/^/cgroup /'
	find /tmp /run /run/containerd/runc /run/containerd/s -maxdepth 1 -name "*$LAB_ID*" 2>/dev/null | sed 's/^/file /'
	diff <(printf '%s\n' "$LAB_MACHINE_BEFORE") <(lab_machine_state) | grep '^[<>]'
}
