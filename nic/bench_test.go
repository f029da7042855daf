package nic

import (
	"testing"
	"time"
)

// BenchmarkRoundTrip is one NIC into a container and back, by parts. Nearly all
// of it is the kernel waiting for its processors (RCU) while the NIC moves.
func BenchmarkRoundTrip(b *testing.B) {
	l := newLab(b, "veth")
	l.up()
	l.ip(l.host, "addr add 192.168.50.5/24 dev ens5")
	var parts [3]float64
	for b.Loop() {
		start := time.Now()
		rec := l.snapshot()
		found := time.Now()
		l.mustAttach(rec, full())
		attached := time.Now()
		if err := l.giveBack(rec); err != nil {
			b.Fatal(err)
		}
		for i, d := range []time.Duration{found.Sub(start), attached.Sub(found), time.Since(attached)} {
			parts[i] += d.Seconds() * 1000
		}
	}
	for i, name := range []string{"snapshot-ms", "attach-ms", "giveback-ms"} {
		b.ReportMetric(parts[i]/float64(b.N), name)
	}
}
