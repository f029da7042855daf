package daemon

import "time"

// event is why a worker is not watched any longer.
type event int

const (
	stopped event = iota
	died
	hung
	unmounted
	retry
	prepared // the worker of a reload may take its place
)

// watch looks after a worker until it ends or has to.
func (s *Supervisor) watch(w *worker, stop <-chan Stop) (event, Stop) {
	timer := time.NewTimer(readyInterval)
	defer timer.Stop()
	var serving *judge
	var starting suspicion
	checks, told := 0, false
	for {
		var reloads <-chan chan<- error
		if serving != nil {
			reloads = s.wanted()
		}
		select {
		case how := <-stop:
			return stopped, how
		case <-w.done:
			return died, 0
		case answer := <-reloads:
			s.prepare(w, answer)
			continue
		case err := <-s.reload.ready():
			if err == nil {
				return prepared, 0
			}
			s.giveUp(servesOn(w, err))
			continue
		case <-timer.C:
		}
		now := time.Now()
		if serving == nil {
			age := now.Sub(w.started)
			switch {
			case s.conn.slots.Ready() == w.generation:
				serving = newJudge(s.conn.slots, w, now)
				s.failures = 0
				s.reloaded()
				if s.conn.fuse != nil {
					s.healer.check(s)
				}
				timer.Reset(checkInterval)
			case age < startTimeout:
				timer.Reset(readyInterval)
			case starting.confirmed(sightOf(w, now)):
				s.log.Warn("worker does not come up, killing it", "worker", w.process.PID, "generation", w.generation, "age", age)
				return hung, 0
			default:
				timer.Reset(suspectInterval)
			}
			continue
		}
		switch serving.look(now) {
		case hangs:
			s.log.Warn("worker does not answer, killing it", "worker", w.process.PID, "generation", w.generation,
				"silent", now.Sub(serving.answered), "stuck", serving.stuck)
			return hung, 0
		case silent:
			if !told && now.Sub(serving.answered) > tellStarved {
				told = true
				s.log.Warn("the worker waits for a CPU, and its readers with it", "worker", w.process.PID, "silent", now.Sub(serving.answered))
			}
			timer.Reset(suspectInterval)
			continue
		}
		timer.Reset(checkInterval)
		if s.conn.fuse == nil {
			if now.Sub(w.started) > viewRetry {
				return retry, 0
			}
			continue
		}
		if checks++; checks%mountChecks == 0 {
			if err := checkMounted(s.config.StateDir, s.conn.device); err != nil {
				return unmounted, 0
			}
		}
		s.healer.check(s)
	}
}

// sightOf looks at a worker that does not serve yet.
func sightOf(w *worker, now time.Time) sight {
	all := threadsOf(w.process.PID, nil)
	return sight{at: now, own: all, all: all}
}
