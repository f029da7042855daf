//go:build amd64

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// The whole test binary runs in a network namespace of its own, which is "the
// node": what a test leaves behind there dies with it.
func TestMain(m *testing.M) {
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
