package daemon

import (
	"time"

	"candor.dev/candor/resview"
)

const (
	// checkInterval is how often a worker that answers is looked at,
	// suspectInterval how often one that does not.
	checkInterval   = 140 * time.Millisecond
	suspectInterval = 60 * time.Millisecond // more than a heartbeat takes
	// calmLooks is the number of looks at a silent worker, one after the other,
	// that have to find that it does not want a CPU either: then it hangs. Looks
	// that come late count half: what keeps us from a CPU may keep the worker's
	// timer from it. The longest that a reader waits for a worker that hangs is
	// two checks, these looks and a restart: 400 ms.
	calmLooks = 2
	// starvedLimit is how long a worker may be silent that waits for a CPU or
	// computes. Its successor would have to wait for one as well, and longer.
	starvedLimit = 5 * time.Second
	// tellStarved is how long it has to be for the journal to say so.
	tellStarved = time.Second
)

// verdict is what is to be thought of a worker.
type verdict int

const (
	answers verdict = iota
	silent
	hangs
)

// judge tells a worker that hangs from one that is only starved: on a machine
// with too few CPUs a healthy worker is silent, too, and to replace it makes all
// worse.
type judge struct {
	slots *resview.Slots
	group int
	// use looks at the given threads of the worker, nil means all of them.
	use func(threads []int) use

	// What was seen when the worker last answered.
	answered time.Time
	beat     uint64
	progress resview.Progress

	suspicion suspicion
	// For the journal: requests that lie still.
	stuck int
}

func newJudge(slots *resview.Slots, w *worker, now time.Time) *judge {
	j := &judge{
		slots: slots,
		group: resview.Group(w.generation),
		use:   func(threads []int) use { return threadsOf(w.process.PID, threads) },
	}
	j.note(now, slots.Beat(), slots.Progress())
	return j
}

func (j *judge) note(now time.Time, beat uint64, progress resview.Progress) {
	j.answered, j.beat, j.progress = now, beat, progress
	j.suspicion = suspicion{}
}

// look is called every checkInterval while the worker answers, and then every
// suspectInterval.
func (j *judge) look(now time.Time) verdict {
	beat, progress := j.slots.Beat(), j.slots.Progress()
	stuck := j.progress.Stuck(&progress, j.group)
	if beat != j.beat && stuck == nil {
		j.note(now, beat, progress)
		return answers
	}
	j.stuck = len(stuck)
	seen := sight{at: now, beat: beat, all: j.use(nil)}
	if seen.own = seen.all; stuck != nil {
		seen.own = j.use(stuck)
	}
	if j.suspicion.confirmed(seen) {
		return hangs
	}
	return silent
}

// sight is what is seen of a silent worker at one time.
type sight struct {
	at   time.Time
	beat uint64
	// own is the use of the threads whose requests lie still. Where the heart
	// does not beat it is that of all threads, too.
	own, all use
}

// suspicion gathers the looks at a silent worker.
type suspicion struct {
	last sight
	calm int // half looks
	// waited is for how long there have been looks. One that comes late counts
	// no more than others: we may have got no CPU for seconds.
	waited time.Duration
}

// confirmed reports whether the worker, which does not answer, does not want a
// CPU either, or has waited for one for too long.
func (s *suspicion) confirmed(now sight) bool {
	last, since := s.last, now.at.Sub(s.last.at)
	s.last = now
	if last.at.IsZero() {
		return false // nothing to compare with
	}
	s.waited += min(since, 2*suspectInterval)
	switch {
	case !now.own.calm(last.own, since):
		s.calm = 0
	case now.beat == last.beat && !now.all.calm(last.all, since):
		// Asleep while others compute and the heart does not beat: it may be
		// Go's scheduler that does not let it run. No telling.
	case since > 2*suspectInterval:
		s.calm++
	default:
		s.calm += 2
	}
	return s.calm >= 2*calmLooks || s.waited >= starvedLimit
}

// calm reports whether the threads have wanted no CPU since the last look.
func (u use) calm(before use, since time.Duration) bool {
	wanted := u.wanted - before.wanted
	// Runtimes wake up now and then without doing anything: a tenth.
	return u.of == before.of && !u.runnable && wanted >= 0 && wanted <= since/10
}
