// Command candor-poststop is the OCI poststop hook that gives back everything
// that a container holds.
package main

import (
	"context"
	"errors"

	"candor.dev/candor/counters"
	"candor.dev/candor/hooks/hook"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
)

func main() {
	hook.Hook{
		Name:     "candor-poststop",
		Summary:  "gives back everything that a container holds",
		AfterEnd: true, Operation: counters.GiveBack,
		Run: func(ctx context.Context, c hook.Call) error {
			err := c.Node.GiveBack(ctx, ledger.Key(c.Container.ID, c.Container.Bundle))
			if errors.Is(err, lifecycle.ErrAlive) {
				return nil // a late poststop of an old container: the key is a new one's
			}
			return err
		},
	}.ExitMain()
}
