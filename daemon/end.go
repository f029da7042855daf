package daemon

import (
	"errors"
	"os"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
)

// Stop says how a supervisor ends.
type Stop int

// The ways to end.
const (
	// Terminate ends the worker too. Readers in containers that still run get
	// ENOTCONN until the next candord mends their mounts.
	Terminate Stop = iota
	// HandOver leaves the worker to the next supervisor if a container uses
	// the view; readers notice nothing. Without such containers it is
	// Terminate.
	HandOver
)

// end ends candord in order.
func (s *Supervisor) end(w *worker, how Stop) error {
	if s.reload != nil && !s.reload.replaced {
		next := s.reload.next
		s.dropStandby()
		next.dead(killWait)
	}
	users := usersOfView(s.store)
	if users > 0 && how == HandOver && (w == nil || w.dead(0)) {
		// It has died just now. Its successor is the one to leave behind.
		next, err := s.spawn()
		if err != nil {
			s.log.Error("cannot start a worker", "error", err)
		}
		w = next
	}
	if users > 0 && how == HandOver && w != nil {
		s.log.Info("leaving the resource view to the worker until the next candord takes over", "containers", users, "worker", w.process.PID)
		return s.cgroups.leave()
	}
	s.healer.stop()
	if w != nil {
		s.kill(w)
	}
	s.keep(nil)
	s.conn.close()
	if users > 0 {
		// The mount stays where it is: its readers get an error instead of
		// the host's files, and the next candord puts living files there.
		s.log.Warn("containers still use the resource view; their files are dead until candord starts again", "containers", users)
	}
	errs := []error{removeFile(statePath(s.config.StateDir)), s.removeSocket()}
	if users == 0 {
		errs = append(errs, resview.Unmount(s.config.StateDir))
	}
	return errors.Join(append(errs, s.cgroups.leave())...)
}

// removeSocket removes the file of our own socket. It may be systemd's by now,
// which takes the path when candord.socket is started.
func (s *Supervisor) removeSocket() error {
	path := socketPath(s.config.StateDir)
	if now, err := os.Lstat(path); err != nil || s.socketFile == nil || !os.SameFile(now, s.socketFile) {
		return nil //nolint:nilerr // it is gone, or another's
	}
	return removeFile(path)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// usersOfView counts the living containers that have the view.
func usersOfView(store *ledger.Store) (n int) {
	records, _ := store.List() // what cannot be read has been reported by others
	for _, r := range records {
		if r.View != nil && r.Owner.Alive() {
			n++
		}
	}
	return n
}
