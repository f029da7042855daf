// Command candord is the node's daemon: it serves the resource view and gives
// back what dead containers hold.
package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"candor.dev/candor/daemon"
	"candor.dev/candor/journal"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/metrics"
	"candor.dev/candor/policy"
	"candor.dev/candor/resview"
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
	records, err := ledger.Open(stateDir)
	if err != nil {
		return nil, nil, err
	}
	h := &host{records: records, counters: filepath.Join(stateDir, "view-counts"), log: log}
	return h.open, []func(context.Context) error{node.Reconcile, h.sample, h.sweep}, nil
}
