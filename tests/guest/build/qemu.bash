# shellcheck shell=bash
# QEMU, unpacked with all of its libraries and its own libc into a directory and
# run by its own loader: nothing is installed, whatever Debian this machine has.

build_qemu() {
	debian_root qemu extract qemu-system-x86 >qemu.log 2>&1
}
