#!/usr/bin/env bash
# Runs a command, as root, in a fresh guest and returns its exit status. Its
# output, both streams, comes on stdout. The first use builds the guest.
#
#   tests/guest/run.sh [OPTIONS] COMMAND...     one word is a shell line
#     --kernel 6.12|6.1         6.12
#     --cgroup v2|v1|hybrid     v2; v1 and hybrid have memory and cpuset on 6.1 only
#     --systemd                 systemd is pid 1, the command a service of its (v2 only)
#     --cpus N, --memory MIB    2, 3072
#     --timeout SECONDS         1200
#     --results DIRECTORY       seen, and written, as /results; else thrown away
#   tests/guest/run.sh --build       only builds;  --clean removes the cache
#
# In the guest the project is at /candor, not writable; the command starts there.
# 123: it stalled, run it again. 124: not done in time. 125: the guest died.
# 126: it cannot be built.
# GUEST_ACCEL=kvm|tcg instead of the probe; GUEST_APPEND=kernel words.
set -euo pipefail

GUEST_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GUEST_PROJECT=${GUEST_PROJECT:-$(cd "$GUEST_HERE/../.." && pwd)}
# Used by boot.
export GUEST_CPUS=2 GUEST_MEMORY=3072 GUEST_RESULTS='' GUEST_COMMAND='' GUEST_BOOT_SECONDS=${GUEST_BOOT_SECONDS:-180}
# shellcheck source=tests/guest/cache.bash
source "$GUEST_HERE/cache.bash"
# shellcheck source=tests/guest/accel.bash
source "$GUEST_HERE/accel.bash"
# shellcheck source=tests/guest/hardware.bash
source "$GUEST_HERE/hardware.bash"
# shellcheck source=tests/guest/hotplug.bash
source "$GUEST_HERE/hotplug.bash"
# shellcheck source=tests/guest/boot.bash
source "$GUEST_HERE/boot.bash"

die() {
	printf 'guest: %s\n' "$*" >&2
	exit 2
}

main() {
	local kernel=6.12 cgroup=v2 seconds=1200 build_only='' try status=0
	while (($#)); do
		case $1 in
		--kernel) kernel=$2 ;;
		--cgroup) cgroup=$2 ;;
		--cpus) GUEST_CPUS=$2 ;;
		--memory) GUEST_MEMORY=$2 ;;
		--timeout) seconds=$2 ;;
		--systemd)
			GUEST_APPEND="${GUEST_APPEND:-} guest.systemd=yes"
			shift
			continue
			;;
		--results) GUEST_RESULTS=$(realpath "$2") ;;
		--build) build_only=yes ;;
		--clean)
			rm -rf --one-file-system "$GUEST_CACHE"
			return
			;;
		-*) die "no such option: $1" ;;
		*) break ;;
		esac
		if [[ -z $build_only ]]; then shift; fi
		shift
	done
	[[ $kernel == 6.12 || $kernel == 6.1 ]] || die "no such kernel: $kernel"
	[[ $cgroup == v2 || $cgroup == v1 || $cgroup == hybrid ]] || die "no such cgroup layout: $cgroup"
	cache_up || exit 126
	if [[ -n $build_only ]]; then return; fi
	(($#)) || die "no command"
	if (($# == 1)); then GUEST_COMMAND=$1; else GUEST_COMMAND=$(printf '%q ' "$@"); fi

	GUEST_RUN=$(mktemp -d "${TMPDIR:-/tmp}/candor-guest.XXXXXX")
	trap 'hotplug_down; rm -rf --one-file-system "$GUEST_RUN"' EXIT
	if [[ -z $GUEST_RESULTS ]]; then
		GUEST_RESULTS=$GUEST_RUN/results
		mkdir "$GUEST_RESULTS"
	fi
	for try in 1 2 3; do
		status=0
		boot "$kernel" "$cgroup" "$seconds" || status=$?
		if boot_started || ((try == 3 || status == 124)); then break; fi
		printf 'guest: it was not up within %d s; again\n' "$GUEST_BOOT_SECONDS" >&2
	done
	return "$(boot_status "$status")"
}

main "$@"
