// Command candor-prestart-lxcfs is the OCI createRuntime hook that binds the
// resource view into a container.
package main

import (
	"context"

	"candor.dev/candor/counters"
	"candor.dev/candor/hooks/hook"
)

func main() {
	hook.Hook{
		Name:      "candor-prestart-lxcfs",
		Summary:   "binds the files of the resource view into a container",
		Operation: counters.View,
		Run: func(ctx context.Context, c hook.Call) error {
			return c.Node.AttachView(ctx, c.Container, c.Policy, c.Caller)
		},
	}.ExitMain()
}
