# shellcheck shell=bash
# The cgroup hierarchies, as systemd would lay them out.

# cgroups_up v2|v1|hybrid
cgroups_up() {
	case $1 in
	v2) cgroups_unified ;;
	v1) cgroups_legacy ;;
	hybrid)
		cgroups_legacy
		mkdir /sys/fs/cgroup/unified
		mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
		;;
	*) echo "guest: no such cgroup layout: $1" ;;
	esac
}

# All controllers for all groups. A group with processes of its own gives none to
# its children, so pid 1 and what it starts are in one below the root.
cgroups_unified() {
	local controller
	mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
	mkdir /sys/fs/cgroup/init
	echo $$ >/sys/fs/cgroup/init/cgroup.procs
	for controller in $(</sys/fs/cgroup/cgroup.controllers); do
		echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
	done
}

# A kernel has only some of them: Debian's 6.12 neither memory nor cpuset.
cgroups_legacy() {
	local set dir
	mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
	for set in cpuset cpu,cpuacct blkio memory devices freezer net_cls,net_prio perf_event hugetlb pids rdma; do
		dir=/sys/fs/cgroup/$set
		mkdir "$dir"
		mount -t cgroup -o "$set" cgroup "$dir" 2>/dev/null || rmdir "$dir"
	done
	for set in cpu cpuacct; do ln -s cpu,cpuacct "/sys/fs/cgroup/$set"; done
	for set in net_cls net_prio; do ln -s net_cls,net_prio "/sys/fs/cgroup/$set"; done
	mkdir /sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}
