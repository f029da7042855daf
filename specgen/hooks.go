package specgen

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The names of candor's hook binaries.
const (
	HookNet      = "candor-prestart-net"
	HookView     = "candor-prestart-lxcfs"
	HookPoststop = "candor-poststop"
)

// Hooks lists the binaries that HookDir of the [Options] has to hold.
func Hooks() []string { return []string{HookNet, HookView, HookPoststop} }

// The stages of config.md#posix-platform-hooks that matter here. The hooks are
// never put under createContainer: there runc before 1.5 gives them the
// container's environment and directory (CVE-2025-23266).
const (
	stagePrestart      = "prestart"
	stageCreateRuntime = "createRuntime"
	stagePoststop      = "poststop"
)

// hookTimeout is how long a hook may take that waits for nothing.
const hookTimeout = 10 * time.Second

// hook is specs.Hook with the order of keys that people write.
type hook struct {
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Timeout int      `json:"timeout"` // in seconds
}

// newHook makes the entry of one of candor's hooks. The environment is never
// left out: a hook without one inherits the engine's, secrets and LD_PRELOAD
// with it (runc#4323).
func newHook(name string, o Options) []byte {
	h := hook{
		Path: filepath.Join(o.HookDir, name),
		Env:  []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	timeout := hookTimeout
	if name == HookNet {
		timeout += o.Wait
	}
	h.Timeout = int((timeout + time.Second - 1) / time.Second) // rounded up
	h.Args = []string{h.Path}
	if o.ConfigPath != "" {
		h.Args = append(h.Args, "--config", o.ConfigPath)
	}
	if o.StateDir != "" {
		h.Args = append(h.Args, "--state-dir", o.StateDir)
	}
	if name == HookNet {
		// Whoever patches the spec also comes back before the start.
		h.Args = append(h.Args, "--late")
	}
	h.Args = append(h.Args, "--caller", o.Caller)
	return encode(h)
}

// isOwn reports whether an entry is candor's hook of that name, whoever put it
// there: shim, wrapper and a hooks.d file may all be in use at once. The name
// alone is not enough: the arguments have to be ones that the hook takes.
func isOwn(h specs.Hook, name string) bool {
	if path.Base(h.Path) != name {
		return false
	}
	for i := 1; i < len(h.Args); i++ {
		flag, _, joined := strings.Cut(h.Args[i], "=")
		if flag == "--late" {
			continue
		}
		if flag != "--config" && flag != "--state-dir" && flag != "--caller" {
			return false
		}
		if !joined {
			i++ // the value stands by itself
		}
	}
	return true
}

// has reports whether the hook is in one of these stages already.
func (s *Spec) has(name string, stages ...string) bool {
	for _, stage := range stages {
		if slices.ContainsFunc(s.stages[stage].hooks, func(h specs.Hook) bool { return isOwn(h, name) }) {
			return true
		}
	}
	return false
}

// addHooks returns the edits that put hooks behind those which others have in
// the two stages, and the names of those that were not there before.
func (s *Spec) addHooks(create, stop []string, o Options) (edits []edit, added []string, err error) {
	create = slices.DeleteFunc(create, func(n string) bool { return s.has(n, stagePrestart, stageCreateRuntime) })
	stop = slices.DeleteFunc(stop, func(n string) bool { return s.has(n, stagePoststop) })
	added = slices.Concat(create, stop)
	if len(added) == 0 {
		return nil, nil, nil
	}
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	var missing []pair
	for _, want := range []struct {
		stage string
		names []string
	}{{stageCreateRuntime, create}, {stagePoststop, stop}} {
		if len(want.names) == 0 {
			continue
		}
		var entries [][]byte
		for _, name := range want.names {
			entries = append(entries, newHook(name, o))
		}
		at := s.stages[want.stage].at
		if at.end == 0 {
			missing = append(missing, pair{want.stage, newArray(entries...)})
			continue
		}
		e, err := addElements(s.raw, at, entries...)
		if err != nil {
			return nil, nil, err
		}
		edits = append(edits, e)
	}
	switch {
	case len(missing) == 0:
	case s.hooksAt.end == 0:
		edits = append(edits, s.addTop(pair{"hooks", newObject(missing...)}))
	default:
		edits = append(edits, addMembers(s.raw, s.hooksAt, s.hooks, missing...))
	}
	return edits, added, nil
}

// check refuses options with which a hook could only fail later, and less
// clearly.
func (o Options) check() error {
	if !filepath.IsAbs(o.HookDir) {
		return fmt.Errorf("the hooks' directory %q is not an absolute path", o.HookDir)
	}
	if o.Caller == "" {
		return errors.New("no caller is bound: nothing can be granted")
	}
	return nil
}
