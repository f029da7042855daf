#!/usr/bin/env bash
# All linters; goes on past the first that complains.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
status=0

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' '*.bash' '.ci/run' 'tests/guest/inside/*')
mapfile -t bats < <(git ls-files --cached --others --exclude-standard '*.bats')

echo "lint: shellcheck (${#scripts[@]} scripts, ${#bats[@]} bats files)"
# -x: sourced files belong to what they are sourced by.
shellcheck -x "${scripts[@]}" || status=1
if ((${#bats[@]})); then shellcheck -x -s bats "${bats[@]}" || status=1; fi

echo "lint: shfmt"
bin/tools/shfmt -d "${scripts[@]}" "${bats[@]}" || status=1

echo "lint: golangci-lint"
nice -n 10 bin/tools/golangci-lint run ./... || status=1

((status == 0)) && echo "lint: clean"
exit "$status"
