# shellcheck shell=bash
# One boot of a guest: its hardware, what goes in and what comes out.

# qemu SECONDS ARGUMENTS...: the cache's QEMU, by its own loader and libraries.
qemu() {
	local seconds=$1 tree=$GUEST_BUILT/qemu lib=$GUEST_BUILT/qemu/usr/lib/x86_64-linux-gnu
	shift
	TMPDIR=$GUEST_RUN QEMU_MODULE_DIR=$lib/qemu timeout --kill-after=5 "$seconds" \
		"$tree/usr/lib64/ld-linux-x86-64.so.2" --library-path "$lib:$lib/pulseaudio:$lib/ceph" \
		"$tree/usr/bin/qemu-system-x86_64" -L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios" \
		-nodefaults -no-user-config -display none -no-reboot -M q35 "$@"
}

# boot_initramfs KERNEL: the kernel's, and behind it what the guest runs first.
# From the working tree and not from the cache: a change there needs no build.
boot_initramfs() {
	cat "$GUEST_BUILT/initramfs-$1"
	# Compressed: a plain archive would have to begin at a multiple of four.
	(cd "$GUEST_RUN" && find inside init -print | "$GUEST_BUILT/busybox" cpio -o -H newc 2>/dev/null | gzip -1)
}

# boot runs the guest until it ends. GUEST_RUN is its directory: inside/command
# goes in; console and status come out. What the command prints goes to stdout.
boot() {
	local kernel=$1 cgroup=$2 seconds=$3 accel hotplug words watch status=0
	rm -rf "$GUEST_RUN"/{inside,status,stalled,pid,*.in,*.out}
	cp -r "$GUEST_HERE/inside" "$GUEST_RUN/"
	cp "$GUEST_HERE/inside/initramfs" "$GUEST_RUN/init"
	printf '%s\n' "$GUEST_COMMAND" >"$GUEST_RUN/inside/command"
	boot_initramfs "$kernel" >"$GUEST_RUN/initramfs"
	mapfile -t accel < <(accel_words)
	mapfile -t hotplug < <(hotplug_words)
	hotplug_up
	truncate -s 2G "$GUEST_RUN/scratch"
	: >"$GUEST_RUN/console"
	words="console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=1 psi=1 tsc=reliable no_timer_check"
	# A file, not stdio, for what comes out: with stdin at its end, the guest's
	# writes block for ever. /dev/stdout has to be a pipe: hence cat.
	boot_watch &
	watch=$!
	qemu "$seconds" "${accel[@]}" -pidfile "$GUEST_RUN/pid" -smp "$GUEST_CPUS" -m "$GUEST_MEMORY" \
		-kernel "$GUEST_BUILT/vmlinuz-$kernel" -initrd "$GUEST_RUN/initramfs" \
		-append "$words guest.cgroup=$cgroup ${GUEST_APPEND:-}" \
		-drive "file=$GUEST_BUILT/root.ext4,format=raw,if=none,id=root,snapshot=on,cache=unsafe" -device virtio-blk-pci,drive=root \
		-drive "file=$GUEST_RUN/scratch,format=raw,if=none,id=scratch,cache=unsafe" -device virtio-blk-pci,drive=scratch,serial=scratch \
		-virtfs "local,path=$GUEST_PROJECT,mount_tag=candor,security_model=none,multidevs=remap,readonly=on" \
		-virtfs "local,path=$GUEST_RESULTS,mount_tag=results,security_model=none" \
		-chardev "file,id=console,path=$GUEST_RUN/console,append=on" -serial chardev:console \
		-chardev file,id=out,path=/dev/stdout,append=on -chardev "file,id=status,path=$GUEST_RUN/status,append=on" \
		-device virtio-serial-pci -device virtserialport,chardev=out,name=out -device virtserialport,chardev=status,name=status \
		-object rng-random,id=random,filename=/dev/urandom -device virtio-rng-pci,rng=random \
		"${hotplug[@]}" "${GUEST_HARDWARE[@]}" </dev/null 2> >(grep -v 'hub 0 is not connected' >&2) | cat || status=$?
	hotplug_down
	kill "$watch" 2>/dev/null
	wait "$watch" 2>/dev/null
	return "$status"
}

# boot_watch ends a guest that does not get as far as its command, and one whose
# kernel says that a CPU's timer is dead: under emulation that happens once in
# some dozens of boots, and then nothing that sleeps there wakes up again.
boot_watch() {
	local started=$SECONDS
	while sleep 1; do
		if [[ ! -s $GUEST_RUN/status ]]; then
			((SECONDS - started >= GUEST_BOOT_SECONDS)) || continue
		else
			grep -q 'Possible timer handling issue' "$GUEST_RUN/console" || continue
			: >"$GUEST_RUN/stalled"
		fi
		kill "$(<"$GUEST_RUN/pid")"
		return
	done >/dev/null 2>&1
}

# boot_started: the last boot got as far as its command.
boot_started() { [[ -s $GUEST_RUN/status ]]; }

# boot_status QEMU_STATUS prints the exit status of the command in the guest, and
# says on stderr why there is none.
boot_status() {
	local status
	status=$(tail -n 1 "$GUEST_RUN/status" 2>/dev/null)
	if [[ -e $GUEST_RUN/stalled ]]; then
		echo "guest: it stalled, emulation lost the timer of one of its CPUs: run it again" >&2
		echo 123
	elif [[ $status =~ ^[0-9]+$ ]]; then
		printf '%s\n' "$status"
	elif (($1 == 124 || $1 == 137)); then
		echo "guest: not done within its time limit; the console's last lines:" >&2
		tail -n 40 "$GUEST_RUN/console" >&2
		echo 124
	else
		echo "guest: it died without a word (QEMU's status $1); the console's last lines:" >&2
		tail -n 30 "$GUEST_RUN/console" >&2
		echo 125
	fi
}
