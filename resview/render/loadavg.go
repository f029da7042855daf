package render

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"candor.dev/candor/cgroup"
)

// loadInterval is how often a load is sampled; the kernel's LOAD_FREQ.
const loadInterval = 5 * time.Second

// sampleWait is how long the others wait for a container's sample.
const sampleWait = time.Second

// The kernel's fixed-point arithmetic (include/linux/sched/loadavg.h): 11 bits
// of fraction, and the decay of one interval over 1, 5 and 15 minutes.
const (
	loadShift = 11
	loadOne   = 1 << loadShift
	decay1    = 1884
	decay5    = 2014
	decay15   = 2037
)

// loads are the averages over 1, 5 and 15 minutes, in fixed point.
type loads [3]uint64

// startLoads are the averages of a container that always had this many tasks.
func startLoads(active int) loads {
	v := uint64(active) * loadOne
	return loads{v, v, v}
}

// step adds a sample (kernel/sched/loadavg.c: calc_load).
func (l *loads) step(active int) {
	sample := uint64(active) * loadOne
	for i, decay := range [...]uint64{decay1, decay5, decay15} {
		v := l[i]*decay + sample*(loadOne-decay)
		if sample >= l[i] {
			v += loadOne - 1
		}
		l[i] = v / loadOne
	}
}

// loadState is a container's load. It is kept only while somebody asks.
type loadState struct {
	mu      sync.Mutex
	sampled bool
	asked   time.Time
	at      time.Time // of the last sample
	loads   loads
}

// save gives the load as words.
func (l *loadState) save() []uint64 {
	return []uint64{uint64(l.asked.UnixNano()), uint64(l.at.UnixNano()), l.loads[0], l.loads[1], l.loads[2]}
}

// restore is the inverse of save.
func (l *loadState) restore(w []uint64) {
	if len(w) != 5 {
		return
	}
	l.sampled, l.asked, l.at = true, time.Unix(0, int64(w[0])), time.Unix(0, int64(w[1]))
	l.loads = loads{w[2], w[3], w[4]}
}

func (c *Container) gatherLoadavg(dst []byte, now time.Time) ([]byte, error) {
	l := &c.load
	l.mu.Lock()
	defer l.mu.Unlock()
	// Of a load that was kept nobody may have asked for long.
	first := !l.sampled || now.Sub(l.asked) > idleAfter
	look := c.tasks
	if first { // it stands in all three, for minutes
		look = c.tasksAtRest
	}
	count, err := look(now)
	if err != nil {
		return dst, err
	}
	if first {
		l.sampled, l.at, l.loads = true, now, startLoads(count.running+count.blocked)
		l.asked = now
		c.host.note(c.counters.put(counterLoad, l.save()...))
	}
	l.asked = now
	return appendLoadavg(dst, l.loads, count), nil
}

// appendLoadavg renders /proc/loadavg (fs/proc/loadavg.c).
func appendLoadavg(dst []byte, l loads, count tasks) []byte {
	for _, v := range l {
		v += loadOne / 200 // rounds
		dst = strconv.AppendUint(dst, v>>loadShift, 10)
		dst = append(dst, '.')
		hundredths := (v & (loadOne - 1)) * 100 >> loadShift
		dst = append(dst, '0'+byte(hundredths/10), '0'+byte(hundredths%10), ' ')
	}
	running := count.running + 1 // the reader
	dst = strconv.AppendInt(dst, int64(running), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(max(count.total, running)), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(count.lastPID), 10)
	return append(dst, '\n')
}

// sample brings the container's load up to now, if anybody still asks for it.
func (c *Container) sample(now time.Time) error {
	l := &c.load
	l.mu.Lock()
	wanted := l.sampled
	if wanted && now.Sub(l.asked) > idleAfter {
		l.sampled, wanted = false, false
	}
	if now.Before(l.at) { // kept, and the clock was set back
		l.at = now
	}
	// A sampler that was late makes up for it with what it sees now.
	missed := int((now.Sub(l.at) + loadInterval/10) / loadInterval)
	l.mu.Unlock()
	if !wanted || missed < 1 {
		return nil
	}
	count, err := c.tasks(now)
	if errors.Is(err, cgroup.ErrGone) {
		return nil // dead, and soon closed
	} else if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for range min(missed, 60) {
		l.loads.step(count.running + count.blocked)
	}
	l.at = now
	return c.counters.put(counterLoad, l.save()...)
}

// sampleInTime is sample, but a container whose files hang is not waited for: it is
// left behind, and not sampled again before it has come to an end.
func (c *Container) sampleInTime(now time.Time) error {
	if !c.sampling.CompareAndSwap(false, true) {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		defer c.sampling.Store(false)
		done <- c.sample(now)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(sampleWait):
		return nil
	}
}

// Sample takes one sample of the load of every container whose loadavg was
// asked for in the last five minutes, and gives up what is held for containers
// that nobody asks. [Host.Run] calls it.
func (h *Host) Sample(now time.Time) error {
	var errs []error
	for _, c := range h.list() {
		if err := c.sampleInTime(now); err != nil {
			errs = append(errs, err)
		}
	}
	h.trim(now)
	if noted := h.noted.Swap(nil); noted != nil {
		errs = append(errs, *noted)
	}
	return errors.Join(errs...)
}

// Run calls [Host.Sample] every five seconds until ctx is done. report, which
// may be nil, is told of failures.
func (h *Host) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := h.Sample(now); err != nil && report != nil {
				report(err)
			}
		}
	}
}
