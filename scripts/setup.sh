#!/usr/bin/env bash
# Installs what this repository needs on Debian 12 or newer: apt packages, and Go
# where it is missing or too old. Says first what it is going to install; does
# nothing, in a fraction of a second, when all of it is there.
#
#   scripts/setup.sh [build|demo|test|soak|bench]...     (default: demo)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
source scripts/versions.sh

die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

say() { printf 'setup: %s\n' "$*"; }

apt() {
	# The lock: on a new cloud machine unattended-upgrades holds it for minutes.
	local try
	for try in 1 2 3; do
		DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" && return
		say "apt-get $1 failed (attempt $try of 3)"
		sleep $((try * 3))
	done
	die "apt-get $* failed three times; its messages are above"
}

# wanted_packages GROUP... prints the packages of the groups, one a line.
wanted_packages() {
	local group
	for group; do
		case $group in
		build) printf '%s\n' "${PACKAGES_BUILD[@]}" ;;
		demo) printf '%s\n' "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" ;;
		test) printf '%s\n' "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" "${PACKAGES_TEST[@]}" ;;
		soak) printf '%s\n' "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" "${PACKAGES_TEST[@]}" "${PACKAGES_SOAK[@]}" ;;
		bench) printf '%s\n' "${PACKAGES_BUILD[@]}" "${PACKAGES_DEMO[@]}" "${PACKAGES_BENCH[@]}" ;;
		*) die "no such group: $group (build, demo, test, soak, bench)" ;;
		esac
	done | sort -u
}

# missing_packages PACKAGE... prints those that are not installed.
missing_packages() {
	local installed
	installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | sort -u) || true
	comm -23 <(printf '%s\n' "$@" | sort -u) <(printf '%s\n' "$installed")
}

# unpacked_packages GROUP... prints the packages that are not to be installed but
# unpacked, below $unpacked.
unpacked=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/candor
unpacked_packages() {
	if [[ " $* " == *" soak "* ]]; then printf '%s\n' "${PACKAGES_SOAK_UNPACKED[@]}"; fi
}

# unpack PACKAGE: whole or not at all.
unpack() (
	mkdir -p "$unpacked"
	work=$(mktemp -d "$unpacked/unpack.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	# root: apt's own user may not write here.
	apt download -o APT::Sandbox::User=root "$1"
	dpkg-deb -x ./*.deb root
	mv -T root "$unpacked/$1"
)

# go_version prints the version of the Go in the path ("1.24.3"), or nothing. It
# asks for the installed one, not for the toolchain that go.mod would fetch.
go_version() {
	local v
	v=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 0
	v=${v#go}
	printf '%s\n' "${v%%[!0-9.]*}"
}

# at_least VERSION MINIMUM
at_least() { [[ -n $1 && $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]; }

# packaged_go prints the newest version of golang-go that apt knows, as 1.24.
packaged_go() {
	apt-cache madison golang-go 2>/dev/null |
		sed -n 's/^[^|]*| *\(2:\)\?\([0-9]*\.[0-9]*\).*/\2/p' | sort -V | tail -n1
}

# add_backports configures the release's backports from the mirror that the
# machine uses already: it may have no way to any other.
add_backports() {
	local codename=$1 target=/etc/apt/sources.list.d/candor-backports.sources uri signed
	# shellcheck disable=SC2016  # apt's own variables
	read -r uri signed < <(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' |
		awk -v c="$codename" '$1 == c && $2 == "main" { print $3, $4; exit }') || true
	[[ -n ${uri:-} ]] || die "apt has no Debian $codename archive to take backports from: add one to /etc/apt/sources.list.d, or install Go 1.21 or newer"
	[[ ${signed:-} == /* ]] || signed=/usr/share/keyrings/debian-archive-keyring.gpg
	say "adding $codename-backports from $uri ($target)"
	printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\nSigned-By: %s\n' "$uri" "$codename" "$signed" >"$target"
	apt update
}

install_go() {
	local codename
	if ! at_least "$(packaged_go)" "$GO_MINIMUM"; then
		codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
		[[ -n $codename ]] || die "this Debian has no release name in /etc/os-release; install Go $GO_MINIMUM or newer by hand"
		# shellcheck disable=SC2016  # apt's own variable
		apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -x "$codename-backports" >/dev/null || add_backports "$codename"
		at_least "$(packaged_go)" "$GO_MINIMUM" || die "no Go from $GO_MINIMUM on in $codename-backports; install it from https://go.dev/dl"
		apt install -y --no-install-recommends -t "$codename-backports" golang-go
	else
		apt install -y --no-install-recommends golang-go
	fi
	hash -r
	at_least "$(go_version)" "$GO_MINIMUM" || die "Go is installed, but $(command -v go) says version $(go_version): an older one stands before it in PATH"
}

main() {
	# A root shell from sudo or cron often lacks the place of Go's own tarball.
	PATH=$PATH:/usr/local/go/bin
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		die "this is for Debian 12 or newer. Elsewhere install Go $GO_MINIMUM or newer and $(wanted_packages "$@" | paste -sd' '), and give SETUP=no to make"
	fi

	local packages missing=() wanted to_unpack=() need_go=no have
	mapfile -t packages < <(wanted_packages "$@")
	mapfile -t missing < <(missing_packages "${packages[@]}")
	# Only root runs the tests that use them, from its own cache.
	while read -r wanted; do
		[[ $EUID -ne 0 || -d $unpacked/$wanted ]] || to_unpack+=("$wanted")
	done < <(unpacked_packages "$@")
	have=$(go_version)
	at_least "$have" "$GO_MINIMUM" || need_go=yes
	if ((${#missing[@]} + ${#to_unpack[@]} == 0)) && [[ $need_go == no ]]; then
		say "nothing to install (Go $have)"
		return
	fi

	say "going to install:"
	if ((${#missing[@]})); then say "  from Debian: ${missing[*]}"; fi
	if ((${#to_unpack[@]})); then say "  nothing, but to unpack in $unpacked: ${to_unpack[*]}"; fi
	if [[ $need_go == yes ]]; then say "  Go: ${have:-none} here, $GO_MINIMUM or newer needed; from Debian, its backports where the release's is older"; fi
	[[ $EUID -eq 0 ]] || die "that takes root; nothing was changed"
	apt update
	if ((${#missing[@]})); then apt install -y --no-install-recommends "${missing[@]}"; fi
	for wanted in "${to_unpack[@]}"; do unpack "$wanted"; done
	if [[ $need_go == yes ]]; then install_go; fi
	say "done (Go $(go_version))"
}

if (($# == 0)); then set -- demo; fi
main "$@"
