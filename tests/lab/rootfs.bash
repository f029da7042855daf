# shellcheck shell=bash
# The container's root file system: busybox, and iperf3 with its libraries.

# lab_rootfs DIR
lab_rootfs() {
	local dir=$1 lib
	mkdir -p "$dir"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root,run,var} || return
	cp /bin/busybox "$dir/bin/busybox" || {
		lab_error "no /bin/busybox: run make setup"
		return 1
	}
	# In one process: 400 calls of ln take a second. `ctr run --rootfs` gives a
	# container no PATH; busybox's shell then looks in /sbin, /usr/sbin, /bin, /usr/bin.
	chroot "$dir" /bin/busybox --install -s || return
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$dir/etc/passwd"
	printf 'root:x:0:\n' >"$dir/etc/group"
	lab_copy_program "$(command -v iperf3)" "$dir" && lab_copy_libgcc "$dir"
}

# lab_copy_libgcc ROOTFS: glibc looks for it when a program cancels a thread, as
# newer iperf3s do at their end; ldd does not know.
lab_copy_libgcc() {
	local lib
	lib=$(ldconfig -p | awk '$1 == "libgcc_s.so.1" { print $NF; exit }')
	[[ -z $lib ]] || install -D "$lib" "$1$lib"
}

# lab_copy_program FILE ROOTFS: the program and the shared libraries it names.
lab_copy_program() {
	local file=$1 rootfs=$2 lib
	install -D "$file" "$rootfs$file" || return
	for lib in $(ldd "$file" 2>/dev/null | grep -oE '/[^ ]+'); do
		install -D "$lib" "$rootfs$lib" || return
	done
}
