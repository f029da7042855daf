//go:build !race

// The race detector drops pooled buffers at random.

package render

import (
	"testing"
	"time"
)

func TestRenderingAllocatesNothing(t *testing.T) {
	c := openFixture(t, "v2")
	now := time.Unix(1800000000, 0)
	buf := make([]byte, 0, 1<<16)
	for _, file := range []string{"meminfo", "swaps", "cpuinfo", "cpu-online", "diskstats", "vmstat", "zoneinfo", "slabinfo", "uptime"} {
		// Less than one: the host's own files are read again now and then.
		allocs := testing.AllocsPerRun(200, func() {
			now = now.Add(Reuse)
			var err error
			if buf, err = c.Render(buf[:0], file, now); err != nil {
				t.Fatal(err)
			}
		})
		if allocs >= 1 {
			t.Errorf("%s: %v allocations", file, allocs)
		}
	}
}
