# shellcheck shell=bash disable=SC2034  # sourced: the variables are used elsewhere
# The peers that candor is built for, tested with and measured against.
# `make tools` builds them; go.mod pins the same versions as libraries.

CONTAINERD_MODULE=github.com/containerd/containerd/v2
CONTAINERD_VERSION=v2.3.7
RUNC_MODULE=github.com/opencontainers/runc
RUNC_VERSION=v1.5.2

# What `make bench-nic` measures the attach of a NIC against.
CNI_MODULE=github.com/containernetworking/plugins
CNI_VERSION=v1.9.1

# What `make setup` asks of the machine. Any Go from 1.21 on fetches the
# toolchain that go.mod names.
GO_MINIMUM=1.21

PACKAGES_BUILD=(ca-certificates gcc git libc6-dev libseccomp-dev make pkg-config)
PACKAGES_DEMO=(busybox-static ethtool iperf3 iproute2 iputils-ping jq nftables)
PACKAGES_TEST=(bats debian-archive-keyring debootstrap e2fsprogs procps shellcheck strace xz-utils)
PACKAGES_SOAK=(python3-minimal)
# Only unpacked, for one program of theirs: installed, they would start a service.
PACKAGES_SOAK_UNPACKED=(prometheus-node-exporter)
PACKAGES_BENCH=(hyperfine libfuse3-dev lxcfs)
