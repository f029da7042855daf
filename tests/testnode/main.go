// Package testnode gives Go tests a node of their own: a network namespace for the
// test binary, and the SR-IOV hardware that a machine has to spare for them.
package testnode

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Main is for TestMain: it runs the whole test binary in a network namespace of its
// own, which is "the node". What a test leaves behind there dies with it. Without
// root the tests run where they are, and skip by themselves.
func Main(m *testing.M) {
	const inside = "CANDOR_TEST_NODE"
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// IP runs ip(8) on the node.
func IP(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}
