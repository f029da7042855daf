package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/resview/render"
)

// sweepInterval is how often counters without a record are looked for.
const sweepInterval = time.Minute

// host is the machine as the renderers see it. A machine whose cgroups cannot be
// read costs the view's readers an error, not the node its reconciler.
type host struct {
	records  *ledger.Store
	counters string // the directory of what is counted of containers
	log      *slog.Logger

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
		if err := h.host.KeepCounters(h.counters); err != nil {
			h.log.Warn("counters begin anew when this process dies", "error", err)
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
	last := ""
	machine.Run(ctx, func(err error) {
		// Other failures are those of containers that are just ending.
		if errors.Is(err, render.ErrCounters) && err.Error() != last {
			last = err.Error()
			h.log.Warn("sample the containers", "error", err)
		}
	})
	return ctx.Err()
}

// sweep removes the counters of containers that are gone.
func (h *host) sweep(ctx context.Context) error {
	machine, err := h.get()
	if err != nil {
		return err
	}
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if err := machine.SweepCounters(h.alive); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// alive are the containers that have a record, by the id of their view.
func (h *host) alive() (map[uint64]bool, error) {
	records, err := h.records.List()
	if err != nil {
		return nil, err // an unreadable record may be the one
	}
	ids := map[uint64]bool{}
	for _, r := range records {
		if r.View != nil {
			ids[r.View.ID] = true
		}
	}
	return ids, nil
}
