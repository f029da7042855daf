// Package manager is the part of the shim that containerd calls as a command:
// to start a shim's process, to clean up after one that died, and to ask what
// the runtime can do. It is containerd's own manager for runc with the runtime
// options translated on their way in.
package manager

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"candor.dev/candor/request"
	"candor.dev/candor/shim/options"
	"candor.dev/candor/version"
	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/core/runtime" // registers the features' type
	"github.com/containerd/containerd/v2/pkg/shim"
	containerd "github.com/containerd/containerd/v2/version"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Runtime is the name under which containerd knows the shim.
const Runtime = "io.containerd.candor.v1"

// versionAnnotation says in the runtime's info which candor it is.
const versionAnnotation = request.Prefix + "version"

// Manager is runc's manager under another name.
type Manager struct {
	shim.Shim
}

// New returns the manager of candor's shim.
func New() Manager { return Manager{manager.NewShimManager(Runtime)} }

// Start starts the shim's process, or finds that of the pod.
func (m Manager) Start(ctx context.Context, params *bootapi.BootstrapParams) (*bootapi.BootstrapResult, error) {
	// runc's manager looks for runc's own options, because of ShimCgroup.
	for _, extension := range slices.Clone(params.GetExtensions()) {
		message := extension.GetValue()
		if !typeurl.Is(message, (*genericOptions)(nil)) {
			continue
		}
		o, err := options.Read(message)
		if err != nil {
			return nil, fmt.Errorf("candor: %w", err)
		}
		if o.Runc == nil {
			continue
		}
		if err := params.AddExtension(o.Runc); err != nil {
			return nil, fmt.Errorf("candor: runtime options: %w", err)
		}
	}
	return m.Shim.Start(ctx, params)
}

// Info says what the runtime can do: what runc can, with candor's version
// beside it, and candor's annotations among those that an engine should not
// take from untrusted hands.
func (m Manager) Info(ctx context.Context, stdin io.Reader) (*types.RuntimeInfo, error) {
	in, err := translate(stdin)
	if err != nil {
		return nil, fmt.Errorf("candor: %w", err)
	}
	info, err := m.Shim.Info(ctx, bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	if info.Annotations == nil {
		info.Annotations = map[string]string{}
	}
	info.Annotations[versionAnnotation] = version.String()
	if info.Features == nil {
		return info, nil
	}
	var f features.Features
	if err := typeurl.UnmarshalTo(info.Features, &f); err != nil {
		return nil, fmt.Errorf("runtime features: %w", err)
	}
	f.PotentiallyUnsafeConfigAnnotations = append(f.PotentiallyUnsafeConfigAnnotations, request.Prefix)
	if info.Features, err = typeurl.MarshalAnyToProto(&f); err != nil {
		return nil, fmt.Errorf("runtime features: %w", err)
	}
	return info, nil
}

// translate reads an options message and returns it as runc's.
func translate(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxStdin))
	if err != nil || len(b) == 0 {
		return nil, err
	}
	var message anypb.Any
	if err := proto.Unmarshal(b, &message); err != nil {
		return nil, fmt.Errorf("runtime options: %w", err)
	}
	o, err := options.Read(&message)
	if err != nil {
		return nil, err
	}
	out, err := o.Message()
	if err != nil || out == nil {
		return nil, err
	}
	return proto.Marshal(out)
}

// PrintVersion answers the version flags, which containerd's own code would
// answer with containerd's version alone. It reports whether it did.
func PrintVersion(args []string, stdout io.Writer) bool {
	if len(args) != 1 || !slices.Contains([]string{"-v", "--v", "-version", "--version"}, args[0]) {
		return false
	}
	fmt.Fprintf(stdout, "containerd-shim-candor-v1 %s (containerd %s, %s)\n", version.String(), containerd.Version, containerd.GoVersion)
	return true
}
