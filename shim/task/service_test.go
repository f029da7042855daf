package task

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Containerd's shim registers what it can by this interface, and by it alone.
var _ shim.TTRPCService = (*service)(nil)

// inner stands in for runc's task service.
type inner struct {
	task.TTRPCTaskService
	options *anypb.Any
	spec    string
	err     error
	panics  bool
	leaves  chan struct{} // one for each Shutdown
}

func (i *inner) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	if i.panics {
		panic("interface conversion")
	}
	b, err := os.ReadFile(filepath.Join(r.Bundle, "config.json"))
	i.options, i.spec = r.Options, string(b)
	return &task.CreateTaskResponse{Pid: 1}, errors.Join(err, i.err)
}

func (i *inner) Start(context.Context, *task.StartRequest) (*task.StartResponse, error) {
	return &task.StartResponse{Pid: 1}, nil
}

func (i *inner) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (i *inner) Delete(context.Context, *task.DeleteRequest) (*task.DeleteResponse, error) {
	return &task.DeleteResponse{}, i.err
}

func (i *inner) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	i.leaves <- struct{}{}
	return &emptypb.Empty{}, i.err
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// newTest makes a bundle with these annotations, and a node on which candor is
// installed.
func newTest(t *testing.T, annotations string) (_ *service, _ *inner, bundle string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a policy has to be root's")
	}
	dir := t.TempDir()
	for _, hook := range []string{"candor-prestart-net", "candor-prestart-lxcfs", "candor-poststop"} {
		write(t, filepath.Join(dir, hook), "", 0o755)
	}
	config := filepath.Join(dir, "config.toml")
	write(t, config, "bin_dir = '"+dir+"'\nstate_dir = '/run/candor-unit-test'\n[pools.p]\nkind = 'hostnic'\nmacs = ['*']\nallow = ['containerd:ns']\n", 0o644)
	t.Setenv("CANDOR_CONFIG", config)
	bundle = filepath.Join(dir, "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bundle, "config.json"), `{"annotations":{"candor.dev/resource-view":"off"`+annotations+`},"linux":{"cgroupsPath":"/x"}}`, 0o600)
	in := &inner{}
	return newService(in), in, bundle
}

func inNamespace(t *testing.T) context.Context {
	return namespaces.WithNamespace(t.Context(), "ns")
}

const nic = `,"candor.dev/nic":"pool=p,mac=52:54:00:00:00:01"`

func TestCreatePatchesAndTranslates(t *testing.T) {
	s, in, bundle := newTest(t, nic)
	message, err := typeurl.MarshalAnyToProto(&runtimeoptions.Options{ConfigBody: []byte("Root = '/r'")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(inNamespace(t), &task.CreateTaskRequest{ID: "c1", Bundle: bundle, Options: message}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(in.spec, `"--caller","containerd:ns"`) || !strings.Contains(in.spec, "candor-poststop") {
		t.Errorf("runc got the spec %s", in.spec)
	}
	var o options.Options
	if err := typeurl.UnmarshalTo(in.options, &o); err != nil || o.Root != "/r" {
		t.Errorf("runc got the options %v, error %v", in.options, err)
	}
	if _, found := s.find("c1"); !found {
		t.Error("the container was not remembered")
	}
	if _, err := s.Delete(inNamespace(t), &task.DeleteRequest{ID: "c1", ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	if _, found := s.find("c1"); !found {
		t.Error("the container was forgotten with an exec")
	}
	if _, err := s.Delete(inNamespace(t), &task.DeleteRequest{ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	if _, found := s.find("c1"); found {
		t.Error("the container was not forgotten")
	}
}

func TestCreateWithoutOptionsPassesNone(t *testing.T) {
	s, in, bundle := newTest(t, "")
	before, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(inNamespace(t), &task.CreateTaskRequest{ID: "c1", Bundle: bundle}); err != nil {
		t.Fatal(err)
	}
	if in.options != nil || in.spec != string(before) {
		t.Errorf("options %v, spec %s", in.options, in.spec)
	}
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	foreign, err := anypb.New(&emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	foreign.Value = []byte{8, 1}
	for _, c := range []struct {
		name, annotations string
		change            func(r *task.CreateTaskRequest, in *inner)
		code              codes.Code
		want              string
	}{
		{name: "grammar", annotations: `,"candor.dev/nicc":"x"`, code: codes.InvalidArgument, want: "candor.dev/nic"},
		{name: "pool", annotations: strings.Replace(nic, "pool=p", "pool=q", 1), code: codes.PermissionDenied, want: "containerd:ns"},
		{name: "options", change: func(r *task.CreateTaskRequest, _ *inner) { r.Options = foreign }, code: codes.InvalidArgument, want: "google.protobuf.Empty"},
		{name: "panic", change: func(_ *task.CreateTaskRequest, in *inner) { in.panics = true }, code: codes.Internal, want: "panic in create: interface conversion"},
		{name: "no bundle", change: func(r *task.CreateTaskRequest, _ *inner) { r.Bundle = "/nonexistent" }, code: codes.InvalidArgument, want: "/nonexistent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, in, bundle := newTest(t, c.annotations)
			r := &task.CreateTaskRequest{ID: "c1", Bundle: bundle}
			if c.change != nil {
				c.change(r, in)
			}
			_, err := s.Create(inNamespace(t), r)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
			if _, found := s.find("c1"); found {
				t.Error("a container that was not created is remembered")
			}
		})
	}
}

func TestFailedCreateIsForgotten(t *testing.T) {
	s, in, bundle := newTest(t, nic)
	in.err = errors.New("runc create failed")
	if _, err := s.Create(inNamespace(t), &task.CreateTaskRequest{ID: "c1", Bundle: bundle}); !errors.Is(err, in.err) {
		t.Errorf("error %v", err)
	}
	if _, found := s.find("c1"); found {
		t.Error("the container is remembered")
	}
}

func TestCheckpointIsRefusedWithTheView(t *testing.T) {
	t.Parallel()
	s := newService(&inner{})
	s.remember("with", container{view: true})
	s.remember("without", container{})
	_, err := s.Checkpoint(t.Context(), &task.CheckpointTaskRequest{ID: "with"})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "resource-view=off") {
		t.Errorf("error %v", err)
	}
	if _, err := s.Checkpoint(t.Context(), &task.CheckpointTaskRequest{ID: "without"}); err != nil {
		t.Error(err)
	}
}

func TestStartLooksForALateNetwork(t *testing.T) {
	s, _, bundle := newTest(t, "")
	s.remember("gone", container{bundle: bundle + "/gone", stateDir: "/run/candor-unit-test"})
	s.remember("holds nothing", container{bundle: bundle, stateDir: "/run/candor-unit-test"})
	if _, err := s.Start(inNamespace(t), &task.StartRequest{ID: "gone"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("error %v", err)
	}
	for _, r := range []*task.StartRequest{{ID: "holds nothing"}, {ID: "gone", ExecID: "e"}, {ID: "unknown"}} {
		if _, err := s.Start(inNamespace(t), r); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestLeavesWhenTheBundleIsGone(t *testing.T) {
	t.Parallel()
	bundle := filepath.Join(t.TempDir(), "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	// Refused the first time, as where a container is left: it is asked again.
	in := &inner{leaves: make(chan struct{}), err: errors.New("refused")}
	go newService(in).leaveWhenAbandoned(t.Context(), bundle, time.Millisecond)
	select {
	case <-in.leaves:
		t.Fatal("leaves with its bundle there")
	case <-time.After(50 * time.Millisecond):
	}
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case <-in.leaves:
		case <-time.After(10 * time.Second):
			t.Fatal("stays")
		}
	}
}
