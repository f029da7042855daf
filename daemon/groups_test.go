package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// group is a cgroup of a test's own, of one controller.
type group struct {
	dir string
	v2  bool
}

// newGroup makes a group below the root of the hierarchy that has the
// controller. "freezer" and "devices" need none in v2.
func newGroup(t *testing.T, l *lab, controller string) group {
	t.Helper()
	g, err := hierarchyOf(controller)
	if err != nil {
		t.Skip(err)
	}
	return g.below(t, cgroupName(l.dir)+"-"+controller)
}

// below makes a group in the hierarchy, or group, that g is. Whoever is in it at the
// end of the test is moved out.
func (g group) below(t testing.TB, name string) group {
	t.Helper()
	g.dir = filepath.Join(g.dir, name)
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 500 {
			pids, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(pids)) {
				_ = writeCgroup(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), pid)
			}
			if os.Remove(g.dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s is left", g.dir)
	})
	return g
}

func hierarchyOf(controller string) (group, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return group{}, err
	}
	var unified string
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		switch {
		case g[0] == "cgroup" && slices.Contains(strings.Split(g[len(g)-1], ","), controller):
			return group{dir: f[4]}, nil
		case g[0] == "cgroup2":
			unified = f[4]
		}
	}
	given, _ := os.ReadFile(unified + "/cgroup.subtree_control")
	if unified != "" && (controller == "freezer" || controller == "devices" || slices.Contains(strings.Fields(string(given)), controller)) {
		return group{dir: unified, v2: true}, nil
	}
	return group{}, fmt.Errorf("no cgroup hierarchy here gives its groups the controller %s", controller)
}

func (g group) write(t testing.TB, name, value string) {
	t.Helper()
	if err := writeCgroup(filepath.Join(g.dir, name), value); err != nil {
		t.Fatal(err)
	}
}

// enter moves a process into the group. One that has ended is no matter.
func (g group) enter(t testing.TB, pid int) {
	t.Helper()
	err := writeCgroup(filepath.Join(g.dir, "cgroup.procs"), fmt.Sprint(pid))
	if err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
}

// cpus gives the group so much of a CPU in each period.
func (g group) cpus(t *testing.T, quota, period time.Duration) {
	t.Helper()
	if g.v2 {
		g.write(t, "cpu.max", fmt.Sprint(quota.Microseconds(), " ", period.Microseconds()))
		return
	}
	g.write(t, "cpu.cfs_period_us", fmt.Sprint(period.Microseconds()))
	g.write(t, "cpu.cfs_quota_us", fmt.Sprint(quota.Microseconds()))
}

func (g group) freeze(t *testing.T) {
	t.Helper()
	if g.v2 {
		g.write(t, "cgroup.freeze", "1")
	} else {
		g.write(t, "freezer.state", "FROZEN")
	}
}

func (g group) thaw() {
	if g.v2 {
		_ = writeCgroup(filepath.Join(g.dir, "cgroup.freeze"), "0")
	} else {
		_ = writeCgroup(filepath.Join(g.dir, "freezer.state"), "THAWED")
	}
}

// deny keeps the group from a character device. v2 asks a program of
// BPF_PROG_TYPE_CGROUP_DEVICE, which gives 0 to refuse.
func (g group) deny(t *testing.T, major, minor uint32) {
	t.Helper()
	if !g.v2 {
		g.write(t, "devices.deny", fmt.Sprintf("c %d:%d rwm", major, minor))
		return
	}
	insn := func(code, registers uint8, offset int16, value uint32) []byte {
		b := []byte{code, registers}
		b = binary.NativeEndian.AppendUint16(b, uint16(offset))
		return binary.NativeEndian.AppendUint32(b, value)
	}
	// struct bpf_cgroup_dev_ctx: access_type, major, minor.
	program := slices.Concat(
		insn(unix.BPF_LDX|unix.BPF_MEM|unix.BPF_W, 0x12, 4, 0),     // r2 = major
		insn(unix.BPF_LDX|unix.BPF_MEM|unix.BPF_W, 0x13, 8, 0),     // r3 = minor
		insn(unix.BPF_ALU64|unix.BPF_MOV|unix.BPF_K, 0x00, 0, 1),   // r0 = 1
		insn(unix.BPF_JMP|unix.BPF_JNE|unix.BPF_K, 0x02, 2, major), // if r2 != major: exit
		insn(unix.BPF_JMP|unix.BPF_JNE|unix.BPF_K, 0x03, 1, minor), // if r3 != minor: exit
		insn(unix.BPF_ALU64|unix.BPF_MOV|unix.BPF_K, 0x00, 0, 0),   // r0 = 0
		insn(unix.BPF_JMP|unix.BPF_EXIT, 0x00, 0, 0),
	)
	license := []byte("GPL\x00")
	load := struct {
		kind, count           uint32
		instructions, license uintptr
		_                     [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program) / 8),
		instructions: uintptr(unsafe.Pointer(&program[0])), license: uintptr(unsafe.Pointer(&license[0])),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		t.Skipf("no program can be loaded that would refuse a device: %v", errno)
	}
	defer unix.Close(int(fd))
	dir, err := unix.Open(g.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	attach := struct{ target, program, kind, flags uint32 }{uint32(dir), uint32(fd), unix.BPF_CGROUP_DEVICE, 0}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		t.Fatalf("attach the program to %s: %v", g.dir, errno)
	}
}

// hog starts a process in the group that computes until the test ends.
func (g group) hog(t *testing.T) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	g.enter(t, cmd.Process.Pid)
}

// A worker that was replaced may not be dead yet when its candord ends.
func TestLeavingTakesAlongWhoeverIsInTheGroups(t *testing.T) {
	t.Parallel()
	g, err := hierarchyOf("freezer")
	if err != nil {
		t.Skip(err)
	}
	g.dir = filepath.Join(g.dir, cgroupName(t.TempDir()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g.hog(t)
	if err := (ownCgroups{dirs: []string{g.dir, g.dir + "-that-is-gone"}}).leave(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is left: %v", err)
		_ = leaveCgroup(g.dir)
	}
}
