// Package runcargs reads runc's command line as runc itself reads it, as far as
// a wrapper has to know.
//
// Searching the arguments for the word "create" takes a container of that name
// for the subcommand (nvidia-container-toolkit does: `runc delete create` is
// patched there). The grammar is that of runc 1.1 to 1.5 (main.go, create.go,
// run.go, restore.go over urfave/cli v1, and so over package flag): a flag has
// one or two dashes, its value stands behind "=" or as the next argument, "--"
// ends the flags; global flags end at the first argument that is none, the
// subcommand; its own flags may also stand behind the container's id.
package runcargs

import (
	"slices"
	"strconv"
	"strings"
)

// Command is a command line of runc.
type Command struct {
	// Name is the subcommand; "" when there is none.
	Name string
	// Root is --root; "" when it was not given.
	Root string
	// Log is --log and LogFormat is --log-format; "" when not given.
	Log, LogFormat string
	// SystemdCgroup is --systemd-cgroup.
	SystemdCgroup bool
	// Bundle is the subcommand's --bundle; "" means the working directory.
	Bundle string
	// ID is the subcommand's first argument that is no flag: the container's.
	ID string
	// Help is set when help is asked for, by flag or by leaving out the
	// subcommand: nothing will be run.
	Help bool
}

// The flags that take a value. All others are switches.
//
// --criu is of runc before 1.2; --cgroup-manager is crun's, which is called
// through the same kind of wrapper.
var (
	globalValues = []string{"log", "log-format", "root", "rootless", "criu", "cgroup-manager"}
	globalFlags  = []string{"debug", "systemd-cgroup", "help", "h", "version", "v"}

	commandValues = []string{
		"bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds",
		"image-path", "work-path", "parent-path", "manage-cgroups-mode", "empty-ns",
		"lsm-profile", "lsm-mount-context",
	}
)

// commands are runc's subcommands. They decide only where an unknown global
// flag stands alone.
var commands = []string{
	"checkpoint", "create", "delete", "events", "exec", "kill", "list", "pause", "ps", "restore",
	"resume", "run", "spec", "start", "state", "update", "features", "help", "h", "init",
}

// Parse reads the arguments behind the program's name.
func Parse(args []string) Command {
	var c Command
	rest := c.parseGlobal(args)
	if len(rest) == 0 {
		c.Help = true
		return c
	}
	c.Name = rest[0]
	c.Help = c.Help || c.Name == "help" || c.Name == "h"
	// Only what candor acts on is looked at; the flags of exec and others have
	// values that would have to be known.
	switch c.Name {
	case "create", "run", "restore", "start":
		c.parseCommand(rest[1:])
	}
	return c
}

// parseGlobal takes the global flags and returns what is behind them.
func (c *Command) parseGlobal(args []string) []string {
	for len(args) > 0 {
		if args[0] == "--" {
			return args[1:]
		}
		name, value, joined, ok := cutFlag(args[0])
		if !ok {
			return args
		}
		args = args[1:]
		takes := slices.Contains(globalValues, name)
		if !takes && !joined && !slices.Contains(globalFlags, name) {
			// Another runtime's flag. What follows is its value unless it
			// is a flag or a subcommand.
			takes = len(args) > 0 && !strings.HasPrefix(args[0], "-") && !slices.Contains(commands, args[0])
		}
		if takes && !joined {
			if len(args) == 0 {
				return nil // runc will say so
			}
			value, args = args[0], args[1:]
		}
		switch name {
		case "root":
			c.Root = value
		case "log":
			c.Log = value
		case "log-format":
			c.LogFormat = value
		case "systemd-cgroup":
			c.SystemdCgroup = isSet(value, joined)
		case "help", "h", "version", "v":
			c.Help = isSet(value, joined)
		}
	}
	return nil
}

// parseCommand takes the flags of the subcommand, wherever they stand.
func (c *Command) parseCommand(args []string) {
	for len(args) > 0 {
		if args[0] == "--" {
			if c.ID == "" && len(args) > 1 {
				c.ID = args[1]
			}
			return
		}
		name, value, joined, ok := cutFlag(args[0])
		if !ok {
			if c.ID == "" {
				c.ID = args[0]
			}
			args = args[1:]
			continue
		}
		args = args[1:]
		if !joined && slices.Contains(commandValues, name) {
			if len(args) == 0 {
				return // runc will say so
			}
			value, args = args[0], args[1:]
		}
		switch name {
		case "bundle", "b":
			c.Bundle = value
		case "help", "h":
			c.Help = isSet(value, joined)
		}
	}
}

// cutFlag takes a flag apart as package flag does. "-" is no flag.
func cutFlag(arg string) (name, value string, joined, ok bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", "", false, false
	}
	arg = strings.TrimPrefix(arg[1:], "-")
	name, value, joined = strings.Cut(arg, "=")
	return name, value, joined, true
}

func isSet(value string, joined bool) bool {
	if !joined {
		return true
	}
	on, err := strconv.ParseBool(value)
	return on && err == nil
}
