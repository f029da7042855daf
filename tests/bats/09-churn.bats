#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031,SC2034
# Churn: containers come and go, eight at a time, and share four NICs, while all that
# can be killed is killed. A NIC that is held is refused in one clear line; none is
# given twice, none is lost, nothing is left.
#
#   CANDOR_CHURN=100       containers; make soak starts 500
#   CANDOR_CHURN_SEED=N    the same containers and kills again: the seed is printed

CHURN=${CANDOR_CHURN:-100}
AT_ONCE=8
LAB_MORE=2 # with the two that every lab here has
export BATS_TEST_TIMEOUT=$((90 + CHURN * 2))

load helpers

##### What is to happen

# plan SEED: for each container its NIC, how long it lives and how it ends, what is
# killed, and when. By the seed alone; what meets what is then up to the machine.
plan() {
	local i kinds=(none none none none none none none none init init runc runc shim shim worker supervisor containerd)
	RANDOM=$1
	PLAN=()
	for ((i = 0; i < CHURN; i++)); do
		PLAN+=("$((RANDOM % ${#NICS[@]})) 0.$((RANDOM % 5)) $((RANDOM % 2)) ${kinds[RANDOM % ${#kinds[@]}]} $((RANDOM % 2)) 0.$((RANDOM % 35 + 10))")
	done
}

# note WORD...: a line of the log, whoever writes it.
note() { printf '%s %s\n' "$EPOCHREALTIME" "${*//$'\n'/; }" >>"$LAB_DIR/log/churn"; }

# noted WORD: how many lines begin with it.
noted() { awk -v word="$1" '$2 == word' "$LAB_DIR/log/churn" | wc -l; }

##### One container

# live NUMBER: a container from its start to its end.
live() {
	local id=churn$1 nic life tidy kind early moment said began=$EPOCHREALTIME striker=''
	read -r nic life tidy kind early moment <<<"${PLAN[$1]}"
	[[ $kind != runc ]] || early=1 # it runs at no other time
	if [[ $kind != none ]] && ((early)); then
		strike "$kind" "$id" "$moment" &
		striker=$!
	fi
	if said=$(start "$id" --annotation "candor.dev/nic=pool=wire,mac=${MACS[nic]},ip=${SUBNETS[nic]}.$(($1 % 200 + 10))/24" 2>&1); then
		note started "$id" "${NICS[nic]}"
		if [[ $kind != none ]] && ((! early)); then strike "$kind" "$id" "$moment"; fi
		sleep "$life"
	elif [[ $said == *"nic ${MACS[nic]} is held by container churn"* ]]; then
		note refused "$id" "${NICS[nic]}"
	elif lab_wait 1 killed_since "$began"; then # noted when it is done
		note failed "$id" "$said"
	else
		note wrong "$id" "$said"
	fi
	[[ -z $striker ]] || wait "$striker"
	end "$id" "$tidy"
}

# killed_since TIME: something was killed shortly before that, or later.
killed_since() { awk -v since="$1" '$2 == "killed" && $1 > since - 3 { found = 1 } END { exit !found }' "$LAB_DIR/log/churn"; }

# end ID TIDY: killed first, and its task deleted then, or all at once. Whoever is
# killed with containerd is deleted when that is up again.
end() {
	if (($2)); then
		lab_ctr task kill -s KILL "$1" >/dev/null 2>&1 && lab_wait 2 lab_ctr task rm "$1"
	fi
	lab_wait 15 lab_ctr version
	lab_rm "$1"
}

# strike KIND ID SECONDS: kill -9, after that time and as soon as there is one. A runc
# lives for a tenth of a second: it is looked for from the beginning, and has a tenth
# of the time.
strike() {
	local pid try tries=20
	if [[ $1 == runc ]]; then tries=100; else sleep "$3"; fi
	for ((try = 0; try < tries; try++)); do
		pid=$(pid_of "$1" "$2")
		if [[ -n $pid ]]; then
			[[ $1 != runc ]] || sleep "0.0${3#0.}"
			if kill -KILL "$pid" 2>/dev/null; then
				note killed "$1" "$2"
				return
			fi
		fi
		sleep 0.01
	done
}

# pid_of KIND ID, after a look at what it is: pids are reused.
pid_of() {
	local pid
	case $1 in
	init)
		pid=$(jq .owner.pid "$LAB_STATE/ledger/$2"-*.json 2>/dev/null)
		! grep -qsF "/$LAB_NS/$2" "/proc/${pid:-none}/cgroup" || echo "$pid"
		;;
	runc)
		while IFS=/ read -r _ _ pid _; do
			if [[ $(readlink "/proc/$pid/exe") == "$LAB_TOOLS/runc" ]]; then echo "$pid" && break; fi
		done < <(grep -lsazx "$2" /proc/[0-9]*/cmdline)
		;;
	shim) shim_of "$2" ;;
	worker | supervisor) ! are_candords "$1" || candord_pid "$1" ;;
	containerd)
		pid=$(running containerd)
		[[ -e $LAB_DIR/log/starting ]] || echo "$pid"
		;;
	esac
} 2>/dev/null

##### All of them

# churn starts them, a worker for every eighth, and watches until all have ended.
churn() {
	local first number workers=()
	for ((first = 0; first < AT_ONCE; first++)); do
		(
			# bats's own traps cost more than the commands.
			trap - DEBUG ERR
			set +eET
			for ((number = first; number < CHURN; number += AT_ONCE)); do live "$number"; done
		) 3>&- 4>&- &
		workers+=("$!")
	done
	BACKGROUND+=("${workers[@]}")
	until all_dead "${workers[@]}"; do
		containerd_up || return
		watch_over || return
		sleep 0.1
	done
	containerd_up
}

all_dead() {
	local pid
	for pid; do lab_dead "$pid" || return; done
}

# containerd_up starts it where it is dead. Until it answers nobody kills it.
containerd_up() {
	lab_dead "$LAB_CONTAINERD_PID" || return 0
	touch "$LAB_DIR/log/starting"
	lab_containerd_up 3>&- 4>&- || return
	rm "$LAB_DIR/log/starting"
}

# watch_over: no NIC is two containers'. Records and namespaces are looked at one
# after the other, and NICs change hands meanwhile: a second look decides.
watch_over() {
	local twice
	twice=$(given_twice) || return
	[[ -n $twice ]] || return 0
	twice=$(comm -12 <(printf '%s\n' "$twice") <(given_twice))
	[[ -z $twice ]] || fail "a NIC is given twice: $twice"
}

# given_twice prints MAC and holders of each NIC that two records name, or that two
# living containers' namespaces have.
given_twice() {
	local list
	list=$(candor list --json 2>&1) || fail "candor list: $list" || return
	{
		jq -r '.[] | .key as $key | .nics[]? | "\(.mac) record:\($key)"' <<<"$list"
		jq -r '.[] | select(.alive) | "\(.owner.pid) \(.key)"' <<<"$list" | while read -r pid key; do
			nsenter --net="/proc/$pid/ns/net" ip -j link show 2>/dev/null | jq -r --arg key "$key" '.[] | select(.link_type != "loopback") | "\(.address) inside:\($key)"'
		done
	} | sort -u | awk '{ split($2, a, ":"); k = $1 " " a[1]; n[k]++; who[k] = who[k] " " a[2] } END { for (k in n) if (n[k] > 1) print k who[k] }' | sort
}

all_as_before() {
	local i
	no_records && no_shims && ! candor_mounts | grep -qv '^view' || return
	for i in "${!NICS[@]}"; do
		[[ $(lab_nic_state "${NICS[i]}") == "${BEFORE[i]}" ]] || return
	done
}

tell_what_is_left() {
	local i pid
	lab_records
	candor_mounts | grep -v '^view' || true
	for pid in $(running containerd-shim-candor-v1 containerd-shim-runc-v2 runc); do
		printf 'process %s: %s\n' "$pid" "$(lab_command "$pid")"
		grep -wE "$(lab_command "$pid" | grep -oE 'churn[0-9]+' | head -n 1)|containerd" "$LAB_DIR/log/churn" || true
	done
	for i in "${!NICS[@]}"; do
		diff <(echo "${BEFORE[i]}") <(lab_nic_state "${NICS[i]}") || true
	done
}

@test "many containers, eight at a time, share four NICs while all that can be killed is killed" {
	local NICS=("$LAB_NIC" "$LAB_NIC2" "${LAB_MORE_NICS[@]}") MACS=("$LAB_MAC" "$LAB_MAC2" "${LAB_MORE_MACS[@]}")
	local SUBNETS=("$LAB_SUBNET" "$LAB_SUBNET2" "${LAB_MORE_SUBNETS[@]}") BEFORE=() PLAN i seed began=$SECONDS
	seed=${CANDOR_CHURN_SEED:-$(lab_random 1 32767)}
	echo "# CANDOR_CHURN=$CHURN CANDOR_CHURN_SEED=$seed" | tee /dev/fd/3
	for i in "${!NICS[@]}"; do BEFORE+=("$(lab_nic_state "${NICS[i]}")"); done
	plan "$seed"
	: >"$LAB_DIR/log/churn"
	churn
	# What a kill has left behind, whoever is killed next would have to tidy up:
	# the last container brings candord back, should it be dead.
	for i in $(lab_ctr containers ls -q); do remove "$i"; done
	lab_wait 10 no_shims && lab_wait 3 forget_cgroups
	lab_run candor last --rm -- /bin/true
	lab_wait 10 all_as_before || {
		tell_what_is_left
		fail "not all is as it was"
	}
	echo "# $(noted started) started, $(noted refused) refused (held), $(noted failed) failed by a kill; killed:" \
		"$(awk '$2 == "killed" { n[$3]++ } END { for (k in n) printf "%s %d ", k, n[k] }' "$LAB_DIR/log/churn")in $((SECONDS - began)) s" | tee /dev/fd/3
	awk '$2 == "wrong" || $2 == "failed"' "$LAB_DIR/log/churn"
	equal "containers that failed with nothing killed" 0 "$(noted wrong)"
	equal "containers" "$CHURN" $(($(noted started) + $(noted refused) + $(noted failed)))
	(($(noted started) > CHURN / 4)) || fail "hardly any container started"
}
