// Package lifecycle takes a container its NICs, its limit and its view, and
// gives back what it held: one way in and one way out, for the hooks, the shim,
// the daemon's reconciler and the operator's command alike.
package lifecycle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxConfigBytes bounds the config.json that is read; engines write some 30 kB.
const maxConfigBytes = 8 << 20

// Annotations by which engines say what a container is to its pod, set after
// those of the user: containerd's CRI service (internal/cri/annotations), and
// CRI-O (pkg/annotations).
const (
	criContainerType  = "io.kubernetes.cri.container-type"
	criSandboxID      = "io.kubernetes.cri.sandbox-id"
	crioContainerType = "io.kubernetes.cri-o.ContainerType"
	crioSandboxID     = "io.kubernetes.cri-o.SandboxID"
)

// Container is one container at the moment when a hook runs for it.
type Container struct {
	ID     string
	Bundle string
	// PID is the container's init in the runtime's pid namespace, 0 after
	// its end.
	PID  int
	Spec Spec
	// Late says that the front door calls [Node.Late] before it starts the
	// container. Without it a network that comes after create would stay
	// without its limit.
	Late bool
}

// Spec is what candor reads of a container's config.json.
type Spec struct {
	Annotations map[string]string `json:"annotations"`
	Process     struct {
		Capabilities struct {
			Bounding    []string `json:"bounding"`
			Effective   []string `json:"effective"`
			Inheritable []string `json:"inheritable"`
			Permitted   []string `json:"permitted"`
			Ambient     []string `json:"ambient"`
		} `json:"capabilities"`
	} `json:"process"`
	Root struct {
		Path string `json:"path"`
	} `json:"root"`

	raw []byte // all of it
}

// ReadSpec reads BUNDLE/config.json. It follows no link at the file itself, and
// refuses one that is not a regular file of root's or that others may write:
// what stands in it decides about the host's devices.
func ReadSpec(bundle string) (Spec, error) {
	path := filepath.Join(bundle, "config.json")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	unfit := fmt.Errorf("read spec: %s has to be a regular file that only root may write", path)
	if errors.Is(err, unix.ELOOP) {
		return Spec{}, unfit
	}
	if err != nil {
		return Spec{}, fmt.Errorf("read spec: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Spec{}, fmt.Errorf("read spec: %w", &os.PathError{Op: "fstat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Mode&0o022 != 0 {
		return Spec{}, unfit
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return Spec{}, fmt.Errorf("read spec: %w", err)
	}
	if len(b) > maxConfigBytes {
		return Spec{}, fmt.Errorf("read spec: %s is larger than %d bytes", path, maxConfigBytes)
	}
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return Spec{}, fmt.Errorf("read spec: %s: %w", path, err)
	}
	s.raw = b
	return s, nil
}

// Sandbox returns the id of the pod's sandbox, "" outside pods.
func (s Spec) Sandbox() string {
	return cmp.Or(s.Annotations[criSandboxID], s.Annotations[crioSandboxID])
}

// PodMember reports whether this is a container in a pod whose network belongs
// to the sandbox.
func (s Spec) PodMember() bool {
	return cmp.Or(s.Annotations[criContainerType], s.Annotations[crioContainerType]) == "container"
}

// HasCapability reports whether a process of the container can come to hold the
// capability: the bounding set counts, since root in a container gets all of it
// at exec (capabilities(7)).
func (s Spec) HasCapability(name string) bool {
	c := s.Process.Capabilities
	for _, set := range [][]string{c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient} {
		if slices.Contains(set, name) {
			return true
		}
	}
	return false
}

// Rootfs returns the container's root as its mount namespace names it before
// pivot_root.
func (c Container) Rootfs() (string, error) {
	if c.Spec.Root.Path == "" {
		return "", errors.New("the spec names no root.path")
	}
	if filepath.IsAbs(c.Spec.Root.Path) {
		return filepath.Clean(c.Spec.Root.Path), nil
	}
	return filepath.Join(c.Bundle, c.Spec.Root.Path), nil
}
