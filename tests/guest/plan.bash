# shellcheck shell=bash disable=SC2034  # sourced: the variables are used elsewhere
# What runs in the guests: for each kernel its boots, as "options|tests" (both as
# suites.sh takes them). Few boots: containerd starts once per file, and each
# boot costs ten seconds. Budgets: scripts/test-results.bash.
#
# Everything takes ten times as long in an emulated machine. What would go over
# the budget runs in `make soak` instead: the tests with the tag "guest-soak" in
# tests/bats (a variation of another test, or one to which no kernel makes a
# difference), the files in GUEST_SOAK, and what Go's tests leave out with -short.

# Go packages whose tests touch the kernel.
GUEST_GO='go:cgroup go:statedir go:nic go:egress go:resview/render go:resview go:lifecycle go:daemon'

# For nic and daemon the host's kernel and the older one are enough, but for what
# only this one has: SR-IOV's settings by netdevsim. Of render it is the kernel's files,
# of lifecycle all but what candor check says. The crash matrix runs here for
# the NICs that only a guest has, VFs and virtio.
GUEST_BOOTS_6_12=(
	"--kernel 6.12 --cgroup v2 --tags !guest-soak|go:cgroup go:statedir go:nic:VF go:egress go:resview/render:^TestKernel go:resview go:lifecycle:^Test[^C] go:tests/crash:Matrix/vf_x_1 bats:01-run bats:04-faults bats:05-view bats:06-limit bats:sriov bats:netdevsim bats:hotplug"
	"--kernel 6.12 --systemd --tags !guest-soak|bats:systemd"
)

GUEST_SOAK_6_12=(
	"--kernel 6.12 --cgroup v2 --long|$GUEST_GO bats:02-refusals bats:03-hooks bats:07-wrapper bats:08-install bats:engines"
	"--kernel 6.12 --cgroup v2 --long|go:tests/crash:Matrix/v[fi]"
)

# The older kernel differs in cgroup v1, FUSE and mount calls. Of render it is the
# kernel's files, of lifecycle all but TestVFs and what candor check says.
GUEST_BOOTS_6_1=(
	"--kernel 6.1 --cgroup v1 --tags !guest-soak|go:cgroup go:statedir go:nic go:egress go:resview/render:^TestKernel go:resview go:lifecycle:^Test[^CV] go:daemon bats:01-run bats:05-view"
)
GUEST_SOAK_6_1=(
	"--kernel 6.1 --cgroup v1 --long|$GUEST_GO bats:06-limit bats:02-refusals bats:03-hooks bats:04-faults bats:07-wrapper bats:08-install"
)
