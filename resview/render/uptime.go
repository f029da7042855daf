package render

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// gatherUptime renders /proc/uptime (fs/proc/uptime.c): the container's age, and
// how long its CPUs were idle, all together. That is what its /proc/stat says:
// with another reckoning, or at another moment, the two would disagree.
func (c *Container) gatherUptime(dst []byte, now time.Time) ([]byte, error) {
	uptime, boot, err := c.host.clocks(now)
	if err != nil {
		return dst, err
	}
	age, _ := containerAge(uptime, boot, c.view.BoottimeOffset)
	start := len(dst)
	if dst, err = c.Render(dst, "stat", now); err != nil {
		return dst, err
	}
	idle, err := idleTicks(dst[start:])
	if err != nil {
		return dst[:start], err
	}
	return appendUptime(dst[:start], age, time.Duration(idle)*time.Duration(nanosPerTick)), nil
}

func appendUptime(dst []byte, times ...time.Duration) []byte {
	for i, t := range times {
		if i > 0 {
			dst = append(dst, ' ')
		}
		hundredths := int64(t / (10 * time.Millisecond))
		dst = strconv.AppendInt(dst, hundredths/100, 10)
		dst = append(dst, '.', '0'+byte(hundredths/10%10), '0'+byte(hundredths%10))
	}
	return append(dst, '\n')
}

// idleTicks finds the idle time of all CPUs in a stat file.
func idleTicks(stat []byte) (uint64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 2+columnIdle || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("%q is no cpu line", line)
	}
	return parseCount(fields[1+columnIdle])
}
