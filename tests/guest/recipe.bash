# shellcheck shell=bash disable=SC2034  # sourced: the variables are used elsewhere
# What the guest is made of. A change here, or in build/, makes a new cache.

# QEMU and the guest's programs come from here. 10.0.13 is in it; with 10.0.2
# (bookworm-backports) igb's PF never gets the VFs' mailbox interrupt, so that
# VFs stay without link, and 7.2 (bookworm) has no igb.
GUEST_SUITE=trixie

# Kernels, as "name:package", from bookworm's security archive. 6.12 for cgroup
# v2 and netdevsim; 6.1 for what nodes of the last years run: cgroup v1's memory
# and cpuset controllers (Debian's 6.12 has them compiled out), no
# MOVE_MOUNT_BENEATH, no FUSE_NOTIFY_RESEND. Not the cloud flavour: that one has
# neither igb nor igbvf, netdevsim, 9p.
GUEST_KERNEL_SUITE=bookworm
GUEST_KERNELS=(6.12:linux-image-6.12-amd64 6.1:linux-image-amd64)

# The kernel whose netdevsim is built, and the package with its source.
GUEST_NETDEVSIM=6.12
GUEST_NETDEVSIM_SOURCE=linux-source-6.12

# What is installed in the guest, over a minimal Debian.
GUEST_PACKAGES=(
	bats busybox-static jq procps strace                  # what the suites are written with
	ethtool iperf3 iproute2 iputils-ping nftables tcpdump # networks
	dbus e2fsprogs fuse3 kmod pciutils systemd-sysv udev util-linux
	# The engines as this Debian's users have them; they bring containerd 1.7, runc
	# 1.1, conmon and the CNI plugins along. What they recommend beyond that is for
	# builds, for rootless use and for networks to the outside.
	docker.io docker-cli podman
)

# Never loaded in a machine without screen, sound, radio and disks of brands;
# half of a kernel's modules.
GUEST_WITHOUT_MODULES=(
	sound net/bluetooth net/mac80211 net/wireless
	drivers/{accel,bluetooth,comedi,edac,firewire,gpu,hid,hwmon,iio,infiniband,input,isdn,leds,media,mmc,mtd,nfc}
	drivers/{platform,power,rtc,staging,thunderbolt,usb} drivers/net/wireless
)
