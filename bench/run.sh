#!/usr/bin/env bash
# Measures candor beside its peers and prints one table. As root.
#
#   bench/run.sh [hooks] [limit] [start] [view]      (default: these four)
#   bench/run.sh [attach] [vf] [rate]                (make bench-nic)
#   bench/run.sh view                                (make bench-resview)
#
#   BENCH_PAIRS=100       pairs of container starts, of moves of a NIC
#   BENCH_ROUNDS=20       rounds of rates over all ways that packets go, and of reads
#                         over all servers and files
#   BENCH_BURST=50        how long a file of a server is read in a loop, in ms
#   BENCH_RESULTS=DIR     where the results go (bench/results)
#
# All parts compare within one run, measured in turn: what disturbs the machine
# disturbs both sides. Nothing here is asserted; that is what tests are for.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/lab/lab.bash
source tests/lab/lab.bash
# shellcheck source=bench/lib.bash
source bench/lib.bash
for part in hooks limit start view attach vf rate; do
	# shellcheck source=/dev/null
	source "bench/$part.bash"
done

BENCH_PAIRS=${BENCH_PAIRS:-100}
BENCH_ROUNDS=${BENCH_ROUNDS:-20}
BENCH_BURST=${BENCH_BURST:-50}
BENCH_RESULTS=${BENCH_RESULTS:-bench/results}
stamp=$(date -u +%Y%m%dT%H%M%SZ)
status=0

parts=("$@")
((${#parts[@]})) || parts=(hooks limit start view)

mkdir -p "$BENCH_RESULTS" || exit 1
BENCH_OUT=$(cd "$BENCH_RESULTS" && pwd)/$stamp
trap bench_down EXIT
bench_say "lab"
# Rates are measured on two wires.
[[ " ${parts[*]} " != *" rate "* ]] || export LAB_SECOND=1
[[ " ${parts[*]} " != *" vf "* ]] || bench_vf_up || exit 1
lab_up && bench_state_up || exit 1
bench_build || exit 1

for part in "${parts[@]}"; do
	declare -F "bench_$part" >/dev/null || {
		bench_say "no such part: $part"
		exit 2
	}
	bench_say "$part"
	"bench_$part" || {
		bench_say "$part: FAILED"
		status=1
	}
done

bench_table || status=1
exit "$status"
