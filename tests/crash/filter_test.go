//go:build amd64

package crash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterProgram stops a thread at the calls of suspects, and at those openat that
// may make or empty a file.
func filterProgram() []unix.SockFilter {
	const (
		number = 0        // seccomp_data.nr
		flags  = 16 + 2*8 // openat's third argument, its low half
	)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// jump goes on with the next instruction where it holds, else skips some.
	jump := func(test uint16, k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, K: k, Jf: skip}
	}
	allow := unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}
	stop := unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_TRACE}
	program := []unix.SockFilter{
		load(number),
		jump(unix.BPF_JEQ, unix.SYS_OPENAT, 4),
		load(flags),
		jump(unix.BPF_JSET, makingFlags, 1),
		stop,
		allow,
	}
	for n := range suspects {
		if n != unix.SYS_OPENAT {
			program = append(program, jump(unix.BPF_JEQ, uint32(n), 1), stop)
		}
	}
	return append(program, allow)
}

// installFilter has a process that is stopped before its first instruction
// install the filter, by putting the call into its way: a program between would
// cost a start more than the traced one.
func installFilter(pid int) error {
	var saved unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &saved); err != nil {
		return fmt.Errorf("get registers: %w", err)
	}
	text := make([]byte, 8)
	if _, err := unix.PtracePeekText(pid, uintptr(saved.Rip), text); err != nil {
		return fmt.Errorf("read text: %w", err)
	}
	program := filterProgram()
	// The kernel gives a new process 128 KiB of stack.
	at := (saved.Rsp - 16<<10) &^ 15
	var b bytes.Buffer
	for _, field := range []any{uint64(len(program)), at + 16, program} { // struct sock_fprog
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			return err
		}
	}
	if _, err := unix.PtracePokeData(pid, uintptr(at), b.Bytes()); err != nil {
		return fmt.Errorf("write filter: %w", err)
	}
	regs := saved
	regs.Rax, regs.Orig_rax = unix.SYS_SECCOMP, ^uint64(0)
	// Without the flag a filter turns on mitigations that make a program slow.
	regs.Rdi, regs.Rsi, regs.Rdx = unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, at
	syscall := append([]byte{0x0f, 0x05}, text[2:]...)
	if _, err := unix.PtracePokeText(pid, uintptr(saved.Rip), syscall); err != nil {
		return fmt.Errorf("write text: %w", err)
	}
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return fmt.Errorf("set registers: %w", err)
	}
	if err := unix.PtraceSingleStep(pid); err != nil {
		return fmt.Errorf("step: %w", err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("step: %v, %w", status, err)
	}
	var after unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &after); err != nil {
		return fmt.Errorf("get registers: %w", err)
	}
	if after.Rax != 0 {
		return fmt.Errorf("seccomp(2): %w", unix.Errno(-int64(after.Rax)))
	}
	if _, err := unix.PtracePokeText(pid, uintptr(saved.Rip), text); err != nil {
		return fmt.Errorf("restore text: %w", err)
	}
	return unix.PtraceSetRegs(pid, &saved)
}

// readMemory reads n bytes of a process, fewer where its memory ends.
func readMemory(pid int, at uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	local := []unix.Iovec{{Base: unsafe.SliceData(b), Len: uint64(n)}}
	// Page by page: of one that is not there, nothing at all would come.
	var remote []unix.RemoteIovec
	for done := 0; done < n; {
		step := min(n-done, 4096-int((at+uint64(done))%4096))
		remote = append(remote, unix.RemoteIovec{Base: uintptr(at) + uintptr(done), Len: step})
		done += step
	}
	got, err := unix.ProcessVMReadv(pid, local, remote, 0)
	if err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	return b[:got], nil
}
