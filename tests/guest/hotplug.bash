# shellcheck shell=bash
# NICs that come and go while the guest runs, as a cloud attaches and detaches
# them: device_add and device_del by QMP. The guest asks (inside/hotplug), this
# side tells QEMU. Only these two requests go through: QMP itself would be the
# whole of this machine.

# The ends for QEMU; a pipe is two fifos, .in and .out as QEMU sees them.
hotplug_words() {
	printf '%s\n' -chardev "pipe,id=qmp,path=$GUEST_RUN/qmp" -mon chardev=qmp,mode=control \
		-chardev "pipe,id=hotplug,path=$GUEST_RUN/hotplug" -device virtserialport,chardev=hotplug,name=hotplug
}

# hotplug_up serves the requests until hotplug_down.
hotplug_up() {
	mkfifo "$GUEST_RUN"/{qmp,hotplug}.{in,out}
	hotplug_serve &
	GUEST_HOTPLUG_PID=$!
}

# Each fifo is opened for both ways: no open waits for QEMU, none ends early.
hotplug_serve() {
	local verb id mac qmp said requests
	exec {qmp}<>"$GUEST_RUN/qmp.in" {said}<>"$GUEST_RUN/qmp.out" {requests}<>"$GUEST_RUN/hotplug.out"
	hotplug_listen &
	# shellcheck disable=SC2064  # this process
	trap "kill $! 2>/dev/null; exit 0" TERM
	hotplug_tell '{"execute": "qmp_capabilities"}'
	while read -r -u "$requests" verb id mac; do
		[[ $id =~ ^[a-z0-9]{1,12}$ ]] || continue
		case $verb in
		plug)
			[[ $mac =~ ^([0-9a-f]{2}:){5}[0-9a-f]{2}$ ]] || continue
			hotplug_tell '{"execute": "netdev_add", "arguments": {"type": "hubport", "id": "%s-wire", "hubid": 0}}' "$id"
			hotplug_tell '{"execute": "device_add", "arguments": {"driver": "virtio-net-pci", "id": "%s", "netdev": "%s-wire",
				"bus": "slot2", "mac": "%s", "romfile": ""}}' "$id" "$id" "$mac"
			;;
		unplug) hotplug_tell '{"execute": "device_del", "arguments": {"id": "%s"}}' "$id" ;;
		esac
	done
}

# hotplug_tell FORMAT WORD...
# shellcheck disable=SC2059  # the format is the point
hotplug_tell() { printf "$@" >&"$qmp"; }

# hotplug_listen keeps what QEMU says for whoever looks for a fault, and takes away
# the end of a NIC's wire once the guest has let go of the NIC.
hotplug_listen() {
	local line
	while read -r -u "$said" line; do
		printf '%s\n' "$line" >>"$GUEST_RUN/qmp.log"
		[[ $line =~ \"DEVICE_DELETED\".*\"device\":\ \"([a-z0-9]+)\" ]] || continue
		hotplug_tell '{"execute": "netdev_del", "arguments": {"id": "%s-wire"}}' "${BASH_REMATCH[1]}"
	done
}

hotplug_down() {
	[[ -n ${GUEST_HOTPLUG_PID:-} ]] || return 0
	kill "$GUEST_HOTPLUG_PID" 2>/dev/null || true
	wait "$GUEST_HOTPLUG_PID" 2>/dev/null || true
}
