# shellcheck shell=bash
# A kernel, its modules in the guest's root, and the initramfs that finds the root.

# build_kernel NAME PACKAGE: the package that the meta package stands for.
build_kernel() {
	local name=$1 package version modules
	package=$(debian_apt apt-cache depends "$2" | awk '/Depends: linux-image-/ { print $2; exit }')
	version=${package#linux-image-}
	debian_get "$package"
	debian_unpack "$package" kernel
	cp "kernel/boot/vmlinuz-$version" "vmlinuz-$name"
	modules=kernel/lib/modules/$version
	(cd "$modules/kernel" && rm -rf "${GUEST_WITHOUT_MODULES[@]}")
	if [[ $name == "$GUEST_NETDEVSIM" ]]; then build_netdevsim "$version" "$modules/extra"; fi
	mkdir -p root/usr/lib/modules
	mv "$modules" root/usr/lib/modules/
	chroot root depmod "$version"
	build_initramfs "$name" "$version"
	rm -rf kernel
}

# build_initramfs NAME VERSION: busybox and the modules that the root disk needs.
# What it does when it runs comes from inside/, at each boot (boot.bash).
build_initramfs() {
	local module tree=initramfs
	mkdir -p $tree/{bin,dev,proc,sys,modules,root}
	cp busybox $tree/bin/
	for module in virtio_pci virtio_blk ext4; do
		chroot root modprobe -S "$2" --show-depends "$module" 2>/dev/null
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >$tree/order
	while read -r module; do cp "root$module" $tree/modules/; done <$tree/order
	find $tree/modules -name '*.xz' -exec xz -d {} +
	sed -i 's|.*/|/modules/|; s|\.xz$||' $tree/order
	(cd $tree && find . | ../busybox cpio -o -H newc 2>/dev/null | gzip -1) >"initramfs-$1"
	rm -rf $tree
}
