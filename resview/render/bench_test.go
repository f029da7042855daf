package render

import (
	"os"
	"testing"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/ledger"
)

// self is a container of this process's own cgroups, on the real kernel.
func self(tb testing.TB) *Container {
	tb.Helper()
	paths, err := cgroup.Of(os.Getpid())
	if err != nil {
		tb.Skip(err)
	}
	host, err := NewHost("/")
	if err != nil {
		tb.Skip(err)
	}
	tb.Cleanup(func() { host.Close() })
	c, err := Open(ledger.View{ID: 1, Cgroups: paths}, host)
	if err != nil {
		tb.Skip(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// benchmark renders a file anew every time, as a reader every 100 ms makes it.
func benchmark(b *testing.B, file string) {
	c := self(b)
	now := time.Now()
	buf, err := c.Render(make([]byte, 0, 1<<16), file, now)
	if err != nil {
		b.Skip(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(Reuse)
		if buf, err = c.Render(buf[:0], file, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMeminfo(b *testing.B)   { benchmark(b, "meminfo") }
func BenchmarkStat(b *testing.B)      { benchmark(b, "stat") }
func BenchmarkCPUInfo(b *testing.B)   { benchmark(b, "cpuinfo") }
func BenchmarkDiskstats(b *testing.B) { benchmark(b, "diskstats") }
func BenchmarkLoadavg(b *testing.B)   { benchmark(b, "loadavg") }
func BenchmarkVmstat(b *testing.B)    { benchmark(b, "vmstat") }
func BenchmarkZoneinfo(b *testing.B)  { benchmark(b, "zoneinfo") }
func BenchmarkUptime(b *testing.B)    { benchmark(b, "uptime") }
func BenchmarkSwaps(b *testing.B)     { benchmark(b, "swaps") }
func BenchmarkCPUOnline(b *testing.B) { benchmark(b, "cpu-online") }

// BenchmarkReused is what a reader in a loop pays.
func BenchmarkReused(b *testing.B) {
	c := self(b)
	now := time.Now()
	buf, err := c.Render(make([]byte, 0, 1<<16), "meminfo", now)
	if err != nil {
		b.Skip(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = c.Render(buf[:0], "meminfo", now); err != nil {
			b.Fatal(err)
		}
	}
}
