# shellcheck shell=bash
# NICs that come and go while the guest runs, as a cloud attaches and detaches
# them. The guest asks (inside/hotplug), QEMU's monitor does it. Only these two
# requests go through: the monitor itself would be the whole of this machine.

# The ends for QEMU; a pipe is two fifos, seen from QEMU.
hotplug_words() {
	printf '%s\n' -chardev "pipe,id=monitor,path=$GUEST_RUN/monitor" -mon chardev=monitor,mode=readline \
		-chardev "pipe,id=hotplug,path=$GUEST_RUN/hotplug" -device virtserialport,chardev=hotplug,name=hotplug
}

# hotplug_up serves the requests until hotplug_down.
hotplug_up() {
	mkfifo "$GUEST_RUN"/{monitor,hotplug}.{in,out}
	hotplug_serve &
	GUEST_HOTPLUG_PID=$!
}

# Each fifo is opened for both ways: no open waits for QEMU, none ends early.
hotplug_serve() {
	local verb id mac monitor answers requests
	exec {monitor}<>"$GUEST_RUN/monitor.in" {answers}<>"$GUEST_RUN/monitor.out" {requests}<>"$GUEST_RUN/hotplug.out"
	cat <&"$answers" >"$GUEST_RUN/monitor.log" &
	# shellcheck disable=SC2064  # this process
	trap "kill $! 2>/dev/null; exit 0" TERM
	while read -r -u "$requests" verb id mac; do
		[[ $id =~ ^[a-z0-9]{1,12}$ ]] || continue
		case $verb in
		plug)
			[[ $mac =~ ^([0-9a-f]{2}:){5}[0-9a-f]{2}$ ]] || continue
			printf 'netdev_add hubport,id=%s-wire,hubid=0\ndevice_add virtio-net-pci,id=%s,netdev=%s-wire,bus=slot2,mac=%s,romfile=\n' \
				"$id" "$id" "$id" "$mac" >&"$monitor"
			;;
		unplug)
			printf 'device_del %s\n' "$id" >&"$monitor"
			# The guest lets go of it first; its end of the wire goes then.
			(sleep 3 && printf 'netdev_del %s-wire\n' "$id" >&"$monitor") &
			;;
		esac
	done
}

hotplug_down() {
	[[ -n ${GUEST_HOTPLUG_PID:-} ]] || return 0
	kill "$GUEST_HOTPLUG_PID" 2>/dev/null || true
	wait "$GUEST_HOTPLUG_PID" 2>/dev/null || true
}
