# shellcheck shell=bash
# Single quotes are for shells inside; what is set is the tests':
# shellcheck disable=SC2016,SC2034
# Ordinary programs, asked in a container c1 whose root is the machine's own
# programs and nothing else of it.

LOAD=tests/truth/known-load

# truth_up makes, once a file, the root and the directory that host and container
# share (/lab): the load, its orders, and what the programs said.
truth_up() {
	SHARED=$LAB_DIR/truth ROOT=$LAB_DIR/debian
	[[ ! -e $SHARED/known-load ]] || return 0
	mkdir -p "$SHARED" "$ROOT"
	if [[ -x $LAB_REPO/go-tests/known-load ]]; then # the guest has no Go (tests/guest/suites.sh)
		cp "$LAB_REPO/go-tests/known-load" "$SHARED/"
	else
		(cd "$LAB_REPO" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$SHARED/known-load" "./$LOAD") || fail "known-load cannot be built" || return
	fi
	# Whoever reads may not be root, nor a user that the host knows.
	mkfifo "$SHARED/orders" && chmod 0666 "$SHARED/orders" && chmod 0777 "$SHARED" && chmod 0711 "$LAB_DIR"
	root_of_programs "$ROOT"
}

# root_of_programs DIR: for /usr to be bound into it.
root_of_programs() {
	local path
	mkdir -p "$1"/{usr,etc,proc,sys,dev,tmp,run,var,root,lab} || return
	for path in /bin /sbin /lib*; do
		[[ ! -L $path ]] || cp -a "$path" "$1$path"
	done
	cp -a /etc/{passwd,group,ld.so.cache,alternatives} "$1/etc/"
}

# load_up FLAGS...: c1, whose first process is the load.
load_up() {
	truth_up || return
	LAB_ROOTFS=$ROOT lab_run candor c1 --detach --null-io --env PATH=/usr/bin:/usr/sbin:/bin --env LC_ALL=C --env TZ=UTC \
		--mount type=bind,src=/usr,dst=/usr,options=rbind:ro --mount "type=bind,src=$SHARED,dst=/lab,options=rbind:rw" \
		"$@" -- /lab/known-load obey /lab || return
	C1=$(lab_pid c1)
}

# order WORD...: the load does it, and has done it when this returns.
order() {
	rm -f "$SHARED/done"
	timeout 5 sh -c 'echo "$1" >"$2"' sh "$*" "$SHARED/orders" || fail "the load takes no orders" || return
	lab_wait 20 test -e "$SHARED/done" || fail "the load does not do it: $*" || return
	equal "the load's answer" "$*" "$(<"$SHARED/done")"
}

# inside COMMAND...: what a program in c1 prints, without the blanks before it. By a
# file: see cat_in.
inside() {
	rm -f "$SHARED/said"
	lab_exec c1 /bin/sh -c '"$@" >/lab/said 2>&1' sh "$@" || fail "$* failed: $(cat "$SHARED/said")" || return
	sed 's/^ *//' "$SHARED/said"
}

# have PROGRAM: the container has it. Where the set-up was done, a missing one is
# a failure.
have() {
	[[ ! -x /usr/bin/$1 ]] || return 0
	if [[ ${CI:-} == true && $1 != node ]]; then
		fail "$1 is missing: scripts/setup.sh test"
		exit 1
	fi
	note_once "not asked, for it is not installed: $1"
	return 1
}

# note_once TEXT: on the screen, for what concerns more than one test.
note_once() {
	grep -qxF "$1" "$LAB_DIR/notes" 2>/dev/null || echo "# $1" >&3
	echo "$1" >>"$LAB_DIR/notes"
}

# served FILE: the view has it; files that it leaves alone are the machine's.
served() {
	awk -v file="$1" '{ for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^fuse/ && (file == $5 || index(file, $5 "/") == 1)) found = 1 } END { exit !found }' "/proc/$C1/mountinfo"
}

##### What they say of memory

# memory_by PROGRAM sets SAID to what it says of memory, in KiB: total, free, used,
# shared, cache, available, as far as it says that.
declare -gA SAID # -g: bats reads its files in a function
memory_by() {
	local out
	SAID=()
	sleep 0.1 # for as long a content is used again, and the program is in it, too
	case $1 in
	free)
		out=$(inside free -k) || return
		read -r _ "SAID[total]" "SAID[used]" "SAID[free]" "SAID[shared]" "SAID[cache]" "SAID[available]" < <(grep '^Mem:' <<<"$out")
		;;
	top)
		out=$(inside top -b -n 1 -E k) || return
		read -r "SAID[total]" "SAID[free]" "SAID[used]" "SAID[cache]" < <(awk '/^KiB Mem/ { gsub(/,/, " "); print $4, $6, $8, $10 }' <<<"$out")
		SAID[available]=$(awk '/^KiB Swap/ { print $(NF - 2) }' <<<"$out")
		;;
	vmstat)
		out=$(inside vmstat -s) || return
		SAID[total]=$(awk '/ total memory$/ { print $1 }' <<<"$out")
		SAID[free]=$(awk '/ free memory$/ { print $1 }' <<<"$out")
		SAID[used]=$(awk '/ used memory$/ { print $1 }' <<<"$out")
		SAID[cache]=$(awk '/ swap cache$/ { print $1 }' <<<"$out")
		;;
	python3)
		out=$(inside python3 -c 'for line in open("/proc/meminfo"): print(*line.replace(":", "").split()[:2])') || return
		SAID[total]=$(awk '$1 == "MemTotal" { print $2 }' <<<"$out")
		SAID[free]=$(awk '$1 == "MemFree" { print $2 }' <<<"$out")
		SAID[shared]=$(awk '$1 == "Shmem" { print $2 }' <<<"$out")
		SAID[cache]=$(awk '$1 == "Cached" { print $2 }' <<<"$out")
		SAID[available]=$(awk '$1 == "MemAvailable" { print $2 }' <<<"$out")
		;;
	node)
		out=$(inside node -p 'const os = require("os"); os.totalmem() / 1024 + " " + os.freemem() / 1024') || return
		read -r "SAID[total]" "SAID[available]" <<<"$out"
		;;
	esac
}

##### What they say of the CPUs

# look_at_cpus SECONDS CPUS: top and vmstat look at the same time. Sets BUSY to what
# c1's group used meanwhile, in per cent of so many CPUs, and LOAD_BUSY to what the
# load's process did. On a machine that stalls, meanwhile is not the same for all:
# then once more, and at the third time it gives up.
look_at_cpus() {
	local used load began took try
	for try in 1 2 3; do
		used=$(cpu_seconds) load=$(load_seconds) began=$EPOCHREALTIME
		inside sh -c "vmstat $1 2 >/lab/vmstat & top -b -d $1 -n 2 >/lab/top && wait" || return
		took=$(since "$began")
		BUSY=$(reckon "100 * ($(cpu_seconds) - $used) / $took / $2")
		LOAD_BUSY=$(reckon "100 * ($(load_seconds) - $load) / $took / $2")
		if awk -v took="$took" -v wanted="$1" 'BEGIN { exit took > wanted + 0.5 }'; then return; fi
		echo "# $1 s took $took s, try $try of 3" >&3
	done
	skip "the machine stalls: $1 s took $took s"
}

# top_cpu KEY: of the last line "%Cpu(s): 75.0 us,  0.0 sy, ..." in what top said.
top_cpu() { grep '^%Cpu' "$SHARED/top" | tail -n 1 | awk -F '[:,] *' -v key="$1" '{ for (i = 2; i <= NF; i++) if (split($i, word, " ") == 2 && word[2] == key) print word[1] }'; }

# vmstat_last COLUMN: of its last line.
vmstat_last() { awk -v key="$1" '$1 == "r" { for (i = 1; i <= NF; i++) if ($i == key) column = i } END { print $column }' "$SHARED/vmstat"; }

##### prometheus-node-exporter

# exporter prints where it lies: it is only unpacked (scripts/setup.sh).
exporter() {
	local file=usr/bin/prometheus-node-exporter place
	for place in "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/candor/prometheus-node-exporter" ''; do
		if [[ -x $place/$file ]]; then
			echo "$place/$file"
			return
		fi
	done
	return 1
}

# Of a loop device, too, the exporter shall tell: its own default leaves them out.
EXPORTER_FLAGS=(--web.listen-address=127.0.0.1:9100 '--collector.diskstats.device-exclude=^$')

exporters_up() {
	cp "$(exporter)" "$SHARED/node-exporter"
	lab_ctr task exec --detach --fifo-dir "$LAB_DIR/fifo" --exec-id exporter c1 /lab/node-exporter "${EXPORTER_FLAGS[@]}" || return
	background nsenter --net="$LAB_NODE" -- "$SHARED/node-exporter" "${EXPORTER_FLAGS[@]}" 2>/dev/null
	lab_wait 5 scrape inside || fail "the container's exporter does not answer" || return
	lab_wait 5 scrape host || fail "the host's exporter does not answer"
}

# scrape inside|host: the series, "name value" a line.
scrape() {
	local net=$LAB_NODE
	[[ $1 == host ]] || net=/proc/$C1/ns/net
	timeout 10 nsenter --net="$net" bash -c 'exec 3<>/dev/tcp/127.0.0.1/9100 && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 && cat <&3' |
		tr -d '\r' | sed -n 's/^\(node_.*\) \([^ ]*\)$/\1 \2/p' | grep .
}

# series FILE NAME: the value of one, by its whole name, labels too.
series() { awk -v name="$2" '{ value = $NF; sub(/ [^ ]*$/, "") } $0 == name { print value }' "$1"; }
