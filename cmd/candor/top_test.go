package main

import (
	"bytes"
	"testing"
	"time"

	"candor.dev/candor/egress"
	"candor.dev/candor/lifecycle"
	"github.com/urfave/cli/v2"
)

func sampleAt(seconds int, stats egress.Stats) sample {
	return sample{
		LimitStatus: lifecycle.LimitStatus{Container: "c1", Key: "c1-0", Device: "net0", LimitBits: 50e6, Stats: stats},
		at:          time.Unix(1800000000+int64(seconds), 0),
	}
}

func TestRowsOfTop(t *testing.T) {
	for name, test := range map[string]struct {
		before, now sample
		want        string
	}{
		"half of it used": {
			sampleAt(0, egress.Stats{Bytes: 1000, Packets: 10, Drops: 0xfffffffe}),
			sampleAt(2, egress.Stats{Bytes: 1000 + 6_250_000, Packets: 4210, Drops: 3, BacklogBytes: 3028, BacklogPackets: 2}),
			"c1         net0    25M   50M    50%   2100       5        3028 B   30%\n",
		},
		"a limit that was just set": {
			sample{},
			sampleAt(2, egress.Stats{Bytes: 7_000_000, Packets: 5}),
			"c1         net0    0     50M    0%    0          0        0 B      30%\n",
		},
		"a device of that name that is another one now": {
			sampleAt(0, egress.Stats{Bytes: 1000}),
			sampleAt(2, egress.Stats{Bytes: 999}),
			"c1         net0    0     50M    0%    0          0        0 B      30%\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			a := &cli.App{
				Writer: &out, Flags: topCommand().Flags,
				Action: func(c *cli.Context) error { return printTop(c, []topRow{rowOf(test.before, test.now, 0.3)}) },
			}
			if err := a.Run([]string{"top", "--once"}); err != nil {
				t.Fatal(err)
			}
			if got, want := out.String(), "CONTAINER  DEVICE  RATE  LIMIT  USED  PACKETS/S  DROPPED  WAITING  HELD\n"+test.want; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestRatesAreRounded(t *testing.T) {
	for bits, want := range map[uint64]string{0: "0", 999: "999", 1000: "1k", 123_456: "123k", 999_400: "999k", 999_600: "1M", 49_870_000: "49.9M", 12_345_678_901: "12.3G"} {
		if got := rounded(bits); got != want {
			t.Errorf("%d is %s, want %s", bits, got, want)
		}
	}
}
