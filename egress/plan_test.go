package egress

import (
	"testing"
	"time"
)

func TestPlanFollowsTheRate(t *testing.T) {
	const mbit = 1_000_000
	for _, tt := range []struct {
		name      string
		limitBits uint64
		mtu       int
		gsoMax    uint32
		want      plan // leaf: limit only
	}{
		{
			"the smallest rate", 1_000, 1500, 65536,
			plan{rate: 125, buffer: 2_048_000_000, quantum: 1514, gso: 4096, leaf: leafPlan{limit: leafMin}},
		},
		{
			"bits that make no whole byte are never rounded up", 10_007, 1500, 65536,
			plan{rate: 1250, buffer: 204_800_000, quantum: 1514, gso: 4096, leaf: leafPlan{limit: leafMin}},
		},
		{
			"10 Mbit/s", 10 * mbit, 1500, 65536,
			plan{rate: 1_250_000, buffer: 204_800, quantum: 1514, gso: 4096, leaf: leafPlan{limit: 18_750}},
		},
		{
			"jumbo frames leave room for two segments", 10 * mbit, 9000, 65536,
			plan{rate: 1_250_000, buffer: 204_800, quantum: 1514, gso: 18512, leaf: leafPlan{limit: 37_024}},
		},
		{
			"100 Mbit/s", 100 * mbit, 1500, 65536,
			plan{rate: 12_500_000, buffer: 20_480, quantum: 12_500, gso: 25_000, leaf: leafPlan{limit: 187_500}},
		},
		{
			"just below the bound", 249_999_999, 1500, 65536,
			plan{rate: 31_249_999, buffer: 15_625, quantum: 31_249, gso: 62_499, leaf: leafPlan{limit: 468_749}},
		},
		{
			"gso untouched", 250 * mbit, 1500, 65536,
			plan{rate: 31_250_000, buffer: 15_625, quantum: 31_250, leaf: leafPlan{limit: 468_750}},
		},
		{
			"BIG TCP: the leaf holds two of its packets", 250 * mbit, 1500, 400_000,
			plan{rate: 31_250_000, buffer: 15_625, quantum: 31_250, leaf: leafPlan{limit: 800_000}},
		},
		{
			"burst is 1 ms: at least 64 kB from 525 Mbit/s", 525 * mbit, 1500, 65536,
			plan{rate: 65_625_000, buffer: 15_625, quantum: 60_000, leaf: leafPlan{limit: 984_375}},
		},
		{
			"more than 32 bits of bytes per second", 40_000 * mbit, 1500, 65536,
			plan{rate: 5_000_000_000, buffer: 15_625, quantum: 60_000, leaf: leafPlan{limit: 75_000_000}},
		},
		{
			"the largest rate", MaxLimit, 1500, 65536,
			plan{rate: 125_000_000_000_000, buffer: 15_625, quantum: 60_000, leaf: leafPlan{limit: 1 << 31}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newPlan(tt.limitBits, tt.mtu, tt.gsoMax)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.leaf.target, tt.want.leaf.interval, tt.want.leaf.memory = got.leaf.target, got.leaf.interval, got.leaf.memory
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestCoDelTargetKnowsThePacket(t *testing.T) {
	for _, tt := range []struct {
		limitBits uint64
		target    time.Duration
		memory    uint32
	}{
		{1_000, time.Second, 1 << 20},
		{1_000_000, 49152 * time.Microsecond, 1 << 20},
		{10_000_000, 5 * time.Millisecond, 1 << 20},
		{1_000_000_000, 5 * time.Millisecond, 12_500_000},
		{40_000_000_000, 5 * time.Millisecond, 32 << 20},
	} {
		p, err := newPlan(tt.limitBits, 1500, 65536)
		if err != nil {
			t.Fatal(err)
		}
		if p.leaf.target != tt.target || p.leaf.memory != tt.memory {
			t.Errorf("%d bit/s: target %v, memory %d; want %v, %d", tt.limitBits, p.leaf.target, p.leaf.memory, tt.target, tt.memory)
		}
		if p.leaf.interval <= p.leaf.target {
			t.Errorf("%d bit/s: interval %v is not above target %v", tt.limitBits, p.leaf.interval, p.leaf.target)
		}
	}
}

func TestRatesOutsideTheRangeAreRefused(t *testing.T) {
	for _, limit := range []uint64{0, 1, MinLimit - 1, MaxLimit + 1, 1<<64 - 1} {
		if _, err := newPlan(limit, 1500, 65536); err == nil {
			t.Errorf("%d bit/s was accepted", limit)
		}
	}
}

// A kilobit takes longest to send anything, a petabit has most to send: no
// field may wrap anywhere between them.
func TestNoFieldWraps(t *testing.T) {
	for limit := uint64(MinLimit); limit <= MaxLimit; limit = limit*13/10 + 1 {
		p, err := newPlan(limit, 65535, 1<<19)
		if err != nil {
			t.Fatal(err)
		}
		burst := time.Duration(p.buffer) * tick
		if burst < burstTime || bytesIn(burst+tick, p.rate) < burstMin-1 {
			t.Errorf("%d bit/s: burst of %v, %d bytes", limit, burst, bytesIn(burst, p.rate))
		}
		if p.leaf.limit < leafMin || p.leaf.limit < 2*p.gso {
			t.Errorf("%d bit/s: leaf of %d bytes with packets of %d", limit, p.leaf.limit, p.gso)
		}
	}
}
