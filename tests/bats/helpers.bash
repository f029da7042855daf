# shellcheck shell=bash
# For the lab and for shells inside; output, lines and status are bats's:
# shellcheck disable=SC2016,SC2034,SC2154
# What the end-to-end suites share. Each file has one lab (tests/lab) for all of
# its tests; after each test the node has to be as it was before it.

# A reader of a view that nobody serves cannot even be killed: no test may wait
# without end, and no teardown behind it.
export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-90}

# shellcheck source=tests/lab/lab.bash
source "$(dirname "${BASH_SOURCE[0]}")/../lab/lab.bash"

##### The lab of a file

# The lab's variables go through a file and not through the environment: the
# lab kills, at its end, every process that has its name in the environment, and
# bats itself would be among them.
lab_variables() { printf '%s/lab.bash' "$BATS_FILE_TMPDIR"; }

save_lab() { declare -p "${!LAB_@}" | sed 's/^declare [-a-zA-Z]* /declare -g /' >"$(lab_variables)"; }

load_lab() {
	[[ -s $(lab_variables) ]] || return 1
	# shellcheck disable=SC1090
	source "$(lab_variables)"
}

# missing prints what this machine lacks for all of the suites.
missing() {
	local program
	[[ $EUID -eq 0 ]] || {
		echo "needs root: it makes network namespaces, mounts and containers"
		return
	}
	[[ -c /dev/fuse ]] || echo "needs /dev/fuse"
	for program in ip tc nft jq busybox perl ping; do
		command -v "$program" >/dev/null || echo "needs $program (make setup-test)"
	done
}

setup_file() {
	[[ -z $(missing) ]] || return 0 # setup skips each test: bats 1.8 cannot skip here
	local program
	for program in "$LAB_TOOLS"/{containerd,ctr,runc,containerd-shim-runc-v2} \
		"$LAB_BIN"/{containerd-shim-candor-v1,candor-runc,candor-prestart-net,candor-prestart-lxcfs,candor-poststop,candord,candor}; do
		[[ -x $program ]] || fail "$program is not built: make tools build" || return
	done
	LAB_SECOND=1
	# Descriptors 3 and 4 are bats's own: it waits until nobody has them.
	{ lab_up && set_up_lab; } 3>&- 4>&- || {
		lab_down
		return 1
	}
}

# set_up_lab takes down how the node looks between tests. A first container
# before that: with it candord and the state directory come to life.
set_up_lab() {
	lab_run candor warm --rm -- /bin/true || return
	cp -p "$LAB_CONFIG" "$LAB_DIR/config.before"
	LAB_NIC_BEFORE=$(lab_nic_state "$LAB_NIC")
	LAB_NIC2_BEFORE=$(lab_nic_state "$LAB_NIC2")
	lab_wait 3 no_shims || true
	node_snapshot | sort >"$LAB_DIR/before"
	save_lab
}

teardown_file() {
	load_lab || return 0
	LAB_CONTAINERD_PID=$(running containerd)
	free_readers
	lab_down
	lab_check_gone
}

setup() {
	local why
	why=$(missing)
	[[ -z $why ]] || skip "$(paste -sd';' <<<"$why")"
	load_lab
}

teardown() {
	[[ -n ${LAB_ID:-} ]] || return 0
	local status=0
	if [[ -z ${BATS_TEST_COMPLETED:-} && -z ${BATS_TEST_SKIPPED:-} ]]; then
		tell_state
		free_readers
	fi
	put_back
	check_clean || status=1
	if ((status)); then
		mend
	fi
	return "$status"
}

# put_back ends what a test started, by the ordinary ways.
put_back() {
	local pid ids id dir
	for pid in "${BACKGROUND[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	if ! cmp -s "$LAB_DIR/config.before" "$LAB_CONFIG" || [[ $(stat -c %u%a "$LAB_CONFIG") != 0600 ]]; then
		cp -p "$LAB_DIR/config.before" "$LAB_CONFIG.new" && mv "$LAB_CONFIG.new" "$LAB_CONFIG"
	fi
	rm -rf "$LAB_DIR"/etc/config.d
	if mountpoint -q "$LAB_DIR/full"; then umount -R "$LAB_DIR/full"; fi
	if ! ids=$(lab_ctr containers ls -q); then
		lab_wait 2 lab_ctr version || lab_containerd_up 3>&- 4>&-
		ids=$(lab_ctr containers ls -q)
	fi
	for id in $ids; do remove "$id"; done
	if [[ -d $LAB_DIR/state/io.containerd.runtime.v2.task/$LAB_NS-b ]]; then
		for id in $(LAB_NS=$LAB_NS-b lab_ctr containers ls -q); do LAB_NS=$LAB_NS-b remove "$id"; done
	fi
	for dir in "$LAB_DIR"/runc-*/*; do
		[[ ! -d $dir ]] || LAB_RUNC_ROOT=${dir%/*} plain_runc delete --force "${dir##*/}"
	done
	rm -rf --one-file-system "$LAB_DIR"/bundles
	find "$LAB_DIR/rootfs/tmp" -mindepth 1 -delete
}

# remove ID: lab_rm would wait for the task of a container that has none.
remove() { lab_ctr container rm "$1" >/dev/null 2>&1 || lab_rm "$1"; }

# mend takes by force what a failed test left, candord too, so that the next one
# has a node to run on; what cannot be mended is the next one's "before".
mend() {
	local pid
	for pid in $(lab_processes); do
		case $(readlink "/proc/$pid/exe") in
		*/containerd | */bash | */bats* | '') ;;
		*) kill -KILL "$pid" 2>/dev/null ;;
		esac
	done
	timeout -k 1 10 "$LAB_BIN/candor" --config "$LAB_CONFIG" gc >/dev/null 2>&1 || true
	forget_cgroups
	mend_nic "$LAB_NIC" "$LAB_SUBNET"
	mend_nic "$LAB_NIC2" "$LAB_SUBNET2"
	lab_wait 5 same_as_before || node_snapshot | sort >"$LAB_DIR/before"
}

# forget_cgroups: a runc that is killed leaves the cgroup that it made, with or
# without candor, and nobody can delete the container any more.
forget_cgroups() {
	find /sys/fs/cgroup -maxdepth 3 -depth -type d -path "*/$LAB_NS/*" -exec rmdir {} +
}

mend_nic() {
	lab_node ip link set "$1" up || return 0
	lab_node ip addr replace "$2.2/24" brd + dev "$1" || true
	lab_node ip addr replace "$(lab_subnet6 "$2")2/64" dev "$1" nodad || true
}

# tell_state prints, for a failed test, what its reader will ask for.
tell_state() {
	echo "--- candor.log"
	tail -n 12 "$LAB_STATE/candor.log" 2>/dev/null
	echo "--- containerd"
	grep -vE 'level=(info|debug)' "$LAB_DIR/log/containerd" | tail -n 6
	echo "--- records"
	lab_records
	echo "--- candor's mounts"
	candor_mounts
}

##### The node between tests

# node_snapshot is the lab's own and what lies in candor's mount namespace.
node_snapshot() {
	lab_snapshot
	candor_mounts | grep -v '^view'
}

same_as_before() {
	node_snapshot | sort >"$LAB_DIR/after"
	diff -q "$LAB_DIR/before" "$LAB_DIR/after"
}

# check_clean: as before the test, now or within 6 s: the reconciler has 5.
check_clean() {
	lab_wait 6 same_as_before && return
	echo "the node is not as it was (- before, + now):"
	diff -U0 "$LAB_DIR/before" "$LAB_DIR/after" | grep -E '^[-+][^-+]'
	return 1
}

no_shims() { [[ -z $(running containerd-shim-candor-v1 containerd-shim-runc-v2) ]]; }

# running PROGRAM... prints the pids of the lab's processes that run it. By one
# find: faults have to come in time.
running() {
	local name exe pid is=()
	# It may have been built anew meanwhile.
	for name; do is+=(-o -lname "*/$name" -o -lname "*/$name (deleted)"); done
	while read -r exe; do
		pid=${exe#/proc/} pid=${pid%/exe}
		grep -qsaF -e "$LAB_DIR/" -e "$LAB_STATE" -e "$LAB_NS" "/proc/$pid/cmdline" "/proc/$pid/environ" || continue
		lab_dead "$pid" || printf '%s\n' "$pid"
	done < <(find /proc/[0-9]*/exe -maxdepth 0 \( "${is[@]:1}" \) 2>/dev/null)
}

# candor_mounts prints what lies in candor's own mount namespace: "pin NAME" for
# each pinned network namespace, "view DEVICE" for the FUSE mount. No path leads
# there and it holds no program: a perl enters it and is looked at from outside.
candor_mounts() {
	[[ -e $LAB_STATE/mnt ]] || return 0
	perl -e '
		my %setns = (x86_64 => 308, aarch64 => 268, riscv64 => 268, s390x => 339, ppc64le => 350);
		open(my $ns, "<", $ARGV[0]) or exit 0;
		pipe(my $ready, my $done); pipe(my $wait, my $end);
		my $child = fork();
		if (!$child) {
			close $ready; close $end;
			syscall($setns{$ARGV[1]}, fileno($ns), 0x20000) == 0 or exit 1;
			if (opendir(my $d, "/netns")) { print map { "file $_\n" } grep { !/^\.\.?$/ } readdir $d; }
			close STDOUT; close $done;
			sysread($wait, my $b, 1); exit 0;
		}
		close $done; close $wait;
		sysread($ready, my $b, 1);
		open(my $m, "<", "/proc/$child/mountinfo") or exit 0;
		while (<$m>) {
			my @f = split; my ($type) = / - (\S+)/;
			print "pin $1\n" if $f[4] =~ m{^/netns/(.*)};
			print "view $f[2]\n" if $f[4] eq "/fs";
		}
		close $end; waitpid($child, 0);
	' "$LAB_STATE/mnt" "$HOSTTYPE" | sort -u
}

# free_readers aborts the view's connection: the one way to free a reader whose
# request nobody will answer. The next candord mounts anew.
free_readers() {
	local device
	device=$(candor_mounts | awk '$1 == "view" { sub(".*:", "", $2); print $2 }')
	[[ -n $device ]] || return 0
	unshare --mount sh -c 'mount -t fusectl none /sys/fs/fuse/connections && echo 1 >"/sys/fs/fuse/connections/$1/abort"' sh "$device" 2>/dev/null || true
}

##### Saying what is wrong

# can_open PATH: pid 1 may have capabilities that the bounding set here lacks;
# its namespaces are then closed to root (ptrace_may_access).
can_open() { : <"$1"; } 2>/dev/null

fail() {
	printf '%s\n' "$*" >&2
	return 1
}

# equal WHAT WANT GOT
equal() { [[ $2 == "$3" ]] || fail "$1: want '$2', got '$3'"; }

# has WHAT TEXT PART...: the text holds every part.
has() {
	local what=$1 text=$2 part
	shift 2
	for part; do
		[[ $text == *"$part"* ]] || fail "$what: no '$part' in: $text" || return
	done
}

# between WHAT LOW HIGH VALUE, whole numbers.
between() { (($4 >= $2 && $4 <= $3)) || fail "$1: $4 is not in $2 to $3"; }

##### Containers

# lab_ctr as the lab has it, but never for ever.
lab_ctr() {
	CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 timeout -k 1 "${CTR_SECONDS:-20}" \
		"$LAB_TOOLS/ctr" --address "$LAB_DIR/containerd.sock" --namespace "$LAB_NS" "$@" 3>&- 4>&-
}

# start ID FLAGS...: a container that sleeps.
start() {
	local id=$1
	shift
	lab_run candor "$id" --detach --null-io "$@" -- /bin/sleep 600
}

# nic SUFFIX, nic2 SUFFIX: the annotation for the lab's first or second NIC.
nic() { printf 'candor.dev/nic=pool=wire,mac=%s%s' "$LAB_MAC" "${1:+,$1}"; }
nic2() { printf 'candor.dev/nic=pool=wire,mac=%s%s' "$LAB_MAC2" "${1:+,$1}"; }

# in_net ID COMMAND...: a command of the host in the container's network.
in_net() {
	local pid
	pid=$(lab_pid "$1")
	shift
	timeout -k 1 10 nsenter --target "$pid" --net -- "$@"
}

# cat_in ID FILE: a file, never an empty one, as a process in the container reads
# it, by read(2): what busybox's cat does, sendfile(2), has a test of its own. On
# a machine that is busy enough ctr loses the output of a short exec, also runc's:
# it cancels its ends of the fifos when the process is gone.
cat_in() {
	local out
	for _ in 1 2 3; do
		out=$(lab_exec "$1" /bin/busybox dd if="$2" bs=64k status=none) || return
		[[ -z $out ]] || break
	done
	printf '%s\n' "$out"
}

bundle_of() { printf '%s/state/io.containerd.runtime.v2.task/%s/%s\n' "$LAB_DIR" "$LAB_NS" "$1"; }

# record ID prints the container's only record.
record() {
	local file files=()
	for file in "$LAB_STATE/ledger/$1"-*.json; do
		[[ -e $file ]] && files+=("$file")
	done
	((${#files[@]} == 1)) || fail "$1 has ${#files[@]} records" || return
	cat "${files[0]}"
}

no_records() { [[ -z $(lab_records) ]]; }

nic_is_back() { [[ $(lab_nic_state "$LAB_NIC") == "$LAB_NIC_BEFORE" ]]; }
nic2_is_back() { [[ $(lab_nic_state "$LAB_NIC2") == "$LAB_NIC2_BEFORE" ]]; }

# all_back: NICs, records and pins, as a container that is gone leaves them.
all_back() { no_records && nic_is_back && nic2_is_back && ! candor_mounts | grep -qv '^view'; }

# want_all_back SECONDS
want_all_back() {
	lab_wait "$1" all_back && return
	echo "after $1 s not all is back:"
	lab_records
	candor_mounts
	diff <(echo "$LAB_NIC_BEFORE") <(lab_nic_state "$LAB_NIC")
	diff <(echo "$LAB_NIC2_BEFORE") <(lab_nic_state "$LAB_NIC2")
	return 1
}

# refused ID FLAGS...: the container does not start, one line says why (left in
# $output), and nothing is changed.
refused() {
	local id=$1
	shift
	run lab_run candor "$id" --rm "$@" -- /bin/echo it-runs
	((status != 0)) || fail "the container started: $output" || return
	((status != 124)) || fail "ctr did not come back" || return
	equal "lines of the error" 1 "${#lines[@]}" || fail "$output" || return
	[[ $output != *it-runs* ]] || fail "the container ran" || return
	nic_is_back && nic2_is_back || fail "a NIC was changed by a refused request" || return
	no_records || fail "a refused request left a record" || return
}

# shim_of ID prints the pid of the container's shim.
shim_of() {
	local pid
	for pid in $(running containerd-shim-candor-v1 containerd-shim-runc-v2); do
		[[ " $(tr '\0' ' ' <"/proc/$pid/cmdline") " == *" -namespace $LAB_NS -id $1 "* ]] && printf '%s\n' "$pid"
	done
	return 0
}

##### cgroups

# group CONTROLLER PID: the directory of a process's cgroup, v1 or v2.
group() {
	local line
	while IFS=: read -r _ controllers path; do
		line=",$controllers,"
		if [[ $line == *",$1,"* ]]; then
			printf '%s%s\n' "$(awk -v c="$1" '{ n = split($NF, o, ","); for (i = 1; i <= n; i++) if (o[i] == c) { print $5; exit } }' /proc/self/mountinfo)" "$path"
			return
		fi
	done <"/proc/$2/cgroup"
	awk -F: '$1 == 0 { print "/sys/fs/cgroup" $3 }' "/proc/$2/cgroup"
}

is_v1() { [[ -d /sys/fs/cgroup/memory && -d /sys/fs/cgroup/cpu ]]; }

##### candord

candord_pid() { jq -r ".$1.pid" "$LAB_STATE/candord.json"; } # supervisor or worker

# kill_candord supervisor|worker...: by pid, after a look at what it is. A worker
# may just be being replaced: on a busy machine a healthy one can look hung.
kill_candord() {
	local pids pid
	lab_wait 3 are_candords "$@" || fail "not candord: $* $(cat "$LAB_STATE/candord.json")" || return
	mapfile -t pids < <(for which; do candord_pid "$which"; done)
	kill -KILL "${pids[@]}" || return
	for pid in "${pids[@]}"; do lab_wait 5 lab_dead "$pid" || fail "$pid does not die" || return; done
}
are_candords() {
	local which
	for which; do
		[[ $(readlink "/proc/$(candord_pid "$which")/exe") == */candord* ]] || return
	done
}

# journal_says TEXT: candor's journal, since the test began, has a line with it.
journal_says() {
	if [[ -S /run/systemd/journal/socket ]]; then
		journalctl --since "-2min" --output cat | grep -qF "$1"
	else
		grep -qF "$1" "$LAB_STATE/candor.log"
	fi
}

# set_policy SED...: the policy, changed by sed expressions.
set_policy() {
	local args=() e
	for e; do args+=(-e "$e"); done
	sed "${args[@]}" "$LAB_DIR/config.before" | lab_write_config
}

candor() { timeout -k 1 15 "$LAB_BIN/candor" --config "$LAB_CONFIG" "$@"; }

# background COMMAND...: its pid is in $!; killed at the end of the test.
BACKGROUND=()
background() {
	"$@" 3>&- 4>&- &
	BACKGROUND+=("$!")
}

##### Containers without containerd

# make_bundle ID [JQ ARGUMENTS... FILTER] prints the path of a new bundle: runc's
# own default spec on the lab's rootfs, its process asleep, then the filter.
make_bundle() {
	local id=$1 dir=$LAB_DIR/bundles/$1
	shift
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir" && (cd "$dir" && "$LAB_TOOLS/runc" spec) || return
	jq --arg rootfs "$LAB_DIR/rootfs" --arg cgroup "/$LAB_NS/$id" '.process.terminal = false | .process.args = ["/bin/sleep", "600"]
		| .root = {path: $rootfs} | .linux.cgroupsPath = $cgroup' "$dir/config.json" >"$dir/new" && mv "$dir/new" "$dir/config.json"
	if (($#)); then
		jq "$@" "$dir/config.json" >"$dir/new" && mv "$dir/new" "$dir/config.json" || return
	fi
	printf '%s\n' "$dir"
}

# plain_runc ARGUMENTS...: runc on the node, with a root directory of its own.
plain_runc() { on_node "$LAB_TOOLS/runc" --root "${LAB_RUNC_ROOT:-$LAB_DIR/runc-plain}" "$@"; }

# candor_runc ARGUMENTS...: the wrapper, likewise.
candor_runc() { on_node "$LAB_BIN/candor-runc" --root "${LAB_RUNC_ROOT:-$LAB_DIR/runc-plain}" "$@"; }

# on_node PROGRAM...: as an engine on the lab's node would start it.
on_node() {
	PATH=$LAB_BIN:$LAB_TOOLS:$PATH CANDOR_CONFIG=$LAB_CONFIG \
		nsenter --net="$LAB_NODE" -- timeout -k 1 25 "$@" 3>&- 4>&-
}

# plain_pid ID: the init of a container of plain_runc's.
plain_pid() { plain_runc state "$1" | jq .pid; }

# nic_bundle ID [JQ ARGUMENTS... FILTER]: make_bundle, with the lab's first NIC.
nic_bundle() {
	local id=$1 filter='.'
	shift
	if (($#)); then
		filter=${*: -1}
		set -- "${@:1:$#-1}"
	fi
	make_bundle "$id" --arg nic "pool=wire,mac=$LAB_MAC,ip=$LAB_SUBNET.5/24" "$@" ".annotations[\"candor.dev/nic\"] = \$nic | $filter"
}
