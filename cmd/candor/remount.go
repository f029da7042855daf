package main

import (
	"context"
	"fmt"
	"time"

	"candor.dev/candor/daemon"
	"candor.dev/candor/ledger"
	"candor.dev/candor/shim/prepare"
	"github.com/urfave/cli/v2"
)

// remountLimit bounds all of it: a container takes some milliseconds.
const remountLimit = time.Minute

func remountCommand() *cli.Command {
	return &cli.Command{
		Name:  "remount",
		Usage: "put living files of the resource view in the place of dead ones, in every running container",
		Description: "When candord's supervisor and worker have died at once, the files of the view in running containers are\n" +
			"dead: reads fail with ENOTCONN. The next candord mounts the view anew and puts living files beneath the\n" +
			"dead ones by itself. This command is for a node on which none has come, or could not mend a container.\n\n" +
			"Where no candord runs it starts one. Then it looks at each running container that has the view, and says\n" +
			"on one line what it did. No container is restarted, no process in it ever sees the machine's own files, and\n" +
			"where nothing is dead nothing is changed. A file that a process had open stays dead for that process.\n\n" +
			"The exit status is 0 when every container has the view, else 1.",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			p, err := nodePolicy(c)
			if err != nil {
				return err
			}
			bin, err := prepare.HookDir(p)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, remountLimit)
			defer cancel()
			seen := 0
			err = daemon.Remount(ctx, daemon.Options{BinDir: bin, ConfigPath: c.String("config"), StateDir: p.StateDir},
				func(r *ledger.Record, bound []string) {
					seen++
					if len(bound) == 0 {
						fmt.Fprintf(c.App.Writer, "%s: nothing to mend\n", r.ID)
						return
					}
					fmt.Fprintf(c.App.Writer, "%s: mended %d files\n", r.ID, len(bound))
				})
			if err == nil && seen == 0 {
				fmt.Fprintln(c.App.ErrWriter, "no running container has the resource view")
			}
			return err
		},
	}
}
