# shellcheck shell=bash disable=SC2034,SC2054  # used elsewhere; the commas are QEMU's
# The guest's NICs.

# Two SR-IOV PFs, driver igb, seven VFs each, on one wire: a VF of the one
# reaches those of the other. Each behind a root port of its own, as cards are;
# without an option ROM, which nobody boots from. One root port is left empty:
# there a NIC is plugged in while the guest runs (hotplug.bash).
GUEST_HARDWARE=(
	-netdev hubport,id=wire0,hubid=0 -netdev hubport,id=wire1,hubid=0
	-device pcie-root-port,id=slot0,chassis=1,slot=1 -device igb,bus=slot0,netdev=wire0,mac=52:54:00:00:00:10,romfile=
	-device pcie-root-port,id=slot1,chassis=2,slot=2 -device igb,bus=slot1,netdev=wire1,mac=52:54:00:00:00:20,romfile=
	-device pcie-root-port,id=slot2,chassis=3,slot=3
)
