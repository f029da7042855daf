package main

import (
	"errors"
	"fmt"

	"candor.dev/candor/lifecycle"
	"github.com/urfave/cli/v2"
)

func gcCommand() *cli.Command {
	return &cli.Command{
		Name:  "gc",
		Usage: "give back what dead containers still hold",
		Description: "candord does this by itself within seconds of a container's death;\n" +
			"the command is for a node on which it does not run, and safe beside it.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only say what would be given back"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return onNode(c, func(n *lifecycle.Node) error {
				dead, err := n.Dead()
				errs := []error{err}
				if len(dead) == 0 && err == nil {
					fmt.Fprintln(c.App.ErrWriter, "nothing to give back: every container in the ledger runs")
				}
				for _, r := range dead {
					if c.Bool("dry-run") {
						fmt.Fprintf(c.App.Writer, "would give back %s: %s\n", r.ID, lifecycle.Holdings(r))
						continue
					}
					err := n.GiveBack(c.Context, r.Key)
					if errors.Is(err, lifecycle.ErrAlive) {
						continue
					}
					if err == nil {
						fmt.Fprintf(c.App.Writer, "gave back %s: %s\n", r.ID, lifecycle.Holdings(r))
					}
					errs = append(errs, err)
				}
				if !c.Bool("dry-run") {
					errs = append(errs, n.Tidy())
				}
				return errors.Join(errs...)
			})
		},
	}
}
