# shellcheck shell=bash
# netdevsim, which takes the VF settings that igb refuses (802.1ad, min_tx_rate,
# link state), and ptp_mock, which it uses. Debian ships neither; they are built
# from Debian's own source and headers of the very version. It taints the kernel.

# build_netdevsim VERSION MODULES
build_netdevsim() {
	local version=$1 base=${1%-amd64} headers file
	debian_get "linux-headers-$version" "linux-headers-$base-common" "linux-kbuild-$base" "$GUEST_NETDEVSIM_SOURCE"
	for file in "linux-headers-$version" "linux-headers-$base-common" "linux-kbuild-$base"; do debian_unpack "$file" headers; done
	mkdir source
	dpkg-deb --fsys-tarfile debs/"$GUEST_NETDEVSIM_SOURCE"_*.deb | tar -xO "./usr/src/$GUEST_NETDEVSIM_SOURCE.tar.xz" |
		tar -xJ -C source --strip-components=3 --wildcards '*/drivers/net/netdevsim/*' '*/drivers/ptp/ptp_mock.c'
	printf 'obj-m := ptp_mock.o netdevsim/\n' >source/Kbuild
	headers=$PWD/headers/usr/src/linux-headers-$version
	# The headers name their own place, and Debian's compiler of that version.
	sed -i "s|/usr/src/|$PWD/headers/usr/src/|" "$headers/Makefile"
	sed -i 's/gcc-[0-9]*/gcc/' "$headers/.kernelvariables"
	# Without it there is no BTF to make, which would take pahole.
	rm -f "$headers/vmlinux"
	make -s -C "$headers" M="$PWD/source" CONFIG_NETDEVSIM=m \
		KCFLAGS='-DCONFIG_PTP_1588_CLOCK_MOCK_MODULE=1 -DCONFIG_NETDEVSIM_MODULE=1' modules >netdevsim.log 2>&1
	mkdir -p "$2"
	find source -name '*.ko' -exec cp {} "$2/" \;
	rm -rf source headers
}
