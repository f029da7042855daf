// Package options reads the runtime options that containerd hands to a shim.
//
// The CRI service packs them by the runtime's name: only io.containerd.runc.v2
// gets runc's own message, every other name gets a generic one that carries the
// TOML table of containerd's config (internal/cri/config, GenerateRuntimeOptions).
// runc's task service asserts its own type without a check: the generic message
// would be a panic there, and the end of every container of the pod.
package options

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxFile is the largest options file that is read, in bytes.
const maxFile = 1 << 20

// Options are the runtime options of one container.
type Options struct {
	// Runc are the options of runc's task service; nil when containerd sent
	// none, and runc's defaults hold.
	Runc *options.Options
	// ConfigPath is the path of candor's config; "" when the options do not
	// say.
	ConfigPath string
	// cgroupSet is whether the options say how cgroups are managed.
	cgroupSet bool
}

// table is what may stand in the runtime's options table of containerd's
// config. The keys are those of runc's options, in any case, and one of candor's.
type table struct {
	// ConfigPath is candor's own. containerd takes the key for itself when it
	// stands in the table, and sends nothing else of the table then.
	ConfigPath string

	NoPivotRoot   bool
	NoNewKeyring  bool
	ShimCgroup    string
	IoUID         uint32
	IoGID         uint32
	BinaryName    string
	Root          string
	SystemdCgroup *bool
	CriuImagePath string
	CriuWorkPath  string

	// Those of older containerd and of the generic message: read and left
	// aside, since a config that was copied from runc's has them.
	CriuPath       string
	TypeURL        string
	TaskAPIAddress string
	TaskAPIVersion uint32
}

// Read reads the options message of a request. No message, or an empty one, is
// no options. A message of another type than runc's and the generic one is an
// error, as is a key that is not known: a SystemdCgroup that was mistyped would
// otherwise put every container into the wrong cgroup and say nothing.
func Read(message *anypb.Any) (Options, error) {
	// Only the value counts: options that are all default have an empty one.
	if len(message.GetValue()) == 0 {
		return Options{}, nil
	}
	switch {
	case typeurl.Is(message, (*options.Options)(nil)):
		o := &options.Options{}
		if err := typeurl.UnmarshalTo(message, o); err != nil {
			return Options{}, fmt.Errorf("runtime options: %w", err)
		}
		return Options{Runc: o, cgroupSet: true}, nil
	case typeurl.Is(message, (*runtimeoptions.Options)(nil)):
		o := &runtimeoptions.Options{}
		if err := typeurl.UnmarshalTo(message, o); err != nil {
			return Options{}, fmt.Errorf("runtime options: %w", err)
		}
		return readGeneric(o)
	}
	return Options{}, fmt.Errorf("runtime options are of type %q: it has to be %q or %q",
		message.GetTypeUrl(), "containerd.runc.v1.Options", "runtimeoptions.v1.Options")
}

func readGeneric(o *runtimeoptions.Options) (Options, error) {
	if len(o.GetConfigBody()) > 0 {
		t, err := parseTable(o.GetConfigBody())
		if err != nil {
			return Options{}, fmt.Errorf("runtime options: %w", err)
		}
		return t.options(), nil
	}
	if o.GetConfigPath() != "" {
		return readPath(o.GetConfigPath())
	}
	return Options{}, nil
}

// readPath reads the file that a ConfigPath names. containerd's own meaning is a
// file of runtime options (`ctr run --runtime-config-path`); candor's is its
// config, which people rightly expect of `ConfigPath = "/etc/candor/config.toml"`
// in the options table. The keys tell the two apart, for they have none in
// common. A file that is not there is candor's config, which need not exist.
func readPath(path string) (Options, error) {
	config := Options{ConfigPath: path}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return Options{}, fmt.Errorf("runtime options: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Options{}, fmt.Errorf("runtime options: %w", err)
	}
	if len(b) > maxFile {
		return Options{}, fmt.Errorf("runtime options: %s is larger than %d bytes", path, maxFile)
	}
	var keys map[string]any
	if err := toml.Unmarshal(b, &keys); err != nil {
		return config, nil // the policy's reader says what is wrong, and where
	}
	if !hasRuntimeKey(keys) {
		return config, nil
	}
	t, err := parseTable(b)
	if err != nil {
		return Options{}, fmt.Errorf("runtime options: %s: %w", path, err)
	}
	return t.options(), nil
}

// hasRuntimeKey reports whether a file is one of runtime options.
func hasRuntimeKey(keys map[string]any) bool {
	for key := range keys {
		for _, known := range []string{
			"ConfigPath", "NoPivotRoot", "NoNewKeyring", "ShimCgroup", "IoUid", "IoGid", "BinaryName",
			"Root", "SystemdCgroup", "CriuImagePath", "CriuWorkPath", "CriuPath",
		} {
			if strings.EqualFold(key, known) {
				return true
			}
		}
	}
	return false
}
