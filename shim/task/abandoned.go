package task

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
)

// abandonedInterval is how often a shim looks whether it has been abandoned.
const abandonedInterval = 5 * time.Second

// leaveWhenAbandoned ends the shim when the bundle that it was started for is gone
// and it has no container. A containerd that dies between the start of a shim and
// the record of its address (bootstrap.json) does not know of the shim when it is
// back: it calls the shim's delete command, removes the bundle, and the process
// would stay for ever (core/runtime/v2/shim_load.go). It returns with ctx.
func (s *service) leaveWhenAbandoned(ctx context.Context, bundle string, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := os.Stat(bundle); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// Runc's service does nothing where it still has a container.
		if _, err := s.Shutdown(ctx, &task.ShutdownRequest{}); err != nil {
			log.G(ctx).WithError(err).Warn("candor: the bundle is gone, and the shim cannot leave")
		}
	}
}
