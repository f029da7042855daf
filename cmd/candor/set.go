package main

import (
	"errors"
	"fmt"
	"strings"

	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"github.com/urfave/cli/v2"
)

func setCommand() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "change the limit of a running container",
		ArgsUsage: "ID|KEY egress-limit=RATE",
		Description: "RATE is in bits per second, such as 200M, at most the policy's max_limit. It is in force when the command\n" +
			"returns; connections stay, and so does what waits to be sent. It lasts until the container is deleted:\n" +
			"the annotation of its spec is not changed. A container that was started without a limit gets none.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return errors.New("set takes two arguments: a container's id, or the key of its record, and egress-limit=RATE")
			}
			name, value, _ := strings.Cut(c.Args().Get(1), "=")
			if strings.TrimPrefix(name, request.Prefix) != strings.TrimPrefix(request.KeyEgressLimit, request.Prefix) {
				return fmt.Errorf("set: no setting %q: the one that can be changed is egress-limit", name)
			}
			limit, err := request.ParseRate(value)
			if err != nil {
				return fmt.Errorf("set: egress-limit: %w", err)
			}
			p, err := policy.Load(c.String("config"))
			if err != nil {
				return err
			}
			return onNode(c, func(n *lifecycle.Node) error {
				r, err := find(n, c.Args().First())
				if err != nil {
					return err
				}
				return n.SetLimit(c.Context, r.Key, limit, p)
			})
		},
	}
}
