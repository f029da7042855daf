package options

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func pack(t *testing.T, v any) *anypb.Any {
	t.Helper()
	message, err := typeurl.MarshalAnyToProto(v)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	t.Parallel()
	const body = "BinaryName = '/opt/runc'\nRoot = '/r'\nSystemdCgroup = true\nIoUid = 7\nShimCgroup = '/s'\nNoPivotRoot = false\nCriuPath = ''\n"
	fromBody := &options.Options{BinaryName: "/opt/runc", Root: "/r", SystemdCgroup: true, IoUid: 7, ShimCgroup: "/s"}
	policy := file(t, "state_dir = '/run/candor'\n[pools.fast]\nkind = 'vf'\n")
	table := file(t, "root = '/r2'\nConfigPath = '/etc/candor/b.toml'\n")
	broken := file(t, "[[[")
	for _, c := range []struct {
		name       string
		message    *anypb.Any
		runc       *options.Options
		configPath string
	}{
		{name: "none"},
		{name: "empty", message: pack(t, &options.Options{})},
		{name: "empty generic", message: pack(t, &runtimeoptions.Options{})},
		{name: "runc's", message: pack(t, fromBody), runc: fromBody},
		{name: "table", message: pack(t, &runtimeoptions.Options{ConfigBody: []byte(body)}), runc: fromBody},
		{
			name: "table with candor's config", message: pack(t, &runtimeoptions.Options{ConfigBody: []byte("configpath = '/c.toml'")}),
			runc: &options.Options{}, configPath: "/c.toml",
		},
		{name: "path of candor's config", message: pack(t, &runtimeoptions.Options{ConfigPath: policy}), configPath: policy},
		{name: "path of a broken config", message: pack(t, &runtimeoptions.Options{ConfigPath: broken}), configPath: broken},
		{name: "path of nothing", message: pack(t, &runtimeoptions.Options{ConfigPath: "/nonexistent/c.toml"}), configPath: "/nonexistent/c.toml"},
		{
			name: "path of options", message: pack(t, &runtimeoptions.Options{TypeUrl: "x", ConfigPath: table}),
			runc: &options.Options{Root: "/r2"}, configPath: "/etc/candor/b.toml",
		},
		{
			name: "table before path", message: pack(t, &runtimeoptions.Options{ConfigPath: policy, ConfigBody: []byte("Root = '/r'")}),
			runc: &options.Options{Root: "/r"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, err := Read(c.message)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(o.Runc, c.runc) || o.ConfigPath != c.configPath {
				t.Errorf("options %v, config %q", o.Runc, o.ConfigPath)
			}
			message, err := o.Message()
			if err != nil || (message == nil) != (c.runc == nil) {
				t.Fatalf("message %v, error %v", message, err)
			}
			again, err := Read(message)
			if err != nil || !proto.Equal(again.Runc, c.runc) && proto.Size(c.runc) > 0 {
				t.Errorf("read again %v, error %v", again.Runc, err)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	generic := func(body string) *anypb.Any {
		return pack(t, &runtimeoptions.Options{ConfigBody: []byte(body)})
	}
	for _, c := range []struct {
		name    string
		message *anypb.Any
		want    string
	}{
		{"another type", pack(t, &types.Mount{Type: "bind"}), "containerd.types.Mount"},
		{"a type that nobody knows", &anypb.Any{TypeUrl: "example.org/x", Value: []byte("x")}, "example.org/x"},
		{"runc's, broken", &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte("\xff")}, "runtime options"},
		{"generic, broken", &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: []byte("\xff")}, "runtime options"},
		{"unknown key", generic("Root = '/r'\nSystemdCgroups = true\n"), `line 2: unknown option "SystemdCgroups"`},
		{"wrong type", generic("SystemdCgroup = 'yes'"), "runtime options"},
		{"number out of range", generic("IoUid = 4294967296"), "runtime options"},
		{"not TOML", generic("x"), "runtime options"},
		{"unknown key in a file", pack(t, &runtimeoptions.Options{ConfigPath: file(t, "Root = '/r'\nx = 1")}), "x.toml: line 2"},
		{"a directory", pack(t, &runtimeoptions.Options{ConfigPath: "/etc"}), "/etc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Read(c.message); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestSystemdManagesWhatHasItsPath(t *testing.T) {
	t.Parallel()
	off, body := &options.Options{Root: "/r"}, []byte("SystemdCgroup = false\nRoot = '/r'")
	for _, c := range []struct {
		name, path string
		message    *anypb.Any
		want       bool
	}{
		{"no options", "system.slice:docker:4711", nil, true},
		{"no options, no slice", ":docker:4711", nil, true},
		{"no options, kubelet's", "kubepods-besteffort-pod1.slice:cri-containerd:4711", nil, true},
		{"no options, a path", "/default/c1", nil, false},
		{"no options, a path with colons", "/a:b:c", nil, false},
		{"no options, no path", "", nil, false},
		{"runc's options say no", "system.slice:docker:4711", pack(t, off), false},
		{"the table says no", "system.slice:docker:4711", pack(t, &runtimeoptions.Options{ConfigBody: body}), false},
		{"the table does not say", "system.slice:docker:4711", pack(t, &runtimeoptions.Options{ConfigBody: []byte("Root = '/r'")}), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, err := Read(c.message)
			if err != nil {
				t.Fatal(err)
			}
			got := o.ForCgroup(c.path)
			if got.Runc.GetSystemdCgroup() != c.want || got.Runc.GetRoot() != o.Runc.GetRoot() {
				t.Errorf("options %v", got.Runc)
			}
			if c.message == nil && !c.want && got.Runc != nil {
				t.Error("no options became some")
			}
		})
	}
}
