#!/usr/bin/env bash
# The part "vf" of the benchmark in the test guest, on igb's VFs. The guest has no Go:
# the helpers are built here. As root.
#
#   bench/guest.sh
#
#   BENCH_SRIOV_CNI=FILE   sriov-cni, built without cgo; else bin/tools/cni/sriov
#   BENCH_PAIRS=30         an emulated machine takes ten times as long
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/guest/fixtures/sriov.bash
source tests/guest/fixtures/sriov.bash
mkdir -p bench/results bin/bench
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/bench/ ./bench/...
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
sriov=${BENCH_SRIOV_CNI:-bin/tools/cni/sriov}
[[ ! -x $sriov ]] || install -m 0755 "$sriov" "$results/sriov"

# Its linters are half of bin.
tar -cf "$results/project.tar" --exclude='bin/tools/*lint' --exclude=bin/tools/shfmt --exclude=bench/results bin bench demo tests
status=0
tests/guest/run.sh --results "$results" "
	mkdir /srv/candor && cd /srv/candor && tar -xf /results/project.tar &&
		{ [[ ! -x /results/sriov ]] || cp /results/sriov bin/tools/cni/; } &&
		CANDOR_TEST_PFS='$SRIOV_PF0 $SRIOV_PF1' LAB_PATIENCE=5 BENCH_PAIRS=${BENCH_PAIRS:-30} BENCH_RESULTS=/results \\
			bench/run.sh vf" || status=$?
rm -f "$results/sriov" "$results/project.tar"
cp -r "$results/." bench/results/
exit "$status"
