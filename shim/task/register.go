package task

import (
	"fmt"
	"os"

	runctask "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// Register makes the wrapped service the task service of this process. It takes
// the place of containerd's own plugin of that id
// (cmd/containerd-shim-runc-v2/task/plugin), which must not be linked beside it.
func Register() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   initService,
	})
}

func initService(ic *plugin.InitContext) (any, error) {
	publisher, err := instance[shim.Publisher](ic, plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	sd, err := instance[shutdown.Service](ic, plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	inner, err := runctask.NewTaskService(ic.Context, publisher, sd)
	if err != nil {
		return nil, err
	}
	// containerd starts a shim in the bundle of the container that it is for.
	bundle, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("bundle of the shim: %w", err)
	}
	s := newService(inner)
	go s.leaveWhenAbandoned(ic.Context, bundle, abandonedInterval)
	return s, nil
}

// instance finds a plugin of the shim that is of type T.
func instance[T any](ic *plugin.InitContext, kind plugin.Type, id string) (T, error) {
	var none T
	p, err := ic.GetByID(kind, id)
	if err != nil {
		return none, err
	}
	typed, ok := p.(T)
	if !ok {
		return none, fmt.Errorf("shim plugin %s is a %T", id, p)
	}
	return typed, nil
}
