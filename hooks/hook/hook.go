// Package hook is what candor's OCI hooks share: arguments, the state on
// standard input, the container's spec, a deadline, and one line for an error.
//
// A hook needs neither shim nor specgen: Podman's and CRI-O's hooks.d can call
// it as it is. It links no containerd, no urfave/cli, no protobuf: their inits
// would cost each container milliseconds.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/journal"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
	"candor.dev/candor/version"
)

// deadline is what a hook allows itself: with the undo after it, it stays below
// the 10 s after which the runtime would kill it half way. One that waits for NICs
// has as much more as the policy lets it wait, and so has its timeout in the spec.
const deadline = 6 * time.Second

// maxStateBytes bounds the state that is read from standard input.
const maxStateBytes = 1 << 20

// Call is one call of a hook.
type Call struct {
	Node      *lifecycle.Node
	Container lifecycle.Container
	Policy    *policy.Policy
	// Caller is who asks, as the engine's own entry in the hook's arguments
	// says ("containerd:default"); "" is nobody, and is granted nothing.
	Caller string
}

// Hook is one of candor's hooks.
type Hook struct {
	Name    string
	Summary string
	// AfterEnd is set for a hook that runs when the container is gone: no
	// spec is read, and a broken policy does not keep it from its work. What
	// it could not do is told, and left to the reconciler, but is no failure:
	// runc has removed the container by then, would report a delete that
	// failed, and never call again (runc#4363).
	AfterEnd bool
	// Waits is set for a hook that waits for NICs, where the policy says so.
	Waits bool
	// Operation is what counts as failed where Run is not come to; Run counts
	// its own.
	Operation counters.Operation
	Run       func(context.Context, Call) error
}

// Main runs the hook and returns the exit status: 0, 1 when it could not do its
// work, 2 when it was called wrongly. An error is one line on standard error,
// which the runtime shows to the user, and in the journal.
func (h Hook) Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parseOptions(args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "%s: %s\n", h.Name, journal.OneLine(err))
		return 2
	case o.help:
		fmt.Fprintf(stdout, usage, h.Name, h.Summary, policy.DefaultPath)
		return 0
	case o.version:
		fmt.Fprintf(stdout, "%s %s\n", h.Name, version.String())
		return 0
	}
	call, stateDir, err := h.read(o, stdin)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", h.Name, journal.OneLine(err))
		log := journal.New(stateDir, h.Name)
		log.Error(journal.OneLine(err))
		if err := h.count(stateDir, err); err != nil {
			log.Warn("a failure is missing in the metrics", "error", err)
		}
		return 1
	}
	if err := h.run(call, stateDir); err != nil {
		fmt.Fprintf(stderr, "%s: container %s: %s\n", h.Name, call.Container.ID, journal.OneLine(err))
		if !h.AfterEnd {
			return 1
		}
	}
	return 0
}

const usage = `%s: %s

It is an OCI hook: the container's state comes on standard input.

Options:
  --config FILE     the node's policy (default %s)
  --state-dir DIR   state directory, instead of the policy's
  --late            the caller comes back before the start: a limit may wait for
                    a network that is made after create (shim and wrapper do)
  --caller NAME     who asks: containerd:NAMESPACE, kubernetes:NAMESPACE,
                    docker, podman, crio or runc; without it nothing is granted
  --version, --help
`

// read takes in all that the hook works on, before it touches anything. The
// state directory is returned also beside an error, for the journal.
func (h Hook) read(o options, stdin io.Reader) (call Call, stateDir string, err error) {
	p, policyErr := policy.Load(o.config)
	switch stateDir = o.stateDir; {
	case stateDir != "":
	case policyErr == nil:
		stateDir = p.StateDir
	default:
		stateDir = policy.DefaultStateDir
	}
	st, err := readState(stdin)
	if err != nil {
		return Call{}, stateDir, err
	}
	call = Call{Policy: p, Caller: o.caller, Container: lifecycle.Container{ID: st.ID, Bundle: st.Bundle, PID: st.PID, Late: o.late}}
	if !h.AfterEnd {
		if st.PID <= 0 {
			return Call{}, stateDir, fmt.Errorf("container %s: its state has no pid: this hook runs at createRuntime", st.ID)
		}
		if call.Container.Spec, err = lifecycle.ReadSpec(st.Bundle); err != nil {
			return Call{}, stateDir, fmt.Errorf("container %s: %w", st.ID, err)
		}
	}
	if policyErr != nil && (!h.AfterEnd || o.stateDir == "") {
		if req, err := request.Parse(call.Container.Spec.Annotations); err == nil {
			policyErr = policy.Unusable(call.Caller, req, policyErr)
		}
		return Call{}, stateDir, fmt.Errorf("container %s: %w", st.ID, policyErr)
	}
	return call, stateDir, nil
}

// count counts a failure to begin. Without a state directory nobody counts yet.
func (h Hook) count(stateDir string, failure error) error {
	err := statedir.InHostMounts(func() error { return lifecycle.CountFailure(stateDir, h.Operation, failure) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// run does the hook's work where pid 1's mounts are.
func (h Hook) run(call Call, stateDir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), h.deadline(call))
	defer cancel()
	return statedir.InHostMounts(func() (err error) {
		log := journal.New(stateDir, h.Name)
		if call.Node, err = lifecycle.OpenNode(stateDir, log); err != nil {
			return err
		}
		if err := h.Run(ctx, call); err != nil {
			log.Error(journal.OneLine(err), "container", call.Container.ID, "caller", call.Caller, "bundle", call.Container.Bundle)
			return err
		}
		return nil
	})
}

func (h Hook) deadline(call Call) time.Duration {
	if !h.Waits {
		return deadline
	}
	req, err := request.Parse(call.Container.Spec.Annotations)
	if err != nil {
		return deadline // for the work to tell
	}
	return deadline + call.Policy.WaitFor(req)
}

// options are a hook's arguments, read by hand: a flag package costs more than
// the hook does.
type options struct {
	config, stateDir, caller string
	late, help, version      bool
}

func parseOptions(args []string) (options, error) {
	o := options{config: policy.DefaultPath}
	values := map[string]*string{"--config": &o.config, "--state-dir": &o.stateDir, "--caller": &o.caller}
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		switch name {
		case "--help", "-h":
			o.help = true
			continue
		case "--version":
			o.version = true
			continue
		case "--late":
			o.late = true
			continue
		}
		to, ok := values[name]
		if !ok {
			return options{}, fmt.Errorf("unknown argument %q (see --help)", name)
		}
		if !joined {
			if len(args) == 0 {
				return options{}, fmt.Errorf("%s needs a value", name)
			}
			value, args = args[0], args[1:]
		}
		*to = value
	}
	return o, nil
}

// state is what is read of the container's state (runtime-spec, runtime.md).
type state struct {
	ID     string `json:"id"`
	PID    int    `json:"pid"`
	Bundle string `json:"bundle"`
}

func readState(r io.Reader) (state, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxStateBytes+1))
	if err != nil {
		return state{}, fmt.Errorf("read the container's state: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("standard input is not the JSON state of a container: %w", err)
	}
	if err := checkID(s.ID); err != nil {
		return state{}, err
	}
	if !filepath.IsAbs(s.Bundle) {
		return state{}, fmt.Errorf("state of container %s: bundle %q is not an absolute path", s.ID, s.Bundle)
	}
	s.Bundle = filepath.Clean(s.Bundle)
	return s, nil
}

// checkID takes what runc takes as an id (libcontainer/factory_linux.go): it
// becomes part of file names.
func checkID(id string) error {
	if id == "" || len(id) > 200 || id == "." || id == ".." {
		return fmt.Errorf("state has no container id that can be used: %q", id)
	}
	for _, c := range id {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '+', c == '-', c == '.':
		default:
			return fmt.Errorf("container id %q has a character that is not allowed", id)
		}
	}
	return nil
}

// ExitMain is [Hook.Main] for a main function.
func (h Hook) ExitMain() {
	os.Exit(h.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
