# shellcheck shell=bash
# The guest's root file system: a minimal Debian with what the suites need.

build_root() {
	local unit packages
	packages=$(IFS=, && printf '%s' "${GUEST_PACKAGES[*]}")
	debian_root root apt "$packages" >root.log 2>&1
	# Where the project, results and candor's own things are found.
	mkdir -p root/{candor,results,etc/candor}
	rm -f root/etc/resolv.conf
	printf '127.0.0.1 localhost guest\n::1 localhost guest\n' >root/etc/hosts
	printf 'guest\n' >root/etc/hostname
	# Under systemd nothing may wait for a network, a console or a disk.
	# Engines run where a test starts them.
	for unit in systemd-networkd-wait-online.service getty@tty1.service serial-getty@ttyS0.service \
		systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
		docker.service docker.socket containerd.service podman.socket podman-restart.service podman-auto-update.timer \
		podman-clean-transient.service; do
		ln -sf /dev/null "root/etc/systemd/system/$unit"
	done
	cp root/usr/bin/busybox busybox
}

# build_disk makes the disk of it. A guest writes to a snapshot, never to this.
build_disk() {
	rm -rf root/var/cache/apt/* root/var/lib/apt/lists/*
	truncate -s 4G root.ext4
	mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d root root.ext4
}
