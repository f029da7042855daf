// Command candor-prestart-net is the OCI createRuntime hook that gives a
// container its NICs and its egress limit.
package main

import (
	"context"

	"candor.dev/candor/counters"
	"candor.dev/candor/hooks/hook"
)

func main() {
	hook.Hook{
		Name:      "candor-prestart-net",
		Summary:   "gives a container its NICs and its egress limit",
		Operation: counters.Attach,
		Waits:     true,
		Run: func(ctx context.Context, c hook.Call) error {
			return c.Node.AttachNetwork(ctx, c.Container, c.Policy, c.Caller)
		},
	}.ExitMain()
}
