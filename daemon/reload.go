package daemon

import (
	"errors"
	"fmt"
	"os"
	"time"

	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// A reload replaces the worker by one of the file that lies at candord's path now.
// That one starts beside the worker that serves, does all that can fail, and waits
// for the word. Until then nothing has happened, whoever dies. Then candord.json
// names it: from here on it is the worker, the other one is killed, and it serves
// (see [standBy] for a supervisor that dies in between).
type reload struct {
	next *worker
	// orders is our end of a socket pair: the worker says standbyReady, or why it
	// cannot serve, and we that it may.
	orders   *os.File
	prepared chan error
	answer   chan<- error
	// replaced is set when candord.json names the next worker.
	replaced bool
}

const (
	standbyReady = "ready"
	// standbyTimeout is how long the next worker may take until it could serve.
	// Nobody waits for it but who asked.
	standbyTimeout = 15 * time.Second
)

// prepare starts the next worker beside w, which serves on.
func (s *Supervisor) prepare(w *worker, answer chan<- error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		answer <- fmt.Errorf("socketpair: %w", err)
		return
	}
	theirs := os.NewFile(uintptr(pair[1]), "orders")
	defer theirs.Close()
	r := &reload{orders: os.NewFile(uintptr(pair[0]), "orders"), prepared: make(chan error, 1), answer: answer}
	if r.next, err = s.startWorker(s.nextGeneration(w), theirs); err != nil {
		r.orders.Close()
		answer <- servesOn(w, err)
		return
	}
	s.reload = r
	go func() { r.prepared <- r.wait() }()
}

// wait waits until the next worker could serve, or cannot.
func (r *reload) wait() error {
	timer := time.AfterFunc(standbyTimeout, func() { _ = r.next.kill() }) // or it has ended
	defer timer.Stop()
	message := make([]byte, 4096)
	switch n, _ := r.orders.Read(message); {
	case n == 0:
		<-r.next.done
		return fmt.Errorf("the new worker ended before it served (%s)", r.next.ending())
	case string(message[:n]) != standbyReady:
		return errors.New(string(message[:n]))
	}
	return nil
}

func servesOn(w *worker, err error) error {
	return fmt.Errorf("%w; worker %d serves on", err, w.process.PID)
}

// wanted is where the next one asks for a reload; nobody may while there is one.
func (s *Supervisor) wanted() <-chan chan<- error {
	if s.reload != nil {
		return nil
	}
	return s.reloads
}

// ready says how the preparation ends, once.
func (r *reload) ready() <-chan error {
	if r == nil {
		return nil
	}
	return r.prepared
}

// replace lets the prepared worker take the place of w, and returns the one that
// is to serve.
func (s *Supervisor) replace(w *worker) *worker {
	r := s.reload
	st, err := s.state(r.next.generation)
	if err == nil {
		st.Worker = r.next.process
		// Should we die before it is killed, the next of us does it.
		st.Undead = append(st.Undead, undead{Process: w.process, Generation: w.generation})
		err = st.write(s.config.StateDir)
	}
	if err != nil {
		s.giveUp(servesOn(w, fmt.Errorf("write candord.json: %w", err)))
		return w
	}
	r.replaced = true
	s.generation = r.next.generation
	s.kill(w)
	s.conn.slots.SetUndead(s.undeadGroups())
	_, _ = r.orders.WriteString("serve") // one that has died is seen by watch
	r.orders.Close()
	s.log.Info("reloaded: another worker takes over", "worker", r.next.process.PID, "before", w.process.PID, "generation", s.generation)
	return r.next
}

// reloaded tells who asked that the new worker serves.
func (s *Supervisor) reloaded() {
	if s.reload != nil && s.reload.replaced {
		s.reload.answer <- nil
		s.reload = nil
	}
}

// giveUp ends a reload whose worker has replaced nobody.
func (s *Supervisor) giveUp(err error) {
	s.log.Error("reload", "error", err)
	s.reload.answer <- err
	s.dropStandby()
}

// interrupt ends a reload whose worker, the old one or the new, is watched no
// longer.
func (s *Supervisor) interrupt() {
	switch r := s.reload; {
	case r == nil:
	case r.replaced:
		r.answer <- errors.New("the new worker did not come to serve: another is started, see candord's journal")
		s.reload = nil
	default:
		// Again when the successor serves.
		s.dropStandby()
		go func() { s.reloads <- r.answer }()
	}
}

func (s *Supervisor) dropStandby() {
	_ = s.reload.next.kill() // or it has ended
	s.reload.orders.Close()
	s.reload = nil
}

// standBy waits with a worker until it may serve in the place of another. It
// returns an error where it is not to.
func standBy(config WorkerConfig) error {
	orders := os.NewFile(workerOrders, "orders")
	defer orders.Close()
	_, err := orders.WriteString(standbyReady)
	if err == nil {
		_, err = orders.Read(make([]byte, 16))
	}
	if err == nil {
		return nil
	}
	// The supervisor is dead. Whom candord.json names is the worker, and those who
	// were before it have to go.
	st, err := readState(config.StateDir)
	if err != nil || st.Supervisor.PID != config.Supervisor || st.Worker.PID != os.Getpid() {
		return errors.Join(errStray, err)
	}
	for _, w := range openUndead(st.Undead) {
		if err := w.kill(); err != nil {
			config.Log.Error("kill worker", "worker", w.process.PID, "error", err)
		}
		w.dead(killWait)
	}
	return nil
}

// refuse tells the supervisor why a worker that is to stand by cannot.
func refuse(err error) {
	if errors.Is(err, resview.ErrLayout) {
		err = errors.New("it lays out the shared memory in another way; a restart of candord mounts the view anew")
	}
	orders := os.NewFile(workerOrders, "orders")
	_, _ = orders.WriteString("the new candord cannot serve: " + err.Error())
}
