#!/usr/bin/env bash
# Runs what plan.bash has for the kernels and prints TAP, all boots numbered as
# one. Exits with 1 if a test failed or a guest died, 126 if none can be built.
#
#   tests/guest/test.sh [--soak] [6.12|6.1]...      --soak: what goes over the budget
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/guest/plan.bash
source "$here/plan.bash"

# boots KERNEL prints its boots, a line each.
boots() {
	local -n normal=GUEST_BOOTS_${1/./_} soak=GUEST_SOAK_${1/./_}
	if [[ -z $SOAK ]]; then
		printf '%s\n' "${normal[@]}"
	else
		# Of the ordinary files what was left out; all of the others.
		printf '%s\n' "${normal[@]}" | sed -n 's/go:[^ ]* *//g; s/!guest-soak/guest-soak/p'
		printf '%s\n' "${soak[@]}"
	fi
}

# say_soak KERNEL: how many tests its budget keeps out, and where they are.
say_soak() {
	[[ -z $SOAK ]] || return 0
	local options tests word file files=() tagged=()
	while IFS='|' read -r options tests; do
		for word in $tests; do
			file=$(find "$here/bats" "$here/../bats" -name "${word#bats:}.bats")
			[[ -n $file ]] || continue
			if [[ $options == *guest-soak* ]]; then tagged+=("$file"); else files+=("$file"); fi
		done
	done < <(SOAK=yes boots "$1")
	printf '# %s: %d bats tests run in make soak: those with the tag guest-soak, all of %s (tests/guest/plan.bash)\n' "$1" \
		$(($(bats --count --filter-tags guest-soak "${tagged[@]}") + $(bats --count "${files[@]}"))) "$(printf '%s\n' "${files[@]##*/}" | paste -sd' ')"
}

# one_boot BOOT: its TAP, and a point more if it ended by itself or without any.
one_boot() {
	local options tests tap try status
	IFS='|' read -r options tests <<<"$1"
	tap=$(mktemp)
	for try in 1 2 3; do
		status=0
		# shellcheck disable=SC2086  # words
		"$here/suites.sh" --timeout "$GUEST_TIMEOUT" $options $tests >"$tap" || status=$?
		((status == 123)) || break
		printf '# the guest stalled (boot %d): all of it again\n' "$try"
	done
	cat "$tap"
	rm -f "$tap"
	((status <= 1)) || printf 'not ok 0 the guest (%s) ended with status %d\n' "$options" "$status"
}

# renumber NAME: several TAP streams as one, line by line as they come; NAME
# begins each test's. Fails if one failed, or if there was none.
renumber() {
	local line number=0 failed='' header=''
	while IFS= read -r line; do
		case $line in
		'TAP version'*)
			[[ -n $header ]] || printf '%s\n' "$line"
			header=yes
			;;
		1..*) ;;
		'ok '* | 'not ok '*)
			[[ $line =~ ^(ok|not ok)\ [0-9]+\ (.*) ]] || continue
			[[ ${BASH_REMATCH[1]} == ok ]] || failed=yes
			number=$((number + 1))
			printf '%s %d %s %s\n' "${BASH_REMATCH[1]}" "$number" "$1" "${BASH_REMATCH[2]}"
			;;
		*) printf '%s\n' "$line" ;;
		esac
	done
	printf '1..%d\n' "$number"
	[[ -z $failed ]] && ((number))
}

main() {
	local kernel boot status=0 SOAK='' GUEST_TIMEOUT=${GUEST_TIMEOUT:-1500}
	if [[ ${1:-} == --soak ]]; then
		SOAK=yes GUEST_TIMEOUT=7200
		shift
	fi
	if (($# == 0)); then set -- 6.12 6.1; fi
	"$here/run.sh" --build || exit 126
	for kernel; do
		boots "$kernel" | while read -r boot; do one_boot "$boot" </dev/null; done | renumber "$kernel" || status=1
		say_soak "$kernel"
	done
	exit "$status"
}

main "$@"
