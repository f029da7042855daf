package options

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func parseTable(b []byte) (table, error) {
	var t table
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return table{}, fmt.Errorf("line %d: unknown option %q", row, strings.Join(strict.Errors[0].Key(), "."))
	}
	return t, err
}

func (t table) options() Options {
	o := Options{
		ConfigPath: t.ConfigPath,
		Runc: &options.Options{
			NoPivotRoot: t.NoPivotRoot, NoNewKeyring: t.NoNewKeyring, ShimCgroup: t.ShimCgroup,
			IoUid: t.IoUID, IoGid: t.IoGID, BinaryName: t.BinaryName, Root: t.Root,
			CriuImagePath: t.CriuImagePath, CriuWorkPath: t.CriuWorkPath,
		},
	}
	if t.SystemdCgroup != nil {
		o.Runc.SystemdCgroup, o.cgroupSet = *t.SystemdCgroup, true
	}
	return o
}

// ForCgroup returns the options for a container with that linux.cgroupsPath.
// Where nobody said how cgroups are managed and the path has systemd's form
// ("system.slice:docker:4711"), systemd manages them. Docker sends no options
// to a shim that is given by name, and a pod in a wrong cgroup has no metrics
// (spin#180, runwasi#821, gvisor#13301).
func (o Options) ForCgroup(path string) Options {
	if o.cgroupSet || !isSystemdPath(path) {
		return o
	}
	systemd := &options.Options{}
	if o.Runc != nil {
		systemd = proto.Clone(o.Runc).(*options.Options) //nolint:forcetypeassert // Clone keeps the type
	}
	systemd.SystemdCgroup = true
	o.Runc = systemd
	return o
}

// isSystemdPath knows what runc takes for a systemd cgroup: slice:prefix:name.
// The slice may be empty.
func isSystemdPath(path string) bool {
	parts := strings.Split(path, ":")
	return len(parts) == 3 && !strings.Contains(path, "/") && parts[2] != "" &&
		(parts[0] == "" || strings.HasSuffix(parts[0], ".slice"))
}

// Message returns the options as runc's task service takes them, nil when there
// are none.
func (o Options) Message() (*anypb.Any, error) {
	if o.Runc == nil {
		return nil, nil
	}
	message, err := typeurl.MarshalAnyToProto(o.Runc)
	if err != nil {
		return nil, fmt.Errorf("runtime options: %w", err)
	}
	return message, nil
}

// Binary is the runtime's name or path.
func (o Options) Binary() string {
	if name := o.Runc.GetBinaryName(); name != "" {
		return name
	}
	return "runc"
}
