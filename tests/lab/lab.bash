# shellcheck shell=bash
# The lab: a throw-away "node" with a private containerd, a host NIC on a wire to
# a peer, and candor's own state directory and policy. Shared by demo, bats,
# bench and soak. Nothing of the machine's own is touched: the node's network is
# a namespace, containerd has its own root, state, sockets and runc root.
#
#   source tests/lab/lab.bash
#   trap lab_down EXIT
#   lab_up                       # sets the LAB_* variables below
#   lab_run candor c1 --annotation ... -- /bin/sleep 600
#   lab_down && lab_check_gone
#
# Set by lab_up:
#   LAB_ID        cdr<hex>: in every name that the lab makes
#   LAB_DIR       its directory: etc, rootfs, containerd's data, logs
#   LAB_STATE     candor's state directory
#   LAB_CONFIG    candor's policy file
#   LAB_NS        containerd's namespace for the lab's containers
#   LAB_NODE      path of the node's network namespace; LAB_PEER the peer's
#   LAB_NIC, LAB_MAC, LAB_ALTNAME, LAB_MTU    the host NIC
#   LAB_SUBNET    first three octets of the wire's /24; node .2, peer .1
#   LAB_NODE_IP, LAB_PEER_IP
#
# Set by the caller before, if wanted:
#   LAB_OWN_NIC=ens5   no wire: the caller's own network namespace and this NIC of it
#   LAB_SECOND=1       a second host NIC and wire of the same MTU: LAB_NIC2,
#                      LAB_MAC2, LAB_ALTNAME2, LAB_SUBNET2, LAB_NODE_IP2, LAB_PEER_IP2
#   LAB_MORE=2         so many more, as arrays: LAB_MORE_NICS, LAB_MORE_MACS, LAB_MORE_SUBNETS

LAB_REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB_BIN=${CANDOR_BIN:-$LAB_REPO/bin}
LAB_TOOLS=$LAB_REPO/bin/tools

# shellcheck source=tests/lab/net.bash
source "$LAB_REPO/tests/lab/net.bash"
# shellcheck source=tests/lab/node.bash
source "$LAB_REPO/tests/lab/node.bash"
# shellcheck source=tests/lab/rootfs.bash
source "$LAB_REPO/tests/lab/rootfs.bash"
# shellcheck source=tests/lab/clean.bash
source "$LAB_REPO/tests/lab/clean.bash"

lab_error() { printf 'lab: %s\n' "$*" >&2; }

# lab_random LOW HIGH: a number from LOW to HIGH.
lab_random() { shuf -n 1 -i "$1-$2"; }

# lab_wait SECONDS COMMAND...: until the command succeeds, at most SECONDS, or
# LAB_PATIENCE times as many where all takes longer (an emulated machine).
lab_wait() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * ${LAB_PATIENCE:-1} * 1000000))
	shift
	until "$@" >/dev/null 2>&1; do
		((${EPOCHREALTIME/./} < deadline)) || return 1
		sleep 0.02
	done
}

# lab_up makes all of it. On a failure it says what failed; the caller's
# lab_down removes what was made until then.
lab_up() {
	[[ $EUID -eq 0 ]] || {
		lab_error "this has to run as root: it makes network namespaces, mounts and containers"
		return 1
	}
	LAB_ID=cdr$(printf '%04x' "$(lab_random 0 65535)")
	[[ ! -e /run/netns/$LAB_ID-node && ! -e /run/candor-lab-$LAB_ID ]] || {
		lab_error "$LAB_ID is taken; run it again"
		unset LAB_ID
		return 1
	}
	# Short: a unix socket's path has 108 bytes, and containerd appends a hash.
	LAB_DIR=/tmp/$LAB_ID
	LAB_STATE=/run/candor-lab-$LAB_ID
	LAB_CONFIG=$LAB_DIR/etc/config.toml
	LAB_NS=lab-$LAB_ID
	LAB_CANDORD_CGROUP=candord-$(printf '%s' "$LAB_STATE" | sha256sum | cut -c1-8)
	mkdir -m 0700 "$LAB_DIR" && mkdir "$LAB_DIR"/{etc,log,fifo,s} || return
	lab_remember || return
	lab_net_up || return
	lab_rootfs "$LAB_DIR/rootfs" || return
	lab_policy || return
	lab_containerd_up
}

# lab_down takes all of it away again, in the order that works also when
# something is missing or stuck. It may be called twice, and after half a lab_up.
lab_down() {
	[[ -n ${LAB_ID:-} && -n ${LAB_DIR:-} ]] || return 0
	lab_containers_down
	lab_containerd_down
	lab_candord_down
	lab_stragglers_down
	lab_mounts_down
	lab_net_down
	lab_cgroups_down
	if lab_has_mounts; then
		lab_error "mounts are left below $LAB_DIR or $LAB_STATE; the directories stay"
		return 1
	fi
	rm -rf --one-file-system "$LAB_DIR" "$LAB_STATE" "/run/containerd/runc/$LAB_NS" "/run/containerd/runc/$LAB_NS-b"
	# Only if they are empty: another containerd may live there.
	rmdir /run/containerd/runc /run/containerd/s /run/containerd/fifo /run/containerd 2>/dev/null || true
}
