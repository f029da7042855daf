// Command candord is the node's daemon: it serves the resource view and gives
// back what dead containers hold.
package main

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"candor.dev/candor/daemon"
	"candor.dev/candor/journal"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/metrics"
	"candor.dev/candor/policy"
	"candor.dev/candor/resview"
	"candor.dev/candor/resview/render"
)

func main() {
	os.Exit(daemon.Main(os.Args[1:], daemon.Parts{
		DefaultConfig: policy.DefaultPath,
		StateDir:      stateDir,
		Log:           journal.New,
		Worker:        newWorker,
		Metrics:       metrics.Task,
	}, os.Stdout, os.Stderr))
}

func stateDir(configPath string) (string, error) {
	p, err := policy.Load(configPath)
	if err != nil {
		return "", err
	}
	return p.StateDir, nil
}

func newWorker(stateDir, _ string, log *slog.Logger) (resview.OpenFunc, []func(context.Context) error, error) {
	node, err := lifecycle.OpenNode(stateDir, log)
	if err != nil {
		return nil, nil, err
	}
	h := &host{}
	return h.open, []func(context.Context) error{node.Reconcile, h.sample}, nil
}

// host is the machine as the renderers see it. A machine whose cgroups cannot be
// read costs the view's readers an error, not the node its reconciler.
type host struct {
	mu   sync.Mutex
	host *render.Host
}

func (h *host) get() (*render.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host == nil {
		var err error
		if h.host, err = render.NewHost("/"); err != nil {
			return nil, err
		}
	}
	return h.host, nil
}

func (h *host) open(view ledger.View) (resview.Container, error) {
	machine, err := h.get()
	if err != nil {
		return nil, err
	}
	c, err := render.Open(view, machine)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// sample keeps the containers' load averages.
func (h *host) sample(ctx context.Context) error {
	machine, err := h.get()
	if err != nil {
		return err
	}
	// Failures are those of containers that are just ending.
	machine.Run(ctx, nil)
	return ctx.Err()
}
