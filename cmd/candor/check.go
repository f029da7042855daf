package main

import (
	"fmt"

	"candor.dev/candor/lifecycle"
	"github.com/urfave/cli/v2"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "compare what is recorded with the kernel, and name each difference",
		ArgsUsage: "[ID|KEY...]",
		Description: "Changes nothing. Per container: is it alive, are its network namespaces pinned, is each NIC in the\n" +
			"container under its index and name and up, with the MTU, addresses and routes that it was given, does its\n" +
			"PF have what it was told, is its limit on each device, is its resource view bound.\n" +
			"Without arguments also: pins without a record, NICs left half way, records that cannot be read.\n\n" +
			"One line per difference, on standard output. The exit status is 0 when all agree, else 1.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print a JSON list of differences, empty when all agree"}},
		Action: func(c *cli.Context) error {
			return lookingAtNode(c, func(n *lifecycle.Node) error {
				var keys []string
				for _, name := range c.Args().Slice() {
					r, err := find(n, name)
					if err != nil {
						return err
					}
					keys = append(keys, r.Key)
				}
				differences, err := n.Check(c.Context, keys...)
				if told := printDifferences(c, differences, err == nil); err == nil {
					err = told
				}
				return err
			})
		},
	}
}

// printDifferences returns [errToldAlready] where there are any. whole says that
// all could be looked at.
func printDifferences(c *cli.Context, differences []lifecycle.Difference, whole bool) error {
	if c.Bool("json") {
		if differences == nil {
			differences = []lifecycle.Difference{} // a list all the same
		}
		if err := printJSON(c.App.Writer, differences); err != nil {
			return err
		}
	} else {
		for _, d := range differences {
			fmt.Fprintln(c.App.Writer, d)
		}
	}
	if len(differences) > 0 {
		return errToldAlready
	}
	if whole && !c.Bool("json") {
		fmt.Fprintln(c.App.ErrWriter, "all as recorded")
	}
	return nil
}
