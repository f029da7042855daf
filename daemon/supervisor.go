package daemon

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
)

const (
	// readyInterval is how often a worker that starts is looked at.
	readyInterval = 5 * time.Millisecond
	// startTimeout is how long a worker may take until it serves; some
	// milliseconds are usual.
	startTimeout = 5 * time.Second
	// killWait is how long a killed worker is waited for before its successor
	// starts beside it, with other slots.
	killWait = 100 * time.Millisecond
	// mountChecks is the number of checks between two looks at the mount.
	mountChecks = 10
	// trustFailures is the number of workers in a row that may die before
	// they serve, until the executable at our path is not believed any more.
	trustFailures = 3
	// viewRetry is how often a view that could not be mounted is tried again.
	viewRetry = time.Minute
	// maxBackoff bounds the pause before the next worker when one after the
	// other dies before it serves.
	maxBackoff = time.Second
)

// SupervisorConfig describes the candord of one state directory.
type SupervisorConfig struct {
	StateDir string
	// ConfigPath is handed on to the worker.
	ConfigPath string
	// Executable is the path of candord; empty means the running file.
	Executable string
	// OwnCgroup moves candord into a cgroup of its own: it was started by an
	// engine, whose limits and whose end are not meant for it.
	OwnCgroup bool
	// Socket is systemd's; nil makes one.
	Socket *os.File
	// Store is systemd's file-descriptor store; nil where there is none.
	Store *descriptorStore
	Log   *slog.Logger
}

// Supervisor holds what must not die and sees to it that a worker serves.
type Supervisor struct {
	config  SupervisorConfig
	log     *slog.Logger
	store   *ledger.Store
	lock    *os.File
	socket  *os.File
	conn    *connection
	cgroups ownCgroups
	// socketFile is what lies at the socket's path; nil where the socket is
	// systemd's.
	socketFile os.FileInfo
	failures   int // workers in a row that died before they served

	// viewErr is why the view is not served, nil while it is.
	viewErr error

	generation uint64
	// undead are workers that were killed and are not dead yet.
	undead []*worker
	healer healer

	// reloads is where a reload is asked for, reload the one that is on its way.
	reloads chan chan<- error
	reload  *reload
}

// NewSupervisor takes the state directory over, or says which candord has it.
// It is called in pid 1's mount namespace.
func NewSupervisor(config SupervisorConfig) (*Supervisor, error) {
	if err := statedir.Prepare(config.StateDir); err != nil {
		return nil, err
	}
	store, err := ledger.Open(config.StateDir)
	if err != nil {
		return nil, err
	}
	file, err := lock(config.StateDir)
	if errors.Is(err, errTaken) && config.Socket != nil {
		file, err = relieve(config.StateDir, err)
	}
	if err != nil {
		return nil, err
	}
	s := &Supervisor{config: config, log: config.Log, store: store, lock: file, socket: config.Socket, reloads: make(chan chan<- error)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if config.OwnCgroup {
		s.cgroups = enterOwnCgroups(config.StateDir)
	}
	return s, nil
}

// Run serves until it is told to stop.
func (s *Supervisor) Run(stop <-chan Stop) (err error) {
	defer s.lock.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.cgroups.leave())
		}
	}()
	if err := s.takeOver(); err != nil {
		return err
	}
	if control, err := listen(controlPath(s.config.StateDir)); err != nil {
		s.log.Error("nobody can ask for a reload", "error", err)
	} else {
		defer func() { err = errors.Join(err, removeFile(control.Name())) }()
		go s.serveControl(control)
	}
	for {
		w, err := s.spawn()
		if err != nil {
			s.log.Error("cannot start a worker", "error", err)
			s.failures++
			if how, stopped := s.pause(stop); stopped {
				return s.end(nil, how)
			}
			continue
		}
		event, how := s.watch(w, stop)
		for event == prepared {
			w = s.replace(w)
			event, how = s.watch(w, stop)
		}
		if event == stopped {
			return s.end(w, how)
		}
		s.interrupt()
		if err := s.react(w, event); err != nil {
			return err
		}
		if how, stopped := s.pause(stop); stopped {
			return s.end(nil, how)
		}
	}
}

// takeOver adopts a living worker's connection, or the one that systemd has kept,
// or makes a new one.
func (s *Supervisor) takeOver() error {
	defer s.config.Store.closePassed()
	old, err := adopt(s.config.StateDir)
	if err != nil {
		s.log.Error("cannot take over from a worker", "error", err)
	}
	s.undead = old.undead
	for _, w := range s.undead {
		_ = w.kill() // again, or for a reload that was cut short
	}
	if old.worker != nil {
		s.kill(old.worker)
	}
	if old.conn != nil {
		s.log.Info("took over from a worker whose supervisor is dead", "worker", old.worker.process.PID)
		s.conn, s.generation = old.conn, old.worker.generation
		s.keep(s.conn)
	} else if s.conn, err = s.takeStored(); s.conn != nil {
		s.log.Info("took over from systemd what a supervisor and a worker left that are dead")
		s.generation = s.conn.slots.Ready()
		s.keep(s.conn)
	} else {
		if err != nil {
			s.log.Error("cannot use what systemd has kept, mounting anew", "error", err)
		}
		if err := s.connect(); err != nil {
			return err
		}
	}
	if s.socket == nil {
		s.socket = old.socket
	} else if old.socket != nil {
		old.socket.Close()
	}
	if s.config.Socket != nil {
		return nil
	}
	if s.socket == nil {
		if s.socket, err = listen(socketPath(s.config.StateDir)); err != nil {
			return err
		}
	}
	// Without it the file stays, and is a stale one.
	s.socketFile, _ = os.Lstat(socketPath(s.config.StateDir))
	return nil
}

// connect mounts the view anew. A node where that is not possible still has a
// worker, which gives back what dead containers hold.
func (s *Supervisor) connect() error {
	conn, err := connect(s.config.StateDir)
	s.viewErr = err
	if err != nil {
		s.log.Error("cannot serve the resource view", "error", err)
		if conn, err = idleConnection(); err != nil {
			return err
		}
	}
	s.conn, s.generation, s.undead = conn, 0, nil
	s.keep(conn)
	s.healer.again()
	return nil
}

// keep leaves a connection with systemd, and nothing else.
func (s *Supervisor) keep(conn *connection) {
	if err := s.config.Store.keep(conn); err != nil {
		s.log.Error("leave the connection with systemd", "error", err)
	}
}

// kill kills one worker and waits for its death, but not for ever.
func (s *Supervisor) kill(w *worker) {
	if err := w.kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Error("kill worker", "worker", w.process.PID, "error", err)
	}
	if !w.dead(killWait) {
		s.log.Warn("a killed worker does not die, going on without it", "worker", w.process.PID)
		s.undead = append(s.undead, w)
	}
}

// spawn starts the next worker with slots that no living worker uses.
func (s *Supervisor) spawn() (*worker, error) {
	s.generation = s.nextGeneration(nil)
	s.conn.slots.SetUndead(s.undeadGroups())
	st, err := s.state(s.generation)
	if err != nil {
		return nil, err
	}
	// The worker writes itself down, too: we may be dead by then.
	s.write(st)
	w, err := s.startWorker(s.generation, nil)
	if err != nil {
		return nil, err
	}
	st.Worker = w.process
	s.write(st)
	return w, nil
}

// state is what candord.json has to say, but for the worker.
func (s *Supervisor) state(generation uint64) (state, error) {
	self, err := ledger.FindProcess(os.Getpid())
	if err != nil {
		return state{}, err
	}
	st := state{Supervisor: self, Generation: generation, Device: s.conn.device, OwnCgroup: s.config.OwnCgroup}
	for _, w := range s.undead {
		st.Undead = append(st.Undead, undead{Process: w.process, Generation: w.generation})
	}
	return st, nil
}

// write writes candord.json. A worker serves all the same without it; only a
// take-over would not find it.
func (s *Supervisor) write(st state) {
	if err := st.write(s.config.StateDir); err != nil {
		s.log.Error("write candord.json", "error", err)
	}
}

// nextGeneration returns the next one whose slots no undead worker has, nor the
// one that serves beside it, if any. Where there is none left it is that of the
// worker which was killed the longest ago: killed threads never work on a slot
// again, and what they left in it is answered before it is used.
func (s *Supervisor) nextGeneration(serving *worker) uint64 {
	groups := s.undeadGroups()
	if serving != nil {
		groups |= 1 << resview.Group(serving.generation)
	}
	for next := s.generation + 1; next <= s.generation+4; next++ {
		if groups&(1<<resview.Group(next)) == 0 {
			return next
		}
	}
	next := s.generation + 1
	for resview.Group(next) != resview.Group(s.undead[0].generation) {
		next++
	}
	s.undead = s.undead[1:]
	return next
}

// undeadGroups returns the groups of slots that killed workers still have.
func (s *Supervisor) undeadGroups() (groups uint32) {
	s.undead = slices.DeleteFunc(s.undead, func(w *worker) bool { return w.dead(0) })
	for _, w := range s.undead {
		groups |= 1 << resview.Group(w.generation)
	}
	return groups
}

// react brings things back to where the next worker can start.
func (s *Supervisor) react(w *worker, event event) error {
	served := s.conn.slots.Ready() == w.generation
	if served {
		s.failures = 0
	} else {
		s.failures++
	}
	switch event {
	case died:
		s.log.Warn("worker died", "worker", w.process.PID, "end", w.ending(), "served", served)
		if w.exitCode() != exitDisconnected {
			return nil
		}
		s.log.Error("the connection of the resource view was cut: mounting anew")
	case hung:
		s.kill(w)
		return nil
	case unmounted:
		s.log.Error("the resource view is not mounted any more: mounting anew")
		s.kill(w)
	case retry:
		s.kill(w)
	}
	s.conn.close()
	return s.connect()
}

// pause waits before the next worker when several could not serve.
func (s *Supervisor) pause(stop <-chan Stop) (Stop, bool) {
	var wait time.Duration
	if over := s.failures - trustFailures; over > 0 {
		wait = min(10*time.Millisecond<<min(over, 10), maxBackoff)
	}
	if wait == 0 {
		return 0, false
	}
	select {
	case how := <-stop:
		return how, true
	case <-time.After(wait):
		return 0, false
	}
}
