#!/usr/bin/env bash
# Builds what candor runs with: containerd, ctr, containerd's own runc shim and
# runc, at the versions of scripts/versions.sh, into bin/tools. With "lint" the
# linters of scripts/tools/go.mod instead. A second run finds them and is instant.
#
#   scripts/tools.sh [peers|lint]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
source scripts/versions.sh
export GOBIN=$PWD/bin/tools
mkdir -p "$GOBIN"
# Two makes at once would build everything twice.
exec {lock}>"$GOBIN/.lock"
flock "$lock"

say() { printf 'tools: %s\n' "$*"; }

# use_our_toolchain: outside of a module, Go would fetch the newest toolchain
# that there is; the one of go.mod (or a newer one, if installed) does. Without
# "+auto": Go before 1.24 goes for the newest all the same.
use_our_toolchain() {
	GOTOOLCHAIN=$(go env GOVERSION)
	GOTOOLCHAIN=${GOTOOLCHAIN%% *}
	export GOTOOLCHAIN
}

# built MODULE VERSION PROGRAM... succeeds when bin/tools has all of them, built
# from that version; the programs themselves say so, there is no stamp to go stale.
built() {
	local module=$1 version=$2 program
	shift 2
	for program; do
		[[ -x $GOBIN/$program ]] || return 1
		go version -m "$GOBIN/$program" | grep -E "^\s+mod\s+$module\s+$version(\s|$)" >/dev/null || return 1
	done
}

peers() {
	if ! built "$CONTAINERD_MODULE" "$CONTAINERD_VERSION" containerd ctr; then
		use_our_toolchain
		say "building containerd $CONTAINERD_VERSION with ctr (a minute or two)"
		CGO_ENABLED=0 go install -trimpath -tags no_btrfs,no_devmapper,no_zfs \
			-ldflags "-s -w -X $CONTAINERD_MODULE/version.Version=${CONTAINERD_VERSION#v}" \
			"$CONTAINERD_MODULE/cmd/containerd@$CONTAINERD_VERSION" \
			"$CONTAINERD_MODULE/cmd/ctr@$CONTAINERD_VERSION"
	fi
	# no_grpc as in containerd's own releases (SHIM_GO_BUILDTAGS of its Makefile),
	# and as our shim is built: a larger program starts later.
	if ! built "$CONTAINERD_MODULE" "$CONTAINERD_VERSION" containerd-shim-runc-v2 ||
		! go version -m "$GOBIN/containerd-shim-runc-v2" | grep -F no_grpc >/dev/null; then
		use_our_toolchain
		say "building containerd's runc shim"
		CGO_ENABLED=0 go install -trimpath -tags no_grpc -ldflags "-s -w" \
			"$CONTAINERD_MODULE/cmd/containerd-shim-runc-v2@$CONTAINERD_VERSION"
	fi
	if ! built "$RUNC_MODULE" "$RUNC_VERSION" runc; then
		use_our_toolchain
		say "building runc $RUNC_VERSION"
		# cgo: runc enters namespaces in C, before Go's threads exist.
		CGO_ENABLED=1 go install -trimpath -tags seccomp -ldflags "-s -w" \
			"$RUNC_MODULE@$RUNC_VERSION"
	fi
	say "containerd $CONTAINERD_VERSION and runc $RUNC_VERSION are in ${GOBIN#"$PWD"/}"
}

lint() {
	local lint_version shfmt_version
	lint_version=$(awk '$1 == "github.com/golangci/golangci-lint/v2" { print $2 }' scripts/tools/go.mod)
	shfmt_version=$(awk '$1 == "mvdan.cc/sh/v3" { print $2 }' scripts/tools/go.mod)
	built github.com/golangci/golangci-lint/v2 "$lint_version" golangci-lint &&
		built mvdan.cc/sh/v3 "$shfmt_version" shfmt && return
	say "building golangci-lint $lint_version and shfmt $shfmt_version (a minute or more)"
	CGO_ENABLED=0 go -C scripts/tools install -trimpath -ldflags '-s -w' tool
}

cni() {
	local plugin plugins=(main/host-device ipam/static ipam/host-local) wanted=()
	GOBIN+=/cni
	built "$CNI_MODULE" "$CNI_VERSION" "${plugins[@]##*/}" && return
	for plugin in "${plugins[@]}"; do wanted+=("$CNI_MODULE/plugins/$plugin@$CNI_VERSION"); done
	use_our_toolchain
	say "building CNI plugins $CNI_VERSION: ${plugins[*]##*/}"
	CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "${wanted[@]}"
}

case ${1:-peers} in
peers) peers ;;
lint) lint ;;
cni) cni ;;
*)
	say "usage: scripts/tools.sh [peers|lint|cni]" >&2
	exit 2
	;;
esac
