package daemon

import (
	"time"

	"candor.dev/candor/resview"
)

// event is why a worker is not watched any longer.
type event int

const (
	stopped event = iota
	died
	hung
	unmounted
	retry
)

// watch looks after a worker until it ends or has to.
func (s *Supervisor) watch(w *worker, stop <-chan Stop) (event, Stop) {
	slots, group := s.conn.slots, resview.Group(w.generation)
	timer := time.NewTimer(readyInterval)
	defer timer.Stop()
	var beat uint64
	var before resview.Progress
	serving := false
	for checks := 0; ; {
		select {
		case how := <-stop:
			return stopped, how
		case <-w.done:
			return died, 0
		case <-timer.C:
		}
		if !serving {
			if slots.Ready() == w.generation {
				serving = true
				s.failures = 0
				beat, before = slots.Beat(), slots.Progress()
				if s.conn.fuse != nil {
					s.healer.check(s)
				}
				timer.Reset(checkInterval)
				continue
			}
			if time.Since(w.started) > startTimeout {
				return hung, 0
			}
			timer.Reset(readyInterval)
			continue
		}
		now, progress := slots.Beat(), slots.Progress()
		// A loaded machine may make a healthy worker look like this; then it
		// costs every reader some milliseconds.
		if now == beat || before.Stuck(&progress, group) {
			return hung, 0
		}
		beat, before = now, progress
		checks++
		if s.conn.fuse == nil {
			if time.Since(w.started) > viewRetry {
				return retry, 0
			}
			timer.Reset(checkInterval)
			continue
		}
		if checks%mountChecks == 0 {
			if err := checkMounted(s.config.StateDir, s.conn.device); err != nil {
				return unmounted, 0
			}
		}
		s.healer.check(s)
		timer.Reset(checkInterval)
	}
}
