#!/usr/bin/env bash
# Shows candor beside plain runc, in a throw-away lab, and checks what it shows:
# exits 0 only if every row of candor's is right. Leaves nothing behind.
#
#   demo/run.sh [--nic ens5]     with --nic: your own NIC instead of the lab's wire
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lab/lab.bash
source tests/lab/lab.bash
# shellcheck source=demo/table.bash
source demo/table.bash
# shellcheck source=demo/kernel.bash
source demo/kernel.bash
# shellcheck source=demo/see.bash
source demo/see.bash
# shellcheck source=demo/network.bash
source demo/network.bash
# shellcheck source=demo/limit.bash
source demo/limit.bash
# shellcheck source=demo/afterwards.bash
source demo/afterwards.bash

die() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# refuse_precious_nic NIC: the one the machine, or the reader, lives on is not
# for showing. candor itself would refuse most of these too.
refuse_precious_nic() {
	local nic=$1 here
	ip link show dev "$nic" >/dev/null 2>&1 || die "no NIC $nic here; there are: $(ip -j link | jq -r '[.[].ifname | select(. != "lo")] | join(", ")')"
	if { ip -j route show default && ip -j -6 route show default; } | jq -es --arg n "$nic" 'flatten | any(.dev == $n or any(.nexthops[]?; .dev == $n))' >/dev/null; then
		die "$nic carries the default route: this machine would lose its network; nothing was changed"
	fi
	[[ $(ip -j link show dev "$nic" | jq -r '.[0].master // ""') == '' ]] || die "$nic is a member of $(ip -j link show dev "$nic" | jq -r '.[0].master'); nothing was changed"
	here=$(awk '{ print $3 }' <<<"${SSH_CONNECTION:-}")
	if [[ -n $here ]] && ip -o addr show dev "$nic" | grep -wF "$here" >/dev/null; then
		die "your ssh session comes in through $nic; nothing was changed"
	fi
}

finish() {
	local status=$?
	# A second Ctrl-C must not cut the cleaning short.
	trap - EXIT
	trap '' INT TERM HUP
	((status < 128)) || printf '\ndemo: interrupted, cleaning up\n' >&2
	lab_down || status=1
	if [[ -n ${LAB_MACHINE_BEFORE:-} ]]; then
		if lab_check_gone; then echo "Nothing of the lab is left behind."; else status=1; fi
	fi
	exit "$status"
}

# report turns what the tables counted into the last line and the exit status.
report() {
	local took=$((SECONDS - STARTED))
	echo
	if ((FAILURES == 0)); then
		printf '%d of %d rows of candor are right (%d s).\n' "$CHECKS" "$CHECKS" "$took"
		return 0
	fi
	printf '%d of %d rows of candor are WRONG (%d s).\n' "$FAILURES" "$CHECKS" "$took"
	if [[ -s ${LAB_STATE:-}/candor.log ]]; then
		printf 'What candor noted last:\n'
		tail -n 5 "$LAB_STATE/candor.log"
	fi
	return 1
}

main() {
	STARTED=$SECONDS
	while (($#)); do
		case $1 in
		--nic)
			LAB_OWN_NIC=${2:?--nic needs the name of a NIC}
			shift 2
			;;
		*) die "usage: demo/run.sh [--nic NAME]" ;;
		esac
	done
	[[ -x $LAB_BIN/containerd-shim-candor-v1 && -x $LAB_TOOLS/containerd ]] || die "not built yet: make tools build"
	[[ -z ${LAB_OWN_NIC:-} ]] || refuse_precious_nic "$LAB_OWN_NIC"

	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	LAB_SECOND=1 lab_up || die "the lab could not be made"
	draw
	introduce
	afterwards_remember
	show_what_it_sees
	if [[ -n $LAB_PEER ]]; then
		show_its_network
		show_its_limit
	else
		printf '\nIts network, its limit: left out. They need a peer on the other end of %s to measure against.\n' "$LAB_NIC"
	fi
	show_afterwards
	report
}

# draw takes this run's numbers at random: none of them can be in candor's code.
draw() {
	local cpus
	cpus=$(nproc)
	MEMORY=$(($(lab_random 16384 262144) * 4096)) # 64 MiB to 1 GiB, whole pages
	CPU_PERIOD=100000
	# Less than the machine has, where it has more than one: a view that shows
	# the machine's CPUs must not pass by chance.
	CPU_QUOTA=$(($(lab_random 3 $((cpus > 1 ? cpus * 10 - 10 : 9))) * 10000))
	RATE=$(lab_random "${DEMO_MIN_RATE:-20}" "${DEMO_MAX_RATE:-250}") # Mbit/s
	if [[ -n $LAB_SUBNET ]]; then
		ADDRESS=$LAB_SUBNET.$(lab_random 10 250)
		NIC_REQUEST="candor.dev/nic=pool=wire,mac=$LAB_MAC,ip=$ADDRESS/24,gateway=$LAB_PEER_IP"
	else
		ADDRESS=$(ip -j -4 addr show dev "$LAB_NIC" | jq -r '.[0].addr_info[0].local // ""')
		NIC_REQUEST="candor.dev/nic=pool=wire,mac=$LAB_MAC"
	fi
}

# nic_hardware prints the driver and place of a NIC that is hardware.
nic_hardware() { lab_node ethtool -i "$LAB_NIC" 2>/dev/null | awk '$1 == "driver:" { d = $2 } $1 == "bus-info:" && $2 { print d, $2 ", " }'; }

introduce() {
	cat <<-EOF_INTRODUCTION
		candor $("$LAB_BIN/candor" version 2>/dev/null | awk 'NR == 1 { print $NF }') beside io.containerd.runc.v2: containerd $("$LAB_TOOLS/containerd" --version | awk '{ print $3 }'), $("$LAB_TOOLS/runc" --version | head -n1), Linux $(uname -r), $(nproc) CPUs.
		The host NIC is $LAB_NIC, $(nic_hardware)$LAB_MAC${LAB_SUBNET:+, $LAB_NODE_IP/24, on a wire to $LAB_PEER_IP}. Drawn for this run:
		  --memory-limit $MEMORY --cpu-quota $CPU_QUOTA --cpu-period $CPU_PERIOD
		  --annotation $NIC_REQUEST
		  --annotation candor.dev/egress-limit=${RATE}M   (third table)
	EOF_INTRODUCTION
}

main "$@"
