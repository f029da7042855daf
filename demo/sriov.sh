#!/usr/bin/env bash
# The demo on real SR-IOV hardware: each wire is a VF of one PF and a VF of the
# other (driver igbvf). For the test guest, by `make demo-sriov`.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=tests/guest/fixtures/sriov.bash
source tests/guest/fixtures/sriov.bash

missing=$(sriov_missing)
if [[ -n $missing ]]; then
	printf 'demo: %s\n' "$missing" >&2
	exit 1
fi
trap sriov_down EXIT
sriov_up 2 && LAB_ENDS=$(sriov_wires 2) || exit
# The emulated cards compute no checksum of what is inside a tunnel, as the overlay
# is one. Off on all of them: what is compared shall not differ in that.
for vf in $LAB_ENDS; do ethtool -K "$vf" tx off >/dev/null || exit; done
echo "The VFs (PF, number, PCI address, netdev, MAC):"
sriov_list | sed 's/^/  /'
echo
export LAB_ENDS
# An emulated machine: all takes ten times as long, its CPUs carry 300 Mbit/s at best,
# and beside other work a tenth of that; its timers are late.
export LAB_PATIENCE=5 DEMO_TCP=20M DEMO_UDP=512K DEMO_MIN_RATE=4 DEMO_MAX_RATE=10 DEMO_SHORT=30
demo/run.sh
