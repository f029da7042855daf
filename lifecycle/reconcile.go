package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

const (
	// poststopGrace is how long a dead container is left to its poststop.
	poststopGrace = time.Second
	// sweepInterval bounds how long a record that could not be given back,
	// or whose change was missed, waits.
	sweepInterval = 3 * time.Second
	// sweepTimeout bounds one give-back of the reconciler.
	sweepTimeout = 10 * time.Second
)

// Reconcile gives back what containers hold that died without a poststop, until
// the context ends: runc never retries a poststop, and kill -9 never calls one.
// It waits on the pidfds of the owners, never on an engine's word.
func (n *Node) Reconcile(ctx context.Context) error {
	changes, err := watch(filepath.Join(n.StateDir, "ledger"))
	if err != nil {
		return err
	}
	defer unix.Close(changes)
	w := &watcher{node: n, owners: map[string]*watched{}}
	defer w.close()
	for ctx.Err() == nil {
		w.tell(errors.Join(w.refresh(), w.sweep(ctx)))
		if err := w.wait(ctx, changes); err != nil {
			return err
		}
	}
	return nil
}

// watched is the owner of one record.
type watched struct {
	owner ledger.Process
	pidfd *os.File // nil once it is dead
	died  time.Time
	seen  bool
}

type watcher struct {
	node   *Node
	owners map[string]*watched
	told   string
}

func (w *watcher) close() {
	for _, o := range w.owners {
		if o.pidfd != nil {
			o.pidfd.Close()
		}
	}
}

// tell logs what stands in the way, once: it is met again every few seconds.
func (w *watcher) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != w.told && text != "" {
		w.node.Log.Error("reconcile", "error", err)
	}
	w.told = text
}

// refresh brings the owners into line with the ledger. Records that it cannot
// read are in the error.
func (w *watcher) refresh() error {
	records, err := w.node.store.List()
	for _, o := range w.owners {
		o.seen = false
	}
	for _, r := range records {
		o := w.owners[r.Key]
		if o == nil || o.owner != r.Owner {
			if o != nil && o.pidfd != nil {
				o.pidfd.Close()
			}
			o = &watched{owner: r.Owner}
			w.owners[r.Key] = o
			pidfd, err := r.Owner.OpenPidfd()
			if err != nil || r.BootID != w.node.bootID {
				o.died = time.Now()
			} else {
				o.pidfd = pidfd
			}
		}
		o.seen = true
	}
	for key, o := range w.owners {
		if o.seen {
			continue
		}
		if o.pidfd != nil {
			o.pidfd.Close()
		}
		delete(w.owners, key)
	}
	return err
}

// sweep gives back for every owner that has been dead for long enough.
func (w *watcher) sweep(ctx context.Context) error {
	var errs []error
	for key, o := range w.owners {
		if o.pidfd != nil && !o.owner.Alive() {
			o.pidfd.Close()
			o.pidfd, o.died = nil, time.Now()
		}
		if o.pidfd != nil || time.Since(o.died) < poststopGrace {
			continue
		}
		errs = append(errs, w.node.giveBackDead(ctx, key))
	}
	return errors.Join(append(errs, w.node.Tidy())...)
}

func (n *Node) giveBackDead(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	err := n.GiveBack(ctx, key)
	if errors.Is(err, ErrAlive) {
		return nil // the key belongs to a new container meanwhile
	}
	if err == nil {
		n.Log.Info("gave back what a container held that died without a poststop", "key", key)
	}
	return err
}

// Tidy removes what killed processes left behind and no record names: pins, locks,
// files that were never finished. What somebody works on stays.
func (n *Node) Tidy() error { return errors.Join(n.dropStrayPins(), n.store.Tidy()) }

// dropStrayPins removes the pins of which no record is left.
func (n *Node) dropStrayPins() error {
	names, err := statedir.Pins(n.StateDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		key := strings.TrimSuffix(name, ".host")
		if _, err := os.Lstat(filepath.Join(n.StateDir, "ledger", key+".json")); err == nil {
			continue
		}
		lock, err := n.store.TryLock(key)
		if err != nil || lock == nil {
			errs = append(errs, err)
			continue
		}
		if _, err := lock.Read(); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, n.dropPins(key))
		}
		errs = append(errs, lock.Unlock())
	}
	return errors.Join(errs...)
}

// wait returns when an owner dies, the ledger changes, a grace ends, or the
// sweep interval is over.
func (w *watcher) wait(ctx context.Context, changes int) error {
	timeout := sweepInterval
	fds := []unix.PollFd{{Fd: int32(changes), Events: unix.POLLIN}}
	for _, o := range w.owners {
		if o.pidfd != nil {
			fds = append(fds, unix.PollFd{Fd: int32(o.pidfd.Fd()), Events: unix.POLLIN})
		} else if left := poststopGrace - time.Since(o.died); left > 0 {
			timeout = min(timeout, left)
		}
	}
	// A context has no descriptor to poll: look at it twice a second.
	for end := time.Now().Add(timeout); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		ready, err := unix.Poll(fds, int(min(left, 500*time.Millisecond).Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll the owners of records: %w", err)
		}
		if ready > 0 {
			return drain(changes)
		}
	}
	return nil
}

// watch returns a non-blocking inotify descriptor. It stays a bare number:
// os.File's Fd would make it block.
func watch(dir string) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("inotify_init1: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_ONLYDIR); err != nil {
		return -1, errors.Join(fmt.Errorf("watch %s: %w", dir, err), unix.Close(fd))
	}
	return fd, nil
}

// drain empties the queue of changes: that there was one is all that counts.
func drain(changes int) error {
	buf := make([]byte, 64<<10)
	for {
		_, err := unix.Read(changes, buf)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("read ledger changes: %w", err)
		}
	}
}
