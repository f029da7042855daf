#!/usr/bin/env bash
# Builds the guest into DIRECTORY: QEMU, root disk, kernels with their initramfs.
# Installs nothing and leaves nothing but DIRECTORY. run.sh calls it, once.
#
#   tests/guest/build.sh DIRECTORY
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/guest/recipe.bash
source "$here/recipe.bash"
# shellcheck source=tests/guest/build/debian.bash
source "$here/build/debian.bash"
# shellcheck source=tests/guest/build/qemu.bash
source "$here/build/qemu.bash"
# shellcheck source=tests/guest/build/root.bash
source "$here/build/root.bash"
# shellcheck source=tests/guest/build/kernel.bash
source "$here/build/kernel.bash"
# shellcheck source=tests/guest/build/netdevsim.bash
source "$here/build/netdevsim.bash"

die() {
	printf 'guest: cannot be built: %s\n' "$*" >&2
	exit 1
}

step() {
	local started=$SECONDS
	"$@"
	printf 'guest: %s: %d s\n' "$*" $((SECONDS - started))
}

main() {
	(($# == 1)) || die "usage: build.sh DIRECTORY"
	local target=$1 program kernel
	[[ $EUID -eq 0 ]] || die "it takes root"
	[[ $(uname -m) == x86_64 ]] || die "this machine is no x86_64"
	for program in apt-get dpkg-deb gcc make mke2fs tar xz; do
		command -v "$program" >/dev/null || die "$program is missing (it takes a Debian 12 or newer, and make setup-test)"
	done
	[[ -s $GUEST_KEYRING ]] || die "$GUEST_KEYRING is missing (package debian-archive-keyring)"

	work=$(mktemp -d "$target.XXXXXX")
	trap 'tail -n 4 "$work"/*.log >&2 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
	cd "$work"
	printf 'guest: building in %s, once; it takes a minute or two\n' "$target"
	step debian_up
	debian_get mmdebstrap
	debian_unpack mmdebstrap mmdebstrap
	step build_qemu
	step build_root
	for kernel in "${GUEST_KERNELS[@]}"; do step build_kernel "${kernel%%:*}" "${kernel#*:}"; done
	step build_disk
	rm -rf --one-file-system root mmdebstrap apt debs ./*.log
	: >complete
	rm -rf --one-file-system "$target"
	mv "$work" "$target"
	trap - EXIT
	printf 'guest: built in %d s, %s\n' "$SECONDS" "$(du -sh "$target" | cut -f1)"
}

main "$@"
