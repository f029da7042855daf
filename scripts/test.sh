#!/usr/bin/env bash
# Runs the tests, one suite after the other, and says at the end how many ran
# where, how long each took, what failed, and what was skipped here and why. With
# names only those suites.
#
#   scripts/test.sh [unit|fuzz|crash|host|guest|fresh]...
#     FUZZTIME=4s BATS=tests/bats PKG=./...     CI=true: no guest is a failure
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/test-results.bash
source scripts/test-results.bash

unit() {
	# JSON for the reasons of skips; only failures and skips are printed. One
	# package at a time: they share the machine's mounts, and time matters.
	# shellcheck disable=SC2046,SC2086  # PKG may name several
	go test -p 1 -json ${PKG:-$(go list ./... | grep -v /tests/crash$)} >"$log/unit.json"
	local status=$?
	go_results unit "$status"
	results_note "$(jq -j 'select(.Action == "output") | .Output' "$log/unit.json" | sed -n 's/^ *[a-z_]*\.go:[0-9]*: \(view: .*\)/resource \1/p')"
	results_note "$(go_said unit TestEveryCaseHasItsProof | sed -n 's/.*: \(.* cases, .*\)/NICs, what goes wrong elsewhere (docs\/nic-cases.md): \1/p')"
	return "$status"
}

# crash is tests/crash, which every call of the hooks costs a run or two.
crash() {
	go test -count 1 -json ./tests/crash >"$log/crash.json"
	local status=$?
	go_results crash "$status"
	results_note "$(go_said crash TestCrashMatrix | sed -n '/the crash matrix/,$ { s/^ *[a-z_]*\.go:[0-9]*: //; /^ *---/d; p }')"
	return "$status"
}

# go_results SUITE STATUS: what $log/SUITE.json says, and of failed tests all.
go_results() {
	jq -j 'select(.Action == "output" and (.Test == null or .Action == "fail")) | .Output' "$log/$1.json" |
		grep -E '^(ok|FAIL|---|panic|\?)' | grep -v 'no test files'
	if (($2)); then
		jq -js '([.[] | select(.Action == "fail" and .Test != null) | .Package + " " + .Test]) as $f
			| .[] | select(.Action == "output" and .Test != null) | (.Package + " " + .Test) as $n
			| select($f | index($n)) | .Output' "$log/$1.json"
		# What did not even build says so on these lines.
		jq -j 'select(.Action == "build-output") | .Output' "$log/$1.json"
	fi
	results_from_go_json "$1" "$log/$1.json"
}

# go_said SUITE TEST prints what a test printed.
go_said() { jq -j --arg test "$2" 'select(.Action == "output" and .Test == $test) | .Output' "$log/$1.json"; }

# fuzz_target PACKAGE TARGET fuzzes one target. Left to itself the fuzzer spends
# most of its time on making a single interesting input smaller, and runs nothing
# meanwhile.
fuzz_target() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1s "$1" >"$log/fuzz" 2>&1
}

# fuzz_lost_the_race: the target failed of nothing but the end of its time, which
# Go's coordinator sometimes takes for a failure (golang/go#75804). An input that
# fails leaves a line of its own.
fuzz_lost_the_race() {
	grep -q '^ *context deadline exceeded$' "$log/fuzz" && ! grep -qiE 'failing input|panic|hung|_test\.go:' "$log/fuzz"
}

fuzz() {
	local package target status=0 ran=0 failed=0
	while read -r package target; do
		echo "fuzz $package $target for $FUZZTIME"
		ran=$((ran + 1))
		fuzz_target "$package" "$target" && continue
		if fuzz_lost_the_race; then
			echo "fuzz $package $target again: the end of its time was taken for a failure (golang/go#75804)"
			fuzz_target "$package" "$target" && continue
		fi
		cat "$log/fuzz"
		status=1 failed=$((failed + 1))
	done < <(grep -rlE --include='*_test.go' '^func Fuzz' . | while read -r file; do
		sed -n "s|^func \(Fuzz[A-Za-z0-9_]*\)(.*|$(dirname "$file") \1|p" "$file"
	done | sort -u)
	results_add fuzz "$ran" "$failed" 0
	return "$status"
}

host() {
	bats --print-output-on-failure --timing "${BATS:-tests/bats}" | tee "$log/host"
	local status=$?
	results_from_tap host "$log/host"
	results_note "$(sed -n 's/^# \(CANDOR_CHURN=.*\|[0-9]* started, .*\)/churn: \1/p' "$log/host")"
	return "$status"
}

guest() {
	local kernel status=0 started=$SECONDS
	tests/guest/run.sh --build 2>&1 | tee "$log/guest-build"
	status=$?
	results_add 'guest cache' - - - "$((SECONDS - started))"
	if ((status == 126)) && [[ ${CI:-} != true ]]; then
		results_skip guest "all of it: $(grep '^guest: ' "$log/guest-build" | tail -n 1)"
		return 0
	fi
	((status == 0)) || return
	for kernel in 6.12 6.1; do
		started=$SECONDS
		tests/guest/test.sh "$kernel" | tee "$log/guest-$kernel" || status=1
		results_from_tap "guest $kernel" "$log/guest-$kernel" "$((SECONDS - started))"
		sed -n 's/^# \(.* run in make soak: .*\)/\1/p' "$log/guest-$kernel" >>"$log/elsewhere"
	done
	return "$status"
}

fresh() {
	tests/fresh/run.sh
	local status=$?
	results_add fresh 1 "$((status > 0))" 0
	return "$status"
}

main() {
	local suite started failed=()
	FUZZTIME=${FUZZTIME:-4s}
	log=$(mktemp -d)
	trap 'rm -rf "$log"' EXIT
	if (($# == 0)); then set -- unit crash fuzz host fresh guest; fi
	for suite; do
		case $suite in
		unit | crash | fuzz | host | guest | fresh) ;;
		*)
			echo "test: no such suite: $suite (unit, crash, fuzz, host, guest, fresh)" >&2
			exit 2
			;;
		esac
	done
	for suite; do
		printf '\n=== %s\n' "$suite"
		started=$SECONDS
		"$suite" || failed+=("$suite")
		results_took "$suite" "$((SECONDS - started))"
	done
	results_print
	if ((${#failed[@]})); then
		printf 'FAILED: %s\n' "${failed[@]}"
		exit 1
	fi
}

main "$@"
