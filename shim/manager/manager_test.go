package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
)

// inner stands in for runc's manager.
type inner struct {
	shim.Shim
	params    *bootapi.BootstrapParams
	namespace string
	stdin     []byte
	err       error
}

func (i *inner) Start(ctx context.Context, p *bootapi.BootstrapParams) (*bootapi.BootstrapResult, error) {
	i.params = p
	i.namespace, _ = namespaces.Namespace(ctx)
	return &bootapi.BootstrapResult{Version: 3, Address: "unix:///s", Protocol: "ttrpc"}, i.err
}

func (i *inner) Info(_ context.Context, r io.Reader) (info *types.RuntimeInfo, err error) {
	if i.stdin, err = io.ReadAll(r); err != nil {
		return nil, err
	}
	f, err := typeurl.MarshalAnyToProto(&features.Features{PotentiallyUnsafeConfigAnnotations: []string{"bundle"}})
	return &types.RuntimeInfo{Name: Runtime, Features: f}, err
}

// stdin returns a pipe that holds b.
func stdin(t *testing.T, b []byte) *os.File {
	t.Helper()
	f, err := replay(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(t *testing.T, v any) []byte {
	t.Helper()
	message, err := typeurl.MarshalAnyToProto(v)
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, message)
}

const call = "-namespace ns -address /c.sock -publish-binary /containerd -id c1 -debug start"

func TestOldContainerdIsAnsweredInJSON(t *testing.T) {
	t.Setenv("TTRPC_ADDRESS", "/c.sock.ttrpc")
	table := &runtimeoptions.Options{ConfigBody: []byte("ShimCgroup = '/s'")}
	for _, c := range []struct {
		name       string
		stdin      []byte
		shimCgroup string
	}{
		{"no options", nil, ""},
		{"runc's options", packed(t, &options.Options{ShimCgroup: "/s"}), "/s"},
		{"a table", packed(t, table), "/s"},
		// Its two first fields can be read as an instance and a namespace.
		{"a path", packed(t, &runtimeoptions.Options{TypeUrl: "c1", ConfigPath: "/nonexistent"}), ""},
		{"parameters for another", marshal(t, &bootapi.BootstrapParams{InstanceID: "c2", Namespace: "ns"}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &inner{}
			var out bytes.Buffer
			done, _, err := LegacyStart(Manager{in}, strings.Fields(call), stdin(t, c.stdin), &out)
			if err != nil || !done {
				t.Fatalf("done %v, error %v", done, err)
			}
			var answer struct {
				Version           int
				Address, Protocol string
			}
			if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.Version != 3 || answer.Address != "unix:///s" || answer.Protocol != "ttrpc" {
				t.Errorf("answer %s, error %v", out.String(), err)
			}
			p := in.params
			if p.InstanceID != "c1" || p.Namespace != "ns" || in.namespace != "ns" || p.ContainerdGrpcAddress != "/c.sock" ||
				p.ContainerdTtrpcAddress != "/c.sock.ttrpc" || p.ContainerdBinary != "/containerd" || p.LogLevel != bootapi.LogLevel_LOG_LEVEL_DEBUG {
				t.Errorf("parameters %v", p)
			}
			var o options.Options
			if _, err := p.FindExtension(&o); err != nil || o.ShimCgroup != c.shimCgroup {
				t.Errorf("options %v, error %v", &o, err)
			}
		})
	}
}

func TestErrorsOfAnOldContainerdsStart(t *testing.T) {
	t.Parallel()
	in := &inner{err: errors.New("no socket")}
	if done, _, err := LegacyStart(Manager{in}, strings.Fields(call), stdin(t, nil), io.Discard); done || !errors.Is(err, in.err) {
		t.Errorf("done %v, error %v", done, err)
	}
	unknown := packed(t, &runtimeoptions.Options{ConfigBody: []byte("x = 1")})
	if done, _, err := LegacyStart(Manager{&inner{}}, strings.Fields(call), stdin(t, unknown), io.Discard); done || err == nil {
		t.Errorf("unknown option: done %v, error %v", done, err)
	}
}

func TestNewContainerdIsLeftToContainerdsCode(t *testing.T) {
	t.Parallel()
	params := marshal(t, &bootapi.BootstrapParams{InstanceID: "c1", Namespace: "ns", ContainerdVersion: "2.3.7"})
	done, again, err := LegacyStart(Manager{&inner{}}, strings.Fields(call), stdin(t, params), io.Discard)
	if err != nil || done {
		t.Fatalf("done %v, error %v", done, err)
	}
	if b, err := io.ReadAll(again); err != nil || !bytes.Equal(b, params) {
		t.Errorf("left to read: %q, error %v", b, err)
	}
	for _, args := range []string{
		"-namespace ns -address /c.sock -id c1 -bundle /b delete", "-namespace ns -id c1 -address /c.sock", "-info", "-v", "",
	} {
		in := stdin(t, params)
		done, same, err := LegacyStart(Manager{&inner{}}, strings.Fields(args), in, io.Discard)
		if err != nil || done || same != in {
			t.Errorf("%q: done %v, error %v", args, done, err)
		}
	}
}

func TestInfoTranslatesOptionsAndNamesCandor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want []byte }{
		"none":    {nil, nil},
		"a table": {packed(t, &runtimeoptions.Options{ConfigBody: []byte("BinaryName = '/r'")}), packed(t, &options.Options{BinaryName: "/r"})},
		"runc's":  {packed(t, &options.Options{BinaryName: "/r"}), packed(t, &options.Options{BinaryName: "/r"})},
		"a path":  {packed(t, &runtimeoptions.Options{ConfigPath: "/nonexistent"}), nil},
	} {
		in := &inner{}
		info, err := Manager{in}.Info(t.Context(), bytes.NewReader(c.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(in.stdin, c.want) {
			t.Errorf("%s: runc's manager read %q, want %q", name, in.stdin, c.want)
		}
		var f features.Features
		if err := typeurl.UnmarshalTo(info.Features, &f); err != nil || !slices.Equal(f.PotentiallyUnsafeConfigAnnotations, []string{"bundle", "candor.dev/"}) {
			t.Errorf("%s: features %+v, error %v", name, f, err)
		}
		if info.Annotations["candor.dev/version"] == "" {
			t.Errorf("%s: no version", name)
		}
	}
	if _, err := (Manager{&inner{}}).Info(t.Context(), strings.NewReader("\xff")); err == nil {
		t.Error("garbage: no error")
	}
}

func TestInfoOfTheRealManager(t *testing.T) {
	t.Parallel()
	runc, err := filepath.Abs("../../bin/tools/runc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(runc); err != nil {
		t.Skip("no runc in bin/tools: make tools")
	}
	in := packed(t, &runtimeoptions.Options{ConfigBody: []byte("BinaryName = '" + runc + "'")})
	info, err := New().Info(t.Context(), bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var f features.Features
	if err := typeurl.UnmarshalTo(info.Features, &f); err != nil || f.Linux == nil || !slices.Contains(f.Linux.Namespaces, "user") {
		t.Errorf("features %+v, error %v", f, err)
	}
	if info.Name != Runtime {
		t.Errorf("name %s", info.Name)
	}
}

func TestPrintVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if !PrintVersion([]string{"-v"}, &out) || !strings.Contains(out.String(), "containerd-shim-candor-v1 ") {
		t.Errorf("printed %q", out.String())
	}
	if PrintVersion([]string{"-info"}, &out) || PrintVersion(nil, &out) {
		t.Error("answered another call")
	}
}
