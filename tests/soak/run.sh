#!/usr/bin/env bash
# Starts containers, kills whatever can be killed at a random moment, deletes
# them, and looks each time whether the node is as it was before. For MINUTES
# (10), or until something is left behind.
#
#   tests/soak/run.sh        MINUTES=60 SEED=12345
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/lab/lab.bash
source tests/lab/lab.bash

MINUTES=${MINUTES:-10}
SEED=${SEED:-$RANDOM}
RANDOM=$SEED
ROUND=0 STARTED=0 REFUSED=0
declare -A KILLED=()
# A runc whose containerd was killed in the middle of a create leaves its cgroup,
# with candor and without.
LAB_SNAPSHOT_WITHOUT=cgroup

finish() {
	local status=$?
	trap - EXIT
	trap '' INT TERM HUP
	printf 'soak: %d rounds, %d containers started, %d not; killed:' "$ROUND" "$STARTED" "$REFUSED"
	local what
	for what in "${!KILLED[@]}"; do printf ' %s %d' "$what" "${KILLED[$what]}"; done
	echo
	((status == 0 || status >= 128)) || {
		echo "soak: stopped in round $ROUND; again with SEED=$SEED"
		tail -n 20 "$LAB_STATE"/*.log "$LAB_DIR/log/containerd" 2>/dev/null
	}
	lab_down && lab_check_gone || status=1
	exit "$status"
}

# flags prints the flags of a container that asks for a random share of all that
# there is: one of two NICs or both, a limit, a view of some cgroup limits.
flags() {
	local nics=()
	((RANDOM % 2)) && nics+=("{\"pool\":\"wire\",\"mac\":\"$LAB_MAC\",\"ips\":[\"$LAB_SUBNET.$((RANDOM % 200 + 10))/24\"],\"gateway\":[\"$LAB_PEER_IP\"]}")
	((RANDOM % 2)) && nics+=("{\"pool\":\"wire\",\"mac\":\"$LAB_MAC2\"}")
	if ((${#nics[@]})); then
		local IFS=,
		printf '%s\n' --annotation "candor.dev/nics=[${nics[*]}]"
		((RANDOM % 2)) && printf '%s\n' --annotation "candor.dev/egress-limit=$((RANDOM % 500 + 1))M"
	fi
	printf '%s\n' --memory-limit $((RANDOM * 4096 + 33554432)) --cpu-quota $((RANDOM + 10000)) --cpu-period 100000
}

# pids_of WHAT prints the pids of one kind of the lab's processes.
pids_of() {
	local pid
	for pid in $(lab_processes); do
		case $1:$(lab_command "$pid") in
		shim:*containerd-shim-candor-v1*" -id "* | worker:"candord worker "* | supervisor:"candord --own-cgroup"*) echo "$pid" ;;
		esac
	done
}

# strike kills one thing, kill -9, after a random moment.
strike() {
	local what=$1 pid
	sleep "0.$((RANDOM % 30 + 100))"
	case $what in
	init) pid=$(lab_pid c1) ;;
	containerd) pid=$LAB_CONTAINERD_PID ;;
	*) pid=$(pids_of "$what" | head -n 1) ;;
	esac
	[[ -n $pid ]] && kill -KILL "$pid" 2>/dev/null
}

round() {
	local what options=() targets=(none init shim worker supervisor containerd)
	what=${targets[RANDOM % ${#targets[@]}]}
	mapfile -t options < <(flags)
	# Half of the time in the middle of the start, half of it after.
	if ((RANDOM % 2)) && [[ $what != none ]]; then
		strike "$what" &
		lab_run candor c1 -d "${options[@]}" -- /bin/sleep 600 >/dev/null 2>&1 && STARTED=$((STARTED + 1)) || REFUSED=$((REFUSED + 1))
		wait $!
	else
		if lab_run candor c1 -d "${options[@]}" -- /bin/sleep 600 >"$LAB_DIR/log/run" 2>&1; then
			STARTED=$((STARTED + 1))
			lab_exec c1 /bin/sh -c 'cat /proc/meminfo /proc/stat /proc/cpuinfo >/dev/null' || true
		else
			echo "soak: a container does not start, with nobody killed: $(<"$LAB_DIR/log/run")"
			return 1
		fi
		[[ $what == none ]] || strike "$what"
	fi
	[[ $what == none ]] || KILLED[$what]=$((${KILLED[$what]:-0} + 1))
	lab_wait 2 lab_ctr version || {
		lab_containerd_down
		lab_containerd_up || return 1
	}
	lab_rm c1
	# 5 s is what the reconciler may take for a container without a poststop.
	lab_check_clean "$LAB_DIR/before" 8
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
LAB_SECOND=1 lab_up || exit 1
# The first container brings candord and the state directory up.
lab_run candor c0 --rm -- /bin/true || exit 1
lab_snapshot >"$LAB_DIR/before"
echo "soak: $MINUTES minutes, SEED=$SEED"
END=$((SECONDS + MINUTES * 60))
while ((SECONDS < END)); do
	ROUND=$((ROUND + 1))
	round || exit 1
done
