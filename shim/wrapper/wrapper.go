// Package wrapper is candor-runc: runc for engines that cannot be given a shim.
// It prepares the bundle that create, run and restore are called for, shapes a
// late network before start, and then becomes runc. Every other call it passes
// on as it is.
//
// It never writes to standard output, which is runc's (nvidia-container-toolkit#1400:
// a log line there broke `state`).
package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"candor.dev/candor/request"
	"candor.dev/candor/shim/bundle"
	"candor.dev/candor/shim/prepare"
	"candor.dev/candor/shim/runcargs"
	"candor.dev/candor/specgen"
	"golang.org/x/sys/unix"
)

// name is how the wrapper calls itself in errors and in the journal.
const name = "candor-runc"

// defaultCaller is who asks when the engine's entry for the runtime does not
// say.
const defaultCaller = "runc"

// timeout bounds what is done before runc.
const timeout = 20 * time.Second

// Wrapper is one call of candor-runc.
type Wrapper struct {
	// Args are the arguments behind the program's name.
	Args []string
	// Environ is the environment, which runc gets too.
	Environ []string
	Stderr  io.Writer
	// Exec becomes another program; nil is execve(2).
	Exec func(path string, argv, environ []string) error
}

// Main runs the call. It returns only when runc could not be reached: with the
// exit status 1, after one line on standard error and in runc's log.
func (w Wrapper) Main() int {
	own, rest := takeOwn(w.Args)
	command := runcargs.Parse(rest)
	if err := w.run(own, rest, command); err != nil {
		report(w.Stderr, command, err)
		return 1
	}
	return 0
}

func (w Wrapper) run(own ownFlags, rest []string, command runcargs.Command) error {
	if err := own.check(); err != nil {
		return err
	}
	runc, err := findRunc(w.env("CANDOR_RUNC"), w.env("PATH"))
	if err != nil {
		return err
	}
	// execve(2) keeps the pid: whoever finds its own here has been here before.
	// A copy of the wrapper under the name runc is not recognised otherwise.
	mark := fmt.Sprintf("%s=%d", loopVariable, os.Getpid())
	if w.env(loopVariable) == fmt.Sprint(os.Getpid()) {
		return fmt.Errorf("%s is %s again: set CANDOR_RUNC to the path of runc", runc, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if !command.Help && command.ID != "" {
		switch command.Name {
		case "create", "run", "restore":
			err = w.prepare(ctx, own, command, runc)
		case "start":
			err = w.late(ctx, own, command)
		}
		if err != nil {
			return err
		}
	}
	become := w.Exec
	if become == nil {
		become = unix.Exec
	}
	argv := append([]string{"runc"}, rest...)
	if err := become(runc, argv, append(without(w.Environ, loopVariable), mark)); err != nil {
		return &os.PathError{Op: "exec", Path: runc, Err: err}
	}
	return nil
}

// loopVariable holds the pid of the process that became runc.
const loopVariable = "CANDOR_RUNC_PID"

// prepare puts candor's hooks into the bundle's spec.
func (w Wrapper) prepare(ctx context.Context, own ownFlags, command runcargs.Command, runc string) error {
	dir, err := filepath.Abs(command.Bundle) // "" is the working directory
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return refuseRootless(dir)
	}
	done, err := prepare.Container{
		ID:         command.ID,
		Bundle:     dir,
		Component:  name,
		ConfigPath: w.configPath(own),
		Caller:     func(map[string]string) string { return own.caller },
		TimeNamespace: func(ctx context.Context, stateDir string) bool {
			return hasTimeNamespace(ctx, stateDir, runc)
		},
		Restore: command.Name == "restore",
	}.Run(ctx)
	if err != nil {
		return err
	}
	if len(done.Warnings) > 0 {
		warn(done, command.ID)
	}
	return nil
}

// refuseRootless looks at the bundle of a runtime that is not run by root. It
// cannot have hooks on the host: what it asks for is refused, and a container
// that asks for nothing goes its way.
func refuseRootless(dir string) error {
	config, err := bundle.Read(dir)
	if err != nil {
		return err
	}
	spec, err := specgen.Parse(config.Spec)
	if err != nil {
		return err
	}
	req, err := request.Parse(spec.Annotations)
	if err != nil {
		return err
	}
	req.ResourceView = request.Default
	if !req.Empty() {
		return errors.New("a rootless container can be given neither NIC nor limit")
	}
	return nil
}

func (w Wrapper) configPath(own ownFlags) string {
	if own.config != "" {
		return own.config
	}
	return prepare.ConfigPath("")
}

func (w Wrapper) env(key string) string {
	for i := len(w.Environ) - 1; i >= 0; i-- {
		if value, found := strings.CutPrefix(w.Environ[i], key+"="); found {
			return value
		}
	}
	return ""
}

func without(environ []string, key string) []string {
	var kept []string
	for _, e := range environ {
		if !strings.HasPrefix(e, key+"=") {
			kept = append(kept, e)
		}
	}
	return kept
}

// ownFlags are the wrapper's flags. They stand before runc's, where the entry of
// an engine's config puts them: `"runtimeArgs": ["--candor-caller=docker"]`.
type ownFlags struct {
	config, caller string
	// unknown is a flag of the wrapper's that it does not have.
	unknown string
}

const ownPrefix = "--candor-"

// takeOwn cuts the wrapper's flags off the head of the arguments.
func takeOwn(args []string) (ownFlags, []string) {
	own := ownFlags{caller: defaultCaller}
	for len(args) > 0 {
		text, found := strings.CutPrefix(args[0], ownPrefix)
		if !found {
			break
		}
		switch flag, value, _ := strings.Cut(text, "="); flag {
		case "config":
			own.config = value
		case "caller":
			own.caller = value
		default:
			own.unknown = args[0]
		}
		args = args[1:]
	}
	return own, args
}

func (o ownFlags) check() error {
	switch {
	case o.unknown != "":
		return fmt.Errorf("unknown flag %q: candor-runc has --candor-config=FILE and --candor-caller=NAME", o.unknown)
	case o.config != "" && !filepath.IsAbs(o.config):
		return fmt.Errorf("%sconfig=%s: not an absolute path", ownPrefix, o.config)
	case o.caller == "":
		return fmt.Errorf("%scaller= needs a name", ownPrefix)
	}
	return nil
}
