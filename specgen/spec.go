package specgen

import (
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Annotations by which engines say what a container is to its pod. containerd's
// CRI service sets its own last (internal/cri/annotations), CRI-O does too.
const (
	criContainerType  = "io.kubernetes.cri.container-type"
	crioContainerType = "io.kubernetes.cri-o.ContainerType"
)

// Spec is an OCI spec that was read, and can be patched.
type Spec struct {
	// Annotations are the container's; nil when it has none.
	Annotations map[string]string
	// CgroupsPath is linux.cgroupsPath.
	CgroupsPath string

	raw document
	// The members of the objects that are patched, and their places.
	top, linux, hooks         []member
	topAt, linuxAt, hooksAt   span
	namespacesAt, timeOffsets span

	namespaces  []specs.LinuxNamespace
	maskedPaths []string
	mounts      []specs.Mount
	stages      map[string]stage
}

// stage is one list of hooks.
type stage struct {
	at    span
	hooks []specs.Hook
}

// Parse reads a spec. It refuses one that is larger than [MaxSpec], is not one
// JSON object and nothing else, or has a key twice anywhere.
func Parse(spec []byte) (*Spec, error) {
	d, err := parseDocument(spec)
	if err != nil {
		return nil, err
	}
	s := &Spec{raw: d, stages: map[string]stage{}}
	start := d.skipSpace(0)
	s.topAt = span{start, d.skipValue(start)}
	if s.top, err = d.members(s.topAt, "the spec"); err != nil {
		return nil, err
	}
	for _, field := range []struct {
		key string
		to  any
	}{
		{"annotations", &s.Annotations},
		{"mounts", &s.mounts},
	} {
		if _, err := s.decode(s.top, field.key, field.to); err != nil {
			return nil, err
		}
	}
	if err := s.parseLinux(); err != nil {
		return nil, err
	}
	return s, s.parseHooks()
}

// decode reads the value of a key, if it is there, and returns its place.
func (s *Spec) decode(list []member, key string, to any) (span, error) {
	at, err := find(list, key)
	if err != nil {
		return span{}, err
	}
	return at, s.raw.decode(at, key, to)
}

func (s *Spec) parseLinux() (err error) {
	if s.linuxAt, err = find(s.top, "linux"); err != nil {
		return err
	}
	if s.linux, err = s.raw.members(s.linuxAt, "linux"); err != nil {
		return err
	}
	if s.namespacesAt, err = s.decode(s.linux, "namespaces", &s.namespaces); err != nil {
		return err
	}
	if s.timeOffsets, err = find(s.linux, "timeOffsets"); err != nil {
		return err
	}
	if _, err = s.decode(s.linux, "maskedPaths", &s.maskedPaths); err != nil {
		return err
	}
	_, err = s.decode(s.linux, "cgroupsPath", &s.CgroupsPath)
	return err
}

func (s *Spec) parseHooks() (err error) {
	if s.hooksAt, err = find(s.top, "hooks"); err != nil {
		return err
	}
	if s.hooks, err = s.raw.members(s.hooksAt, "hooks"); err != nil {
		return err
	}
	for _, name := range []string{stagePrestart, stageCreateRuntime, stagePoststop} {
		var hooks []specs.Hook
		at, err := s.decode(s.hooks, name, &hooks)
		if err != nil {
			return err
		}
		s.stages[name] = stage{at: at, hooks: hooks}
	}
	return nil
}

// PodSandbox reports whether this is the container that holds a pod's
// namespaces (the pause container).
func (s *Spec) PodSandbox() bool { return s.podRole() == "sandbox" }

// PodMember reports whether this is a container in a pod whose network belongs
// to the sandbox.
func (s *Spec) PodMember() bool { return s.podRole() == "container" }

// podRole trusts the annotations: whoever forges them gets less, never more.
func (s *Spec) podRole() string {
	if role := s.Annotations[criContainerType]; role != "" {
		return role
	}
	return s.Annotations[crioContainerType]
}

// HasView reports whether the spec makes candor bind the resource view.
func (s *Spec) HasView() bool { return s.has(HookView, stagePrestart, stageCreateRuntime) }

// namespace finds an entry of linux.namespaces.
func (s *Spec) namespace(kind specs.LinuxNamespaceType) (path string, found bool) {
	for _, ns := range s.namespaces {
		if ns.Type == kind {
			return ns.Path, true
		}
	}
	return "", false
}

// NoView says why the view is not bound in this container, "" when it is. It is
// left out where it would break what the container is there for.
func (s *Spec) NoView() string {
	if s.PodSandbox() {
		return "a pod's sandbox runs no program that reads it"
	}
	pid, found := s.namespace(specs.PIDNamespace)
	if !found || hostNamespacePath(pid) {
		return "the container has the host's pid namespace"
	}
	mount, found := s.namespace(specs.MountNamespace)
	if !found || mount != "" {
		return "the container has no mount namespace of its own"
	}
	// In a user namespace the kernel lets a nested engine mount a procfs only
	// where the one that it sees is not covered anywhere (mount_too_revealing
	// in fs/namespace.c). That is why such containers run unmasked.
	if _, found := s.namespace(specs.UserNamespace); found && len(s.maskedPaths) == 0 {
		return "the container has a user namespace and no masked paths: a nested engine could not mount /proc any more"
	}
	if !s.mountsProcfs() {
		return "the container's /proc is not a procfs of its own"
	}
	return ""
}

// hostNamespacePath knows the ways to write "the runtime's own namespace". Any
// other path is taken for that of another container.
func hostNamespacePath(p string) bool {
	for _, prefix := range []string{"/proc/1/ns/", "/proc/self/ns/", "/proc/thread-self/ns/"} {
		if strings.HasPrefix(path.Clean(p), prefix) {
			return true
		}
	}
	return false
}

// mountsProcfs reports whether /proc is mounted, and each time as a procfs.
func (s *Spec) mountsProcfs() bool {
	found := false
	for _, m := range s.mounts {
		if path.Clean("/"+m.Destination) != "/proc" {
			continue
		}
		if m.Type != "proc" {
			return false
		}
		for _, o := range m.Options {
			if o == "bind" || o == "rbind" {
				return false
			}
		}
		found = true
	}
	return found
}
