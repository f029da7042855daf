// Package prepare is what both front doors, shim and wrapper, do for a
// container before runc creates it, and before runc starts it. It links no
// containerd: the wrapper is started four times in a container's life.
package prepare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/journal"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/shim/bundle"
	"candor.dev/candor/specgen"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// ensureTimeout is what starting candord may take away from a container's
// start. The hook asks candord once more, and decides.
const ensureTimeout = 5 * time.Second

// Kind says whose fault an error is.
type Kind int

// The kinds of an [Error].
const (
	// Invalid: the request or the spec cannot be understood.
	Invalid Kind = iota + 1
	// Precondition: something of candor's is missing or broken on this node.
	Precondition
	// Denied: the policy does not grant what is asked for.
	Denied
)

// Error is why a container is not created.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Container is a container that is about to be created.
type Container struct {
	// ID is its id, for the journal.
	ID string
	// Bundle is the path of its bundle.
	Bundle string
	// Component is the front door's name in the journal.
	Component string
	// ConfigPath is the policy's path, as [ConfigPath] chose it.
	ConfigPath string
	// Caller says who asks, by what the front door knows; the annotations may
	// only narrow it down (decided by [Caller] for containerd).
	Caller func(annotations map[string]string) string
	// TimeNamespace asks whether the runtime has time namespaces. It is only
	// called when one would be made, with the state directory as a place to
	// keep the answer.
	TimeNamespace func(ctx context.Context, stateDir string) bool
	// Restore is set when the container comes out of a checkpoint.
	Restore bool
}

// Prepared is what was found and done for a container.
type Prepared struct {
	// Spec is the container's spec as the engine wrote it.
	Spec *specgen.Spec
	// StateDir is the policy's state directory; "" when there was no reading
	// the policy, and no need to.
	StateDir string
	Changes  specgen.Changes
	// Warnings are what an operator should know of, one line each.
	Warnings []string
}

// ConfigPath returns the path of the policy: what the runtime's options or the
// command line say, else CANDOR_CONFIG in the environment, else the default.
func ConfigPath(option string) string {
	if option != "" {
		return option
	}
	if env := os.Getenv("CANDOR_CONFIG"); env != "" {
		return env
	}
	return policy.DefaultPath
}

// Run reads the container's spec and the node's policy, and puts candor's hooks
// into the spec where they are wanted. All its errors are of type [*Error].
func (c Container) Run(ctx context.Context) (Prepared, error) {
	done, err := c.run(ctx)
	if err != nil {
		c.record(done, err)
	}
	return done, err
}

// record writes a refusal to the journal: whoever asked is told by the engine,
// and the node's operator looks here.
func (c Container) record(done Prepared, err error) {
	stateDir := cmp.Or(done.StateDir, policy.DefaultStateDir)
	caller := ""
	if done.Spec != nil {
		caller = c.Caller(done.Spec.Annotations)
	}
	// A journal or a count that cannot be written is no reason for another error.
	_ = statedir.InHostMounts(func() error {
		log := journal.New(stateDir, c.Component)
		log.Error(journal.OneLine(err), "container", c.ID, "caller", caller, "bundle", c.Bundle)
		// Without a state directory nobody counts yet.
		if err := lifecycle.CountFailure(stateDir, counters.Attach, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("a failure is missing in the metrics", "error", err)
		}
		return nil
	})
}

func (c Container) run(ctx context.Context) (Prepared, error) {
	config, err := bundle.Read(c.Bundle)
	if err != nil {
		return Prepared{}, &Error{Invalid, err}
	}
	spec, err := specgen.Parse(config.Spec)
	if err != nil {
		return Prepared{}, &Error{Invalid, err}
	}
	done := Prepared{Spec: spec}
	req, err := request.Parse(spec.Annotations)
	if err != nil {
		return done, &Error{Invalid, err}
	}
	p, err := loadPolicy(c.ConfigPath)
	if err != nil {
		if !req.Empty() {
			return done, &Error{Precondition, policy.Unusable(c.Caller(spec.Annotations), req, err)}
		}
		// A container that asks for nothing is not held up by a policy that
		// an administrator is in the middle of editing.
		done.Warnings = append(done.Warnings, "container runs without candor: "+err.Error())
		return done, nil
	}
	done.StateDir = p.StateDir
	caller := c.Caller(spec.Annotations)
	if err := grant(p, caller, spec, req); err != nil {
		return done, &Error{Denied, err}
	}
	options, hooksErr := c.options(ctx, p, caller, req)
	patched, changes, err := spec.Patch(options)
	if err != nil {
		return done, &Error{Invalid, err}
	}
	done.Changes = changes
	if req.ResourceView == request.On && changes.NoView != "" {
		done.Warnings = append(done.Warnings, request.KeyResourceView+"=on: left out: "+changes.NoView)
	}
	if len(changes.Hooks) > 0 && hooksErr != nil {
		return done, &Error{Precondition, hooksErr}
	}
	if changes.View {
		if err := ensure(ctx, c.ConfigPath, options); err != nil {
			done.Warnings = append(done.Warnings, "candord could not be started: "+err.Error())
		}
	}
	if changes.Any() {
		if err := config.Replace(patched); err != nil {
			return done, &Error{Precondition, err}
		}
	}
	return done, nil
}

func loadPolicy(path string) (*policy.Policy, error) {
	// The hooks are handed the path, and run in another directory.
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the config's path %q is not absolute", path)
	}
	return policy.Load(path)
}

// grant asks the policy early, for the sake of a clear error. The hook asks it
// again, and what the hook is told counts.
func grant(p *policy.Policy, caller string, spec *specgen.Spec, req request.Request) error {
	if spec.PodMember() {
		return nil // the pod's network is the sandbox's
	}
	for _, n := range req.NICs {
		if _, err := p.GrantNIC(caller, n); err != nil {
			return err
		}
	}
	if req.EgressLimit != 0 {
		if err := p.GrantLimit(caller, req.EgressLimit); err != nil {
			return &lifecycle.LimitError{Err: err}
		}
	}
	return nil
}

// options fills in what a patch needs of the node. That there are no hooks is
// told apart, since not every container needs one.
func (c Container) options(ctx context.Context, p *policy.Policy, caller string, req request.Request) (specgen.Options, error) {
	dir, hooksErr := HookDir(p)
	o := specgen.Options{
		HookDir: dir, StateDir: p.StateDir, Caller: caller,
		ResourceView: p.ResourceView.Enabled, Restore: c.Restore, Wait: p.WaitFor(req),
	}
	if c.ConfigPath != policy.DefaultPath {
		o.ConfigPath = c.ConfigPath
	}
	view := req.ResourceView == request.On || req.ResourceView == request.Default && o.ResourceView
	if view && hooksErr == nil && !c.Restore && c.TimeNamespace != nil {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err == nil {
			o.Uptime = time.Duration(now.Nano())
			o.TimeNamespace = c.TimeNamespace(ctx, p.StateDir)
		}
	}
	return o, hooksErr
}

// ensure has candord running. Its failure is not the container's: the hook
// finds out, and resource_view.required decides there.
func ensure(ctx context.Context, configPath string, o specgen.Options) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	err := daemon.Ensure(ctx, daemon.Options{BinDir: o.HookDir, ConfigPath: configPath, StateDir: o.StateDir})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not within %s", ensureTimeout)
	}
	return err
}
