// Command containerd-shim-candor-v1 is candor's containerd shim: runc's own,
// with candor's hooks in the containers that it creates.
package main

import (
	"context"
	"fmt"
	"os"

	"candor.dev/candor/shim/manager"
	"candor.dev/candor/shim/task"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	if manager.PrintVersion(os.Args[1:], os.Stdout) {
		return
	}
	m := manager.New()
	done, stdin, err := manager.LegacyStart(m, os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", manager.Runtime, err)
		os.Exit(1)
	}
	if done {
		return
	}
	os.Stdin = stdin
	task.Register()
	shim.RunShim(context.Background(), m)
}
