#!/usr/bin/env bash
# Runs the tests, one group after the other, and says at the end what passed,
# what failed and what was skipped here and why. With names only those groups.
#
#   scripts/test.sh [unit|fuzz|bats|fresh]...     FUZZTIME=60s BATS=tests/bats PKG=./...
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed=() passed=()

unit() {
	# JSON for the reasons of skips; only failures and skips are printed. One
	# package at a time: they share the machine's mounts, and time matters.
	# shellcheck disable=SC2086  # PKG may name several
	go test -p 1 -json ${PKG:-./...} >"$log/unit.json"
	local status=$?
	jq -j 'select(.Action == "output" and (.Test == null or .Action == "fail")) | .Output' "$log/unit.json" |
		grep -E '^(ok|FAIL|---|panic|\?)' | grep -v 'no test files'
	if ((status)); then
		jq -js '([.[] | select(.Action == "fail" and .Test != null) | .Package + " " + .Test]) as $f
			| .[] | select(.Action == "output" and .Test != null) | (.Package + " " + .Test) as $n
			| select($f | index($n)) | .Output' "$log/unit.json"
		# What did not even build says so on these lines.
		jq -j 'select(.Action == "build-output") | .Output' "$log/unit.json"
	fi
	jq -rs '([.[] | select(.Action == "skip" and .Test != null) | .Package + " " + .Test]) as $s
		| .[] | select(.Action == "output" and .Test != null) | (.Package + " " + .Test) as $n
		| select(($s | index($n)) and (.Output | test("^(=== |--- )") | not))
		| (.Package | sub("candor.dev/candor/"; "")) + " " + .Test + ": " + (.Output | gsub("\\s+"; " "))' \
		"$log/unit.json" >>"$log/skipped"
	return "$status"
}

fuzz() {
	local package target status=0
	while read -r package target; do
		echo "fuzz $package $target for $FUZZTIME"
		# Left to itself the fuzzer spends most of its minute on making a single
		# interesting input smaller, and runs nothing meanwhile.
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1s "$package" >"$log/fuzz" 2>&1; then
			cat "$log/fuzz"
			status=1
		fi
	done < <(grep -rlE --include='*_test.go' '^func Fuzz' . | while read -r file; do
		sed -n "s|^func \(Fuzz[A-Za-z0-9_]*\)(.*|$(dirname "$file") \1|p" "$file"
	done | sort -u)
	return "$status"
}

bats_() {
	if ! compgen -G "tests/bats/*.bats" >/dev/null; then
		echo "no bats files yet"
		return 0
	fi
	bats --print-output-on-failure --timing "${BATS:-tests/bats}" | tee "$log/bats"
	local status=$?
	sed -nE 's/^ok [0-9]+ (.*) # skip ?(.*)/bats \1: \2/p' "$log/bats" >>"$log/skipped"
	return "$status"
}

fresh() { tests/fresh/run.sh; }

FUZZTIME=${FUZZTIME:-60s}
if (($# == 0)); then set -- unit fuzz bats fresh; fi
for group; do
	started=$SECONDS
	printf '\n=== %s\n' "$group"
	case $group in
	unit | fuzz | fresh) "$group" ;;
	bats) bats_ ;;
	*)
		echo "test: no such group: $group (unit, fuzz, bats, fresh)" >&2
		exit 2
		;;
	esac
	status=$?
	if ((status == 0)); then passed+=("$group ($((SECONDS - started)) s)"); else failed+=("$group"); fi
done

printf '\n=== summary\n'
if [[ -s $log/skipped ]]; then
	echo "skipped here:"
	sort -u "$log/skipped" | sed 's/^/  /'
fi
if ((${#passed[@]})); then printf 'passed: %s\n' "${passed[@]}"; fi
if ((${#failed[@]})); then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
