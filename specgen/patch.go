package specgen

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/request"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Options say what the node's side of a patch is.
type Options struct {
	// HookDir is the directory of the hook binaries, an absolute path.
	HookDir string
	// ConfigPath is handed to the hooks as --config; "" is their default.
	ConfigPath string
	// StateDir is handed to the hooks as --state-dir; "" leaves it to the
	// config. With it, poststop gives back even under a config that was
	// broken, or moved its state directory, while the container ran.
	StateDir string
	// Caller is handed to the hooks as --caller: who the front door says is
	// asking, such as "containerd:default". The annotations have no say in it.
	Caller string
	// ResourceView is the node's default for containers that do not ask.
	ResourceView bool
	// TimeNamespace says that the runtime and the kernel have time
	// namespaces, so that a container with the view may get one.
	TimeNamespace bool
	// Uptime is the node's boottime clock; 0 means unknown, and no time
	// namespace.
	Uptime time.Duration
	// Wait is how long the policy lets the network hook wait for NICs that are
	// not there yet. Its timeout is longer by that.
	Wait time.Duration
	// Restore says that the container comes out of a checkpoint. Its mounts
	// and clocks are those of the image, so that it gets no view.
	Restore bool
}

// Changes says what a patch did.
type Changes struct {
	// Hooks are the names of the hooks that were added, in their order.
	Hooks []string
	// TimeNamespace reports that a time namespace was added, or the offset of
	// an earlier patch brought up to date.
	TimeNamespace bool
	// View reports that the patched spec makes candor bind the resource view,
	// by this patch or an earlier one.
	View bool
	// NoView is why the view was left out although annotation or node wanted
	// it; "" otherwise.
	NoView string
}

// Any reports whether anything was changed.
func (c Changes) Any() bool { return len(c.Hooks) > 0 || c.TimeNamespace }

// Patch parses a spec and patches it; see [Spec.Patch].
func Patch(spec []byte, o Options) ([]byte, Changes, error) {
	s, err := Parse(spec)
	if err != nil {
		return nil, Changes{}, err
	}
	return s.Patch(o)
}

// Patch returns the spec with what its annotations and the options ask for. The
// slice that was parsed is returned where there is nothing to do, and is never
// written to.
//
// NICs and limits belong to the container, or to the sandbox of a pod; the view
// to each container. A container of a pod with a limit gets the network hook
// too, which then looks at its capabilities only: CAP_NET_ADMIN in any container
// of the pod would undo the limit in all of them.
func (s *Spec) Patch(o Options) ([]byte, Changes, error) {
	req, err := request.Parse(s.Annotations)
	if err != nil {
		return nil, Changes{}, err
	}
	limited := req.EgressLimit != 0 || req.EgressGuarantee != 0 || req.IngressLimit != 0
	network := len(req.NICs) > 0 || limited
	var c Changes
	c.View, c.NoView = s.decideView(req.ResourceView, o)

	var create, stop []string
	if network && (!s.PodMember() || limited) {
		create = append(create, HookNet)
	}
	if c.View {
		create = append(create, HookView)
	}
	if c.View || network && !s.PodMember() {
		stop = append(stop, HookPoststop)
	}
	edits, added, err := s.addHooks(create, stop, o)
	if err != nil {
		return nil, Changes{}, err
	}
	c.Hooks = added
	if c.View {
		more, err := s.addTimeNamespace(o)
		if err != nil {
			return nil, Changes{}, err
		}
		c.TimeNamespace = len(more) > 0
		edits = append(edits, more...)
	}
	if len(edits) == 0 {
		return s.raw, c, nil
	}
	return apply(s.raw, edits), c, nil
}

func (s *Spec) decideView(asked request.Switch, o Options) (bool, string) {
	if asked == request.Off || asked == request.Default && !o.ResourceView {
		return false, ""
	}
	if o.Restore {
		return false, "the container is restored from a checkpoint"
	}
	why := s.NoView()
	return why == "", why
}

// addTimeNamespace returns the edits that make the container's boottime clock
// begin at about 0, so that /proc/uptime, btime in /proc/stat, ps and
// sysinfo(2) agree on the container's age by the kernel's own hand. A container
// whose spec has a time namespace of others keeps it as it is.
func (s *Spec) addTimeNamespace(o Options) ([]edit, error) {
	if !o.TimeNamespace || o.Uptime < time.Second || s.raw.isNull(s.namespacesAt) {
		return nil, nil
	}
	// Rounded towards 0: the kernel refuses an offset that would make the
	// clock negative (ERANGE in timens_offsets, time_namespaces(7)).
	offset := fmt.Appendf(nil, ownOffset, int64(o.Uptime/time.Second))
	path, found := s.namespace(specs.TimeNamespace)
	if found && path == "" && s.ownOffset() {
		// A bundle that is used again: left as it was, its container would
		// be as old as the bundle, and none could start after a reboot.
		if string(s.raw[s.timeOffsets.start:s.timeOffsets.end]) == string(offset) {
			return nil, nil
		}
		return []edit{{at: s.timeOffsets, text: offset}}, nil
	}
	if found || !s.raw.isNull(s.timeOffsets) {
		return nil, nil
	}
	namespace, err := addElements(s.raw, s.namespacesAt, newObject(pair{"type", encode(specs.TimeNamespace)}))
	if err != nil {
		return nil, err
	}
	if s.timeOffsets.end != 0 { // null stands there
		return []edit{namespace, {at: s.timeOffsets, text: offset}}, nil
	}
	return []edit{namespace, addMembers(s.raw, s.linuxAt, s.linux, pair{"timeOffsets", offset})}, nil
}

// ownOffset is how candor writes linux.timeOffsets. The nanoseconds, which
// engines leave out when they are 0, are its mark.
const ownOffset = `{"boottime":{"secs":-%d,"nanosecs":0}}`

// ownOffset reports whether it was candor that wrote linux.timeOffsets.
func (s *Spec) ownOffset() bool {
	if s.raw.isNull(s.timeOffsets) {
		return false
	}
	before, after, _ := strings.Cut(ownOffset, "%d")
	text := string(s.raw[s.timeOffsets.start:s.timeOffsets.end])
	text, begins := strings.CutPrefix(text, before)
	text, ends := strings.CutSuffix(text, after)
	_, err := strconv.ParseUint(text, 10, 63)
	return begins && ends && err == nil
}

// addTop returns the edit that puts a member at the end of the spec.
func (s *Spec) addTop(p pair) edit { return addMembers(s.raw, s.topAt, s.top, p) }
