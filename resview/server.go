package resview

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// BeatInterval is how often a worker shows that it is alive.
	BeatInterval = 50 * time.Millisecond
	// undeadWait is how long a request of a worker that may still be at work
	// on it is left alone.
	undeadWait = 20 * time.Millisecond
	// maxTries is how many workers may die of a request before it is
	// answered with EIO.
	maxTries = 6
	// replayWait is how long the next old request waits for the one before.
	replayWait = 100 * time.Millisecond
	// sweepInterval is how often containers without a record are looked for.
	sweepInterval = 10 * time.Second
)

// ErrDisconnected is returned when the mount is gone: unmounted everywhere, or
// its connection aborted.
var ErrDisconnected = errors.New("resview: connection to the kernel is gone")

// Config describes one worker of a mount.
type Config struct {
	// FD is the connection, an open /dev/fuse that was mounted. Blocking.
	FD int
	// Slots is the memory shared with the supervisor.
	Slots *Slots
	// Generation numbers the workers of a mount, from 1.
	Generation uint64
	// Store tells which containers there are, Open what their files contain.
	Store Store
	Open  OpenFunc
	// Threads is the number of requests in work at a time; 0 means 4 per CPU
	// and at least 8. It is never more than 16.
	Threads int
	Log     *slog.Logger
}

// Server is one worker's side of a mount.
type Server struct {
	config Config
	tree   *tree
	gone   chan struct{}
	once   sync.Once

	// replaying marks the slots whose old request is being answered; late
	// those of this worker that held one when it started.
	replaying [slotCount]atomic.Bool
	late      [slotCount]bool

	reportMu sync.Mutex
	reported map[string]time.Time
}

// NewServer returns a server which does not serve yet.
func NewServer(config Config) *Server {
	if config.Threads <= 0 {
		config.Threads = max(8, 4*runtime.NumCPU())
	}
	config.Threads = min(config.Threads, slotsPerGroup)
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		config:   config,
		tree:     newTree(config.Store, config.Open, config.Threads/2, newKept(config.Slots, config.Generation)),
		gone:     make(chan struct{}),
		reported: map[string]time.Time{},
	}
}

// Containers is the number of containers whose files were looked at.
func (s *Server) Containers() int { return s.tree.size() }

// Serve answers what the last worker left behind, then whatever the kernel
// asks, until the connection is gone: it always returns an error. It does not
// end the threads that wait in read(2): the process has to exit after it.
func (s *Server) Serve() error {
	go s.beat()
	s.config.Slots.setReady(s.config.Generation)
	own := Group(s.config.Generation)
	left := s.config.Slots.pending() // before any slot is used anew
	for i := range s.config.Threads {
		// A slot of ours that still holds a request is served once that is
		// answered.
		if at := own*slotsPerGroup + i; s.config.Slots.slot(at).unique().Load() == 0 {
			go s.loop(s.config.Slots.slot(at))
		} else {
			s.late[at] = true
		}
	}
	s.tree.readLedger() // soon needed: the kernel knows nodes that we do not
	undead := s.config.Slots.undead() &^ (1 << own)
	go s.replayAll(left, undead)
	if undead != 0 {
		go s.scavenge()
	}
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-s.gone:
			return ErrDisconnected
		case <-sweep.C:
			s.tree.sweep()
		}
	}
}

func (s *Server) beat() {
	for {
		s.config.Slots.beat()
		time.Sleep(BeatInterval)
		// To the end of the queue in which threads that come back from a system
		// call wait for Go's scheduler, and timers do not: heartbeats in time have
		// to mean that nobody waits there.
		runtime.Gosched()
	}
}

// Idle shows the supervisor a worker that is alive without serving, on a node
// where the view cannot be mounted. It does not return.
func Idle(slots *Slots, generation uint64) {
	slots.setReady(generation)
	for {
		slots.beat()
		time.Sleep(BeatInterval)
	}
}

// residentBuffer returns a buffer of which every page is in the page table, as
// the kernel wants it when it copies a reply while SIGKILL is pending.
func residentBuffer() []byte {
	b := make([]byte, outHeaderSize+scratchSize)
	for i := range b {
		b[i] = 1
	}
	return b
}

// loop serves one slot.
func (s *Server) loop(sl slot) {
	// A thread per slot: the loop is one blocking system call after the
	// other, and never in Go's poller.
	runtime.LockOSThread()
	sl.thread().Store(uint32(unix.Gettid()))
	scratch := residentBuffer()
	for {
		sl.unique().Store(0)
		sl.tries().Store(0)
		n, err := unix.Read(s.config.FD, sl.request())
		switch {
		case err == nil && n >= inHeaderSize:
			count := sl.private64(privateCount)
			count.Store(count.Load() + 1) // the slot is this thread's alone
			s.answer(sl, scratch, 0)
		case errors.Is(err, unix.ENODEV):
			s.disconnect()
			return
		case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			// ENOENT: the request was aborted before it was copied.
		default:
			s.config.Log.Error("read of the FUSE device", "error", err)
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (s *Server) disconnect() { s.once.Do(func() { close(s.gone) }) }

// answer handles the request in the slot and sends the reply. tries is how many
// workers were at it before.
func (s *Server) answer(sl slot, scratch []byte, tries uint32) {
	req, err := parseRequest(sl.request())
	var r reply
	switch {
	case err != nil:
		r = failure(unix.EIO)
	case tries > maxTries && req.op != opForget && req.op != opBatchForget:
		r = failure(unix.EIO)
	default:
		w := work{alive: func() { sl.progress().Add(1) }, replay: tries > 0}
		r = s.handleSafely(req, scratch[outHeaderSize:], w)
	}
	if r.silent {
		return
	}
	err = s.send(req.unique, r, scratch)
	if errors.Is(err, unix.EINVAL) && r.errno == 0 {
		// Malformed for this kernel: the reader must get something.
		s.config.Log.Error("reply refused by the kernel", "opcode", req.op)
		err = s.send(req.unique, failure(unix.EIO), scratch)
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		// ENOENT: answered before, by a worker that died just after, or
		// given up by its reader.
	case errors.Is(err, unix.ENODEV):
		s.disconnect()
	default:
		s.config.Log.Error("write to the FUSE device", "opcode", req.op, "error", err)
	}
}

// handleSafely turns a panic into EIO: a worker that dies of a request costs
// every reader some milliseconds, and this request six workers.
func (s *Server) handleSafely(req request, buf []byte, w work) (r reply) {
	defer func() {
		if p := recover(); p != nil {
			s.config.Log.Error("panic while answering", "opcode", req.op, "node", req.node, "panic", fmt.Sprint(p))
			r = failure(unix.EIO)
		}
	}()
	return s.handle(req, buf, w)
}

// send writes a reply. fixed lies behind the header in scratch already.
func (s *Server) send(unique uint64, r reply, scratch []byte) error {
	putHeader(scratch, unique, r)
	n := outHeaderSize
	if r.errno == 0 {
		n += len(r.fixed)
	}
	for {
		var err error
		if r.errno == 0 && len(r.data) > 0 {
			_, err = unix.Writev(s.config.FD, [][]byte{scratch[:n], r.data})
		} else {
			_, err = unix.Write(s.config.FD, scratch[:n])
		}
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
}

// replayAll answers what dead workers left, one after the other, those first
// that were tried least: should one of them kill this worker, the others are
// done by then.
func (s *Server) replayAll(left []int, undead uint32) {
	for _, i := range left {
		if undead&(1<<(i/slotsPerGroup)) == 0 {
			s.replayInTime(i)
		}
	}
}

// replayInTime is replay, but one that takes long is not waited for.
func (s *Server) replayInTime(i int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.replay(i, residentBuffer())
		if s.late[i] {
			go s.loop(s.config.Slots.slot(i))
		}
	}()
	select {
	case <-done:
	case <-time.After(replayWait):
	}
}

// replay answers a request that a dead worker left in slot i.
func (s *Server) replay(i int, scratch []byte) {
	if !s.replaying[i].CompareAndSwap(false, true) {
		return // another thread is at it
	}
	defer s.replaying[i].Store(false)
	sl := s.config.Slots.slot(i)
	unique := sl.unique().Load()
	if unique == 0 {
		return
	}
	tries := sl.tries().Add(1)
	s.answer(sl, scratch, tries)
	sl.private64(privateAnswers).Add(1)
	// Compared: a worker that is not dead after all may have the next
	// request in the slot.
	sl.unique().CompareAndSwap(unique, 0)
}

// scavenge answers what workers that are killed but not dead yet leave behind.
// A worker in a frozen cgroup holds its requests for as long as it is frozen.
func (s *Server) scavenge() {
	own := Group(s.config.Generation)
	first, wait := true, undeadWait
	var before Progress
	for {
		time.Sleep(wait)
		wait = BeatInterval
		now := s.config.Slots.Progress()
		for _, i := range s.config.Slots.pending() {
			if i/slotsPerGroup != own && (now[i] == before[i] || first) {
				s.replayInTime(i)
			}
		}
		first, before = false, now
	}
}

// report logs a failed read once a minute per file of a container.
func (s *Server) report(c *container, file string, err error) {
	key := fmt.Sprintf("%d/%s", c.view.ID, file)
	s.reportMu.Lock()
	defer s.reportMu.Unlock()
	if at, ok := s.reported[key]; ok && time.Since(at) < time.Minute {
		return
	}
	if len(s.reported) > 4096 {
		clear(s.reported)
	}
	s.reported[key] = time.Now()
	s.config.Log.Warn("cannot render", "view", c.view.ID, "file", file, "error", err)
}
