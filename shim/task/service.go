// Package task wraps the task service of containerd's runc shim. All of it
// stays what it is, but for the moments in which candor has something to do:
// before a container is created, before it is started, and when it is to be
// checkpointed.
package task

import (
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"sync"
	"time"

	"candor.dev/candor/shim/options"
	"candor.dev/candor/shim/prepare"
	"candor.dev/candor/shim/runcfeatures"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/go-runc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// featuresTimeout is what asking a runtime for its features may take; runc
// takes 15 ms, once per binary.
const featuresTimeout = 3 * time.Second

// service is the task service of one shim, which serves all containers of a pod
// at once.
type service struct {
	task.TTRPCTaskService

	mu         sync.Mutex
	containers map[string]container // by id
}

// container is what the service remembers of a container from its create on.
type container struct {
	bundle   string
	stateDir string
	view     bool
}

func newService(inner task.TTRPCTaskService) *service {
	return &service{TTRPCTaskService: inner, containers: map[string]container{}}
}

// RegisterTTRPC registers this service. Without it the embedded one would
// register itself, and none of our methods would ever be called.
func (s *service) RegisterTTRPC(server *ttrpc.Server) error {
	task.RegisterTTRPCTaskService(server, s)
	return nil
}

// Create prepares the bundle and lets runc's service create the container.
func (s *service) Create(ctx context.Context, r *task.CreateTaskRequest) (_ *task.CreateTaskResponse, err error) {
	defer recoverTo(ctx, "create", &err)
	c, err := s.prepare(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	response, err := s.TTRPCTaskService.Create(ctx, r)
	if err == nil {
		s.remember(r.ID, c)
	}
	return response, err
}

// prepare translates the options of the request in place, and patches the
// container's spec.
func (s *service) prepare(ctx context.Context, r *task.CreateTaskRequest) (container, error) {
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return container{}, err
	}
	opts, err := options.Read(r.Options)
	if err != nil {
		return container{}, &prepare.Error{Kind: prepare.Invalid, Err: err}
	}
	done, err := prepare.Container{
		ID:         r.ID,
		Bundle:     r.Bundle,
		Component:  "shim",
		ConfigPath: prepare.ConfigPath(opts.ConfigPath),
		Caller:     func(annotations map[string]string) string { return prepare.Caller(namespace, annotations) },
		TimeNamespace: func(ctx context.Context, stateDir string) bool {
			return hasTimeNamespace(ctx, stateDir, opts.Binary())
		},
		Restore: r.Checkpoint != "",
	}.Run(ctx)
	if err != nil {
		return container{}, err
	}
	for _, w := range done.Warnings {
		log.G(ctx).WithField("id", r.ID).Warn("candor: " + w)
	}
	if r.Options, err = opts.ForCgroup(done.Spec.CgroupsPath).Message(); err != nil {
		return container{}, &prepare.Error{Kind: prepare.Invalid, Err: err}
	}
	return container{bundle: r.Bundle, stateDir: done.StateDir, view: done.Changes.View}, nil
}

// hasTimeNamespace reports whether runtime and kernel have time namespaces. A
// runtime that cannot say is taken for one that has none.
func hasTimeNamespace(ctx context.Context, stateDir, binary string) bool {
	if !runcfeatures.KernelHasTimeNamespaces() {
		return false
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return false // runc's service is about to say so
	}
	ctx, cancel := context.WithTimeout(ctx, featuresTimeout)
	defer cancel()
	f, err := runcfeatures.Of(ctx, stateDir, path, askFeatures)
	if err != nil {
		log.G(ctx).WithError(err).Warn("candor: containers get no time namespace")
	}
	return f.TimeNamespace
}

// askFeatures goes through go-runc, which waits for its children with the
// shim's reaper: os/exec would lose its own to it.
func askFeatures(ctx context.Context, binary string) (*features.Features, error) {
	return (&runc.Runc{Command: binary}).Features(ctx)
}

// Start shapes a network that came after create, and then starts the container.
func (s *service) Start(ctx context.Context, r *task.StartRequest) (_ *task.StartResponse, err error) {
	defer recoverTo(ctx, "start", &err)
	if c, found := s.find(r.ID); found && r.ExecID == "" && c.stateDir != "" {
		if err := prepare.Late(ctx, "shim", c.stateDir, r.ID, c.bundle); err != nil {
			return nil, toStatus(err)
		}
	}
	return s.TTRPCTaskService.Start(ctx, r)
}

// Checkpoint refuses containers with the resource view: CRIU cannot dump a bind
// of a file system in user space, and says so only after the container was
// frozen for seconds.
func (s *service) Checkpoint(ctx context.Context, r *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	if c, found := s.find(r.ID); found && c.view {
		return nil, status.Errorf(codes.FailedPrecondition,
			"candor: container %s has the resource view and cannot be checkpointed: run it with candor.dev/resource-view=off", r.ID)
	}
	return s.TTRPCTaskService.Checkpoint(ctx, r)
}

// Delete forgets the container.
func (s *service) Delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	response, err := s.TTRPCTaskService.Delete(ctx, r)
	if err == nil && r.ExecID == "" {
		s.forget(r.ID)
	}
	return response, err
}

func (s *service) remember(id string, c container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.containers[id] = c
}

func (s *service) find(id string) (container, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, found := s.containers[id]
	return c, found
}

func (s *service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// recoverTo turns a panic into an error of one request: the shim of a pod holds
// all of the pod's containers, and would take them with it.
func recoverTo(ctx context.Context, request string, err *error) {
	if p := recover(); p != nil {
		log.G(ctx).WithField("stack", string(debug.Stack())).Errorf("candor: panic in %s: %v", request, p)
		*err = status.Error(codes.Internal, fmt.Sprintf("candor: panic in %s: %v", request, p))
	}
}
