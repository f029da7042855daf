package render

import (
	"strconv"
	"time"
)

// gatherUptime renders /proc/uptime (fs/proc/uptime.c): the container's age, and
// how long its CPUs were idle, all together. That is what its /proc/stat says, whose
// state is therefore brought up to date.
func (c *Container) gatherUptime(dst []byte, s *scratch, now time.Time) ([]byte, error) {
	state := &c.cells[fileStat].render
	state.Lock()
	defer state.Unlock()
	r, err := c.statReadings(s, now)
	if err != nil {
		return dst, err
	}
	c.stat.shape(&r)
	c.host.note(c.counters.put(counterStat, c.stat.save()...))
	idle := int64(0)
	for _, id := range r.shown {
		idle += c.stat.cpus[id].last[columnIdle] / nanosPerTick // as stat adds them up
	}
	return appendUptime(dst, r.age, time.Duration(idle*nanosPerTick)), nil
}

func appendUptime(dst []byte, age, idle time.Duration) []byte {
	for i, t := range [...]time.Duration{age, idle} {
		if i > 0 {
			dst = append(dst, ' ')
		}
		hundredths := int64(t / (10 * time.Millisecond))
		dst = strconv.AppendInt(dst, hundredths/100, 10)
		dst = append(dst, '.', '0'+byte(hundredths/10%10), '0'+byte(hundredths%10))
	}
	return append(dst, '\n')
}
