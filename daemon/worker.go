package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/version"
	"golang.org/x/sys/unix"
)

const (
	// exitDisconnected is the exit status of a worker whose mount is gone.
	exitDisconnected = 75
	// orphanInterval is how often a worker looks whether anybody needs it.
	orphanInterval = 10 * time.Second
	// retryInterval is the pause before a background task that returned runs
	// again.
	retryInterval = 2 * time.Second
)

// WorkerConfig describes a worker. Its descriptors have fixed numbers.
type WorkerConfig struct {
	StateDir   string
	Generation uint64
	// Supervisor is the pid of the process that started the worker.
	Supervisor int
	// Device is that of the mounted view.
	Device uint64
	// ViewError is why there is no view to serve; empty where there is one.
	ViewError string
	// Standby is set for a worker that is to take another one's place.
	Standby bool
	Open    resview.OpenFunc
	// Background are tasks that run beside the view, such as giving back what
	// dead containers hold. One that returns is started again.
	Background []func(ctx context.Context) error
	// Metrics is such a task, too, but begins only when the view is served:
	// after a kill -9 it is the view that readers wait for. It may ask what the
	// worker says of itself. nil is none.
	Metrics func(ctx context.Context, status func() Status) error
	Log     *slog.Logger
}

// RunWorker serves until the mount is gone. The process has to exit after it.
func RunWorker(ctx context.Context, config WorkerConfig) error {
	for _, fd := range []int{workerFuse, workerSlots, workerSocket, workerLockFD} {
		unix.CloseOnExec(fd)
	}
	w, err := openWorker(config)
	if err != nil {
		if config.Standby {
			refuse(err)
		}
		return err
	}
	if config.Standby {
		if err := standBy(config); err != nil {
			return err
		}
	} else if err := writeSelf(config.StateDir, config.Supervisor, config.Generation, config.Device); errors.Is(err, errStray) {
		return err
	} else if err != nil {
		config.Log.Error("write candord.json", "error", err)
	}
	w.started = time.Now()
	go serveStatus(workerSocket, w.status)
	go w.watchOrphanage()
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	go w.endWhenOrphaned(terms)
	for _, task := range config.Background {
		go w.keepRunning(ctx, task)
	}
	if config.Metrics != nil {
		go w.serveMetrics(ctx)
	}
	if config.ViewError != "" {
		resview.Idle(w.slots, config.Generation)
	}
	return w.server.Serve()
}

type workerProcess struct {
	config  WorkerConfig
	slots   *resview.Slots
	store   *ledger.Store
	server  *resview.Server
	started time.Time
}

// openWorker opens what a worker needs, and touches nothing that another uses.
func openWorker(config WorkerConfig) (*workerProcess, error) {
	slots, err := resview.OpenSlots(workerSlots)
	if err != nil {
		return nil, err
	}
	store, err := ledger.Open(config.StateDir)
	if err != nil {
		return nil, err
	}
	server := resview.NewServer(resview.Config{
		FD:         workerFuse,
		Slots:      slots,
		Generation: config.Generation,
		Store:      store,
		Open:       config.Open,
		Log:        config.Log,
	})
	return &workerProcess{config: config, slots: slots, store: store, server: server}, nil
}

// supervised reports whether the supervisor that started this worker lives: a
// child of a dead process becomes another's.
func (w *workerProcess) supervised() bool { return os.Getppid() == w.config.Supervisor }

func (w *workerProcess) status() Status {
	st := Status{
		Version:         version.String(),
		PID:             w.config.Supervisor,
		SupervisorAlive: w.supervised(),
		WorkerPID:       os.Getpid(),
		Generation:      w.config.Generation,
		Containers:      w.server.Containers(),
		Started:         w.started.UTC(),
		ViewError:       w.config.ViewError,
	}
	st.Requests, st.Replayed = w.slots.Requests()
	if st.ViewError == "" {
		err := checkMounted(w.config.StateDir, w.config.Device)
		st.FuseMounted = err == nil
	}
	return st
}

func (w *workerProcess) serveMetrics(ctx context.Context) {
	for w.slots.Ready() != w.config.Generation {
		time.Sleep(readyInterval)
	}
	w.keepRunning(ctx, func(ctx context.Context) error { return w.config.Metrics(ctx, w.status) })
}

// watchOrphanage ends a worker that no supervisor watches once the ledger is
// empty: nobody is left who needs it, and nobody else would end it.
func (w *workerProcess) watchOrphanage() {
	for {
		time.Sleep(orphanInterval)
		if w.supervised() {
			continue
		}
		if w.stray() {
			w.config.Log.Warn("another candord serves: ending")
			os.Exit(0)
		}
		if w.needed() {
			continue
		}
		// No candord may begin meanwhile: the view would be its own.
		held, err := lock(w.config.StateDir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if held != nil && w.needed() {
			held.Close()
			continue
		}
		w.config.Log.Info("no supervisor and no container left: ending")
		if checkMounted(w.config.StateDir, w.config.Device) == nil {
			if err := resview.Unmount(w.config.StateDir); err != nil {
				w.config.Log.Error("unmount the resource view", "error", err)
			}
		}
		os.Exit(0)
	}
}

// needed reports whether a container may have the view. None has it that knew of
// the state directory, if that is gone.
func (w *workerProcess) needed() bool {
	records, err := w.store.List()
	return !errors.Is(err, os.ErrNotExist) && (err != nil || len(records) > 0)
}

// stray reports whether a candord serves that does not know of this worker. It
// has given the containers another view.
func (w *workerProcess) stray() bool {
	st, err := readState(w.config.StateDir)
	return err == nil && st.Worker.PID != 0 && st.Worker.PID != os.Getpid() && st.Supervisor.Alive() && st.Worker.Alive()
}

// endWhenOrphaned ends a worker on SIGTERM if it has no supervisor. When the
// machine goes down systemd sends it to every process that is left, and would
// wait 90 s for one that does not care.
func (w *workerProcess) endWhenOrphaned(terms <-chan os.Signal) {
	for range terms {
		if !w.supervised() {
			w.config.Log.Info("told to end, and no supervisor is left: ending")
			os.Exit(0)
		}
	}
}

// keepRunning runs a task again and again. It never ends the worker: that would
// cost all readers something for one bad record.
func (w *workerProcess) keepRunning(ctx context.Context, task func(context.Context) error) {
	last := ""
	for ctx.Err() == nil {
		err := runTask(ctx, task)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			w.config.Log.Error("background task", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

func runTask(ctx context.Context, task func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("panic: %v", p))
		}
	}()
	return task(ctx)
}
