package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"candor.dev/candor/journal"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/statedir"
	"candor.dev/candor/version"
	"github.com/urfave/cli/v2"
)

func app() *cli.App {
	return &cli.App{
		Name:                 "candor",
		Usage:                "shows and mends what containers hold of this node",
		Description:          "Containers run under io.containerd.candor.v1 (or candor-runc) and ask by candor.dev/ annotations;\nthis command is the operator's view of what they were given.",
		HideVersion:          true,
		EnableBashCompletion: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "the node's policy", Value: policy.DefaultPath, EnvVars: []string{"CANDOR_CONFIG"}, TakesFile: true},
			&cli.StringFlag{Name: "state-dir", Usage: "state directory, instead of the policy's", EnvVars: []string{"CANDOR_STATE_DIR"}},
		},
		Commands:     []*cli.Command{listCommand(), inspectCommand(), networkStatusCommand(), checkCommand(), setCommand(), topCommand(), specCommand(), gcCommand(), remountCommand(), versionCommand()},
		OnUsageError: usageError,
		// Help is for who asks for it: an error is one line.
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("no command %q (see candor --help)", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func usageError(c *cli.Context, err error, isSubcommand bool) error {
	name := "candor"
	if isSubcommand {
		name += " " + c.Command.Name
	}
	return fmt.Errorf("%w (see %s --help)", err, name)
}

// run runs the command and tells its error in one line.
func run(args []string, stdout, stderr io.Writer) int {
	a := app()
	a.Writer, a.ErrWriter = stdout, stderr
	for _, c := range a.Commands {
		c.OnUsageError = usageError
	}
	if err := a.Run(args); errors.Is(err, errToldAlready) {
		return 1
	} else if err != nil {
		fmt.Fprintf(stderr, "candor: %s\n", journal.OneLine(err))
		return 1
	}
	return 0
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintf(c.App.Writer, "candor %s\n", version.String())
			return err
		},
	}
}

// errToldAlready is what a command returns whose result, on standard output, is
// what is wrong.
var errToldAlready = errors.New("it is told already")

// onNode opens the node that the global flags name and runs the command there.
func onNode(c *cli.Context, run func(*lifecycle.Node) error) error {
	return atNode(c, run, func(dir string) (*lifecycle.Node, error) {
		return lifecycle.OpenNode(dir, journal.New(dir, "candor"))
	})
}

// lookingAtNode is onNode for a command that makes nothing, not even the state
// directory.
func lookingAtNode(c *cli.Context, run func(*lifecycle.Node) error) error {
	return atNode(c, run, lifecycle.LookAt)
}

func atNode(c *cli.Context, run func(*lifecycle.Node) error, open func(stateDir string) (*lifecycle.Node, error)) error {
	p, err := nodePolicy(c)
	if err != nil {
		return err
	}
	dir := p.StateDir
	return statedir.InHostMounts(func() error {
		n, err := open(dir)
		if err != nil {
			return err
		}
		return run(n)
	})
}

// nodePolicy returns the policy of the node that the global flags name: where they
// name the state directory, one with nothing else if it cannot be read.
func nodePolicy(c *cli.Context) (*policy.Policy, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%s: only root can look at what containers hold of the node", c.Command.Name)
	}
	dir := c.String("state-dir")
	p, err := policy.Load(c.String("config"))
	if err != nil && dir == "" {
		return nil, fmt.Errorf("%w (--state-dir DIR works without a policy)", err)
	}
	if err != nil {
		p = &policy.Policy{}
	}
	if dir != "" {
		p.StateDir = dir
	}
	return p, nil
}

// oneArgument returns the command's only argument.
func oneArgument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", fmt.Errorf("%s takes one argument: %s", c.Command.Name, what)
	}
	return c.Args().First(), nil
}

func noArguments(c *cli.Context) error {
	if c.NArg() != 0 {
		return errors.New(c.Command.Name + " takes no arguments")
	}
	return nil
}
