#!/usr/bin/env bash
# Proves that the set-up works from nothing: debootstraps a bookworm without Go,
# copies a fresh clone into it, and runs there, in a chroot with namespaces of
# its own, what `make demo` and `make test` do before they start.
#
# The machine's own ways to Debian and to the Go modules (mirrors, proxies,
# certificates) are passed on as they are configured here, at run time. The
# bootstrapped root and what it downloads are kept under $XDG_CACHE_HOME/candor.
#
#   tests/fresh/run.sh        FRESH_SHELL=1 for a shell in it instead
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/candor
tarball=$cache/bookworm-$(dpkg --print-architecture).tar
started=$SECONDS

say() { printf 'fresh: %s\n' "$*"; }

die() {
	printf 'fresh: %s\n' "$*" >&2
	exit 1
}

# debian_mirror prints the URI of the Debian archive that this machine uses.
debian_mirror() {
	local uri
	# shellcheck disable=SC2016  # apt's own variables
	uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }')
	[[ -n $uri ]] || die "apt has no Debian archive in its sources, or no lists of it yet (apt-get update)"
	printf '%s\n' "$uri"
}

# bootstrap makes the tarball of a minimal bookworm, once.
bootstrap() {
	[[ ! -s $tarball ]] || return 0
	command -v debootstrap >/dev/null || die "debootstrap is missing: scripts/setup.sh test"
	mkdir -p "$cache"
	local mirror
	mirror=$(debian_mirror) || exit
	say "debootstrapping bookworm from $mirror, once; kept as $tarball"
	local work=$1/bootstrap
	debootstrap --variant=minbase --include=ca-certificates bookworm "$work" "$mirror" >"$1/debootstrap.log" 2>&1 || {
		tail -n 20 "$1/debootstrap.log" >&2
		die "debootstrap failed"
	}
	tar --one-file-system -C "$work" -cf "$tarball.new" .
	mv "$tarball.new" "$tarball"
	rm -rf --one-file-system "$work"
}

# hand_over ROOT gives the root this machine's ways out, and nothing else.
hand_over() {
	local root=$1 name
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	[[ ! -s /etc/hosts ]] || cp -L /etc/hosts "$root/etc/hosts"
	# apt's proxies and credentials; not its sources: bookworm's own are there.
	for name in apt.conf apt.conf.d auth.conf auth.conf.d; do
		[[ ! -e /etc/apt/$name ]] || cp -rL "/etc/apt/$name" "$root/etc/apt/"
	done
	rm -f "$root"/etc/apt/apt.conf.d/{20packagekit,50appstream}
	if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
		mkdir -p "$root/usr/local/share/ca-certificates"
		cp -L /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
	fi
	# A proxy's certificate may have been added to the bundle alone.
	cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
	{
		env | grep -iE '^(https?|ftp|all|no)_proxy=' || true
		for name in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY GOINSECURE; do
			printf '%s=%s\n' "$name" "$(go env "$name")"
		done
	} >"$root/etc/candor-fresh.env"
}

# copy_clone ROOT: what a clone has, and what is not committed yet; no bin/.
copy_clone() {
	mkdir -p "$1/src/candor"
	git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - 2>/dev/null | tar -C "$1/src/candor" -xf -
}

# inside ROOT COMMAND: in a chroot whose mounts and processes are its own.
inside() {
	local root=$1 variables=()
	mapfile -t variables <"$root/etc/candor-fresh.env"
	# Downloaded modules are kept between runs (checked by Go's sums each time);
	# what is built from them is not.
	mkdir -p "$cache/gomod"
	# shellcheck disable=SC2016  # expanded by the inner shell
	unshare --mount --pid --fork --kill-child --propagation private -- bash -c '
		set -e
		mount -t proc proc "$1/proc"
		mount --rbind /sys "$1/sys"
		mount --rbind /dev "$1/dev"
		mkdir -p "$1/root/go/pkg/mod/cache/download"
		mount --bind "$2" "$1/root/go/pkg/mod/cache/download"
		root=$1; shift 2
		exec chroot "$root" "$@"' bash "$root" "$cache/gomod" \
		env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"${variables[@]}" bash -euc "cd /src/candor; $2"
}

main() {
	[[ $EUID -eq 0 ]] || die "this has to run as root"
	local work root
	work=$(mktemp -d /var/tmp/candor-fresh.XXXXXX)
	root=$work/root
	# Its mounts live in the namespace that dies with the chroot.
	# shellcheck disable=SC2064  # this directory, whatever becomes of the variable
	trap "rm -rf --one-file-system '$work'" EXIT
	bootstrap "$work"
	mkdir "$root"
	tar -C "$root" -xf "$tarball"
	hand_over "$root"
	copy_clone "$root"
	if [[ -n ${FRESH_SHELL:-} ]]; then
		inside "$root" 'exec bash -i'
		return
	fi
	inside "$root" '! command -v go && ! command -v gcc && ! command -v make' >/dev/null || die "the fresh root is not fresh"

	say "set-up in a root without Go, gcc and make"
	inside "$root" 'scripts/setup.sh test && make SETUP=no tools build && bin/candor version'
	say "set-up once more: has to find everything"
	local again
	again=$(inside "$root" 'scripts/setup.sh test; scripts/tools.sh')
	grep -q 'nothing to install' <<<"$again" || die "the second set-up did something again: $again"
	say "passed in $((SECONDS - started)) s"
}

main
