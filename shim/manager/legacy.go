package manager

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

type genericOptions = runtimeoptions.Options

// maxStdin is what containerd may write to a shim's standard input, in bytes;
// the same limit as in containerd's pkg/shim.
const maxStdin = 10 << 20

// LegacyStart answers the start call of a containerd before 2.3, which passes
// flags, environment and options, and reads JSON. containerd's own code answers
// every start in the form of 2.3, on which those fail with "unsupported
// protocol" and some binary (containerd#13763; #13764, to answer both, was
// closed). It reports whether it answered. Where it did not, the program goes on
// with [shim.RunShim] and the standard input that is returned.
func LegacyStart(m shim.Shim, args []string, stdin *os.File, stdout io.Writer) (done bool, in *os.File, err error) {
	var id, namespace string
	var p bootapi.BootstrapParams
	var debug bool
	flags := flag.NewFlagSet("shim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&id, "id", "", "")
	flags.StringVar(&namespace, "namespace", "", "")
	address := flags.String("address", "", "")
	binary := flags.String("publish-binary", "", "")
	flags.String("bundle", "", "")
	flags.BoolVar(&debug, "debug", false, "")
	if err := flags.Parse(args); err != nil || flags.Arg(0) != "start" {
		return false, stdin, nil
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxStdin))
	if err != nil {
		return false, nil, fmt.Errorf("read standard input: %w", err)
	}
	// The id and the namespace are compared because the options of an older
	// containerd can be read as parameters too: both messages begin with two
	// strings.
	if len(b) > 0 && proto.Unmarshal(b, &p) == nil && p.InstanceID == id && p.Namespace == namespace {
		in, err := replay(b)
		return false, in, err
	}
	p = bootapi.BootstrapParams{
		InstanceID: id, Namespace: namespace, ContainerdBinary: *binary,
		ContainerdGrpcAddress: *address, ContainerdTtrpcAddress: os.Getenv("TTRPC_ADDRESS"),
	}
	if debug {
		p.LogLevel = bootapi.LogLevel_LOG_LEVEL_DEBUG
	}
	var message anypb.Any
	if len(b) > 0 && proto.Unmarshal(b, &message) == nil && message.GetTypeUrl() != "" {
		if err := p.AddExtension(&message); err != nil {
			return false, nil, fmt.Errorf("runtime options: %w", err)
		}
	}
	result, err := m.Start(namespaces.WithNamespace(context.Background(), namespace), &p)
	if err != nil {
		return false, nil, err
	}
	return true, nil, json.NewEncoder(stdout).Encode(map[string]any{
		"version": result.GetVersion(), "address": result.GetAddress(), "protocol": result.GetProtocol(),
	})
}

// replay returns a pipe on which b stands to be read once more.
func replay(b []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("replay standard input: %w", err)
	}
	go func() {
		// Nobody is left to tell when the reader is gone.
		_, _ = w.Write(b)
		_ = w.Close()
	}()
	return r, nil
}
