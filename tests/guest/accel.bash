# shellcheck shell=bash
# KVM where it works, emulation (TCG) where it does not.

# accel_words prints QEMU's words for it. That /dev/kvm is there says little: on a
# host whose own KVM is nested or para-virtual (PVM) it opens, and then a stock
# kernel hangs or dies. So a kernel is booted by it, once per boot of this machine.
accel_words() {
	case $(accel_known) in
	kvm) printf '%s\n' -accel kvm -cpu host ;;
	# mitigations=off and the like are in boot.bash: emulation knows no speculation.
	*) printf '%s\n' -accel tcg,thread=multi,tb-size=512 -cpu max ;;
	esac
}

accel_known() {
	local known
	known=$GUEST_BUILT/accel-$(</proc/sys/kernel/random/boot_id)
	if [[ -n ${GUEST_ACCEL:-} ]]; then
		printf '%s\n' "$GUEST_ACCEL"
		return
	fi
	if [[ ! -s $known ]]; then
		rm -f "$GUEST_BUILT"/accel-*
		if accel_kvm_works; then echo kvm; else echo tcg; fi >"$known.$$"
		mv "$known.$$" "$known"
	fi
	cat "$known"
}

# accel_kvm_works boots the kernel as far as the initramfs, which says so.
accel_kvm_works() {
	[[ -r /dev/kvm && -w /dev/kvm ]] || return
	local said
	said=$(qemu 20 -accel kvm -cpu host -m 512 -kernel "$GUEST_BUILT/vmlinuz-6.12" -initrd "$GUEST_RUN/initramfs" \
		-append "console=ttyS0 quiet panic=-1 guest.probe" -serial stdio </dev/null 2>/dev/null) || return
	[[ $said == *guest-probe-works* ]]
}
