#!/usr/bin/env bash
# Runs tests of the project in the guest, as many as possible in one boot, and
# prints their results as TAP. The Go tests are compiled here, the bats suites
# run with the programs in bin/ and bin/tools/.
#
#   tests/guest/suites.sh [OPTIONS of run.sh] [--tags TAGS] [go:PACKAGE[:RUN] | bats:FILE[:FILTER]]...
#     --tags TAGS   of the bats tests only those with these tags (bats's --filter-tags)
#     --long        Go tests without -short
#
#   tests/guest/suites.sh go:cgroup go:resview/render bats:05-view
#   tests/guest/suites.sh --systemd bats:systemd    a file of tests/guest/bats
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

main() {
	local options=() work tests=() tags='' long='' status=0
	while (($#)); do
		case $1 in
		--tags)
			tags=$2
			shift 2
			;;
		--long)
			long=-test.short=false
			shift
			;;
		--systemd)
			options+=("$1")
			shift
			;;
		--kernel | --cgroup | --timeout | --cpus | --memory)
			options+=("$1" "$2")
			shift 2
			;;
		go:* | bats:*)
			tests+=("$1")
			shift
			;;
		*)
			printf 'guest: no such test: %s\n' "$1" >&2
			exit 2
			;;
		esac
	done
	work=$(mktemp -d "${TMPDIR:-/tmp}/candor-suites.XXXXXX")
	# shellcheck disable=SC2064  # this directory, whatever becomes of the variable
	trap "rm -rf --one-file-system '$work'" EXIT
	pack "$work" "${tests[@]}"
	"$here/run.sh" "${options[@]}" --results "$work" "GUEST_TAGS=$(printf '%q' "$tags") GUEST_LONG=$long bash /run/guest/suites$(printf ' %q' "${tests[@]}")" || status=$?
	return "$status"
}

# pack WORK TEST...: what the tests need, as one archive: thousands of small
# files are slow to read through 9p.
pack() {
	local work=$1 test package
	shift
	mkdir "$work/go-tests"
	for test; do
		[[ $test == go:* ]] || continue
		package=${test#go:} package=${package%%:*}
		CGO_ENABLED=0 nice go test -c -o "$work/go-tests/${package//\//_}" "./$package"
	done
	{
		git ls-files -z --cached --others --exclude-standard -- . ':!bench' ':!docs'
		find bin -maxdepth 1 -type f -print0
		printf '%s\0' bin/tools/{containerd,ctr,runc,containerd-shim-runc-v2}
	} | tar --null --ignore-failed-read -T - -cf "$work/project.tar" 2>/dev/null
	tar -C "$work" -rf "$work/project.tar" go-tests
	if [[ " $* " == *" bats:systemd"* ]]; then
		# What is installed where, only the Makefile says, and the guest has no make.
		make -s -o build install DESTDIR="$work/installed" SETUP=no >/dev/null
		tar -C "$work" -rf "$work/project.tar" installed
		rm -r "$work/installed"
	fi
}

main "$@"
