# shellcheck shell=bash disable=SC2154  # log is test.sh's
# What the suites of scripts/test.sh came to, in $log: a line per suite ("name|
# tests|failed|skipped|seconds") and a line per skipped test with its reason.

# Seconds that a suite may take; one that takes longer moves cases to `make soak`.
declare -A RESULTS_BUDGET=([unit]=240 [host]=540 ['guest cache']=180 ['guest 6.12']=840 ['guest 6.1']=420)

# results_add SUITE TESTS FAILED SKIPPED [SECONDS]
results_add() { printf '%s|%s|%s|%s|%s\n' "$1" "$2" "$3" "$4" "${5:-}" >>"$log/results"; }

# results_took SUITE SECONDS, for those that did not say it themselves.
results_took() { [[ ! -e $log/results ]] || sed -i "s/^\($1|.*|\)\$/\1$2/" "$log/results"; }

# results_skip SUITE TEXT
results_skip() { printf '%s: %s\n' "$1" "$2" >>"$log/skipped"; }

# results_note TEXT: for the end; nothing is no note.
results_note() { [[ -z $1 ]] || printf '%s\n' "$1" >>"$log/notes"; }

# results_from_tap SUITE FILE [SECONDS]
results_from_tap() {
	local reason
	results_add "$1" "$(grep -cE '^(not )?ok [0-9]' "$2")" "$(grep -cE '^not ok [0-9]' "$2")" "$(grep -cE '^ok [0-9].* # skip' "$2")" "${3:-}"
	sed -nE 's/^ok [0-9]+ (.*) # skip ?(.*)/\1: \2/p' "$2" | sed -E 's/ in [0-9]+ ?ms:/:/' | while read -r reason; do results_skip "$1" "$reason"; done
}

# results_from_go_json SUITE FILE: of `go test -json`. Subtests are not counted.
results_from_go_json() {
	local reason tests failed skipped
	read -r tests failed skipped < <(jq -rs '[.[] | select(.Test != null and (.Test | contains("/") | not)) | .Action]
		| [map(select(. == ("pass", "fail", "skip"))), map(select(. == "fail")), map(select(. == "skip"))] | map(length) | @tsv' "$2")
	results_add "$1" "$tests" "$failed" "$skipped"
	jq -rs '([.[] | select(.Action == "skip" and .Test != null) | .Package + " " + .Test]) as $s
		| .[] | select(.Action == "output" and .Test != null) | (.Package + " " + .Test) as $n
		| select(($s | index($n)) and (.Output | test("^(=== |--- )") | not))
		| (.Package | sub("candor.dev/candor/"; "")) + " " + .Test + ": " + (.Output | gsub("\\s+"; " "))' "$2" |
		while read -r reason; do results_skip "$1" "$reason"; done
}

results_print() {
	local name tests failed skipped seconds budget over=()
	printf '\n=== summary\n%-12s %6s %7s %8s %8s %9s\n' suite tests failed skipped took budget
	while IFS='|' read -r name tests failed skipped seconds; do
		budget=${RESULTS_BUDGET[$name]:-}
		printf '%-12s %6s %7s %8s %6s s %9s\n' "$name" "$tests" "$failed" "$skipped" "$seconds" "${budget:+$budget s}"
		((${budget:-$seconds} >= seconds)) || over+=("$name")
	done <"$log/results"
	if [[ -s $log/notes ]]; then cat "$log/notes"; fi
	if [[ -s $log/skipped ]]; then
		echo "skipped here:"
		sort -u "$log/skipped" | sed 's/^/  /'
	fi
	if [[ -s $log/elsewhere ]]; then
		echo "not here:"
		sed 's/^/  /' "$log/elsewhere"
	fi
	if ((${#over[@]})); then printf 'over its budget: %s\n' "${over[@]}"; fi
}
