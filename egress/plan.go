package egress

import (
	"fmt"
	"math/bits"
	"time"
)

// Rates that can be shaped, in bits per second: those of the Kubernetes
// bandwidth annotations (1k to 1P).
const (
	MinLimit = 1_000
	MaxLimit = 1_000_000_000_000_000
)

const (
	// gsoUntouched is the limit in bits per second from which on a device
	// keeps its gso_max_size: small packets cost more than they bring
	// there (1 Gbit/s: 37 ms of CPU per Gbit with 64 kB, 233 ms with 16 kB).
	gsoUntouched = 250_000_000
	// gsoFloor and gsoCeil bound what is set below. The floor holds two
	// segments of 1448 bytes, as TCP builds them at any rate; it is in
	// effect up to 16 Mbit/s, where such packets cost nothing yet (at
	// 1 Gbit/s they cost 36 times the CPU). With 8 kB instead a ping beside
	// one TCP stream at 10 Mbit/s takes 11 ms (p99 18), with 4 kB 6 (p99 7).
	// 64 kB is what every kernel takes (GSO_LEGACY_MAX_SIZE).
	gsoFloor = 4 << 10
	gsoCeil  = 64 << 10

	gsoTime  = 2 * time.Millisecond
	burstMin = 16 << 10
	// burstTime also gives the 64 kB that rates above 500 Mbit/s need: one
	// packet of that size is about 1 ms there.
	burstTime = time.Millisecond

	quantumMin = 1514
	quantumMax = 60_000

	leafTime = 15 * time.Millisecond
	// leafMin is the least that a bfifo holds. gso_max_size bounds only what
	// TCP builds: a UDP socket with UDP_SEGMENT hands over packets of any
	// size up to 64 kB, as fragments of a datagram come all at once, and what
	// a byte-limited leaf cannot hold whole it loses for ever. 16 kB is the
	// first flight of QUIC, and room for more would be delay for all others:
	// with 72 kB, which holds anything, a ping beside TCP at 10 Mbit/s had a
	// p99 of 60 ms on a busy machine. fq_codel has neither fault.
	leafMin = 16 << 10

	// tick is the unit of the traffic control API's times (PSCHED_SHIFT in
	// the kernel's pkt_sched.h).
	tick = 64 * time.Nanosecond
)

// plan is what one limit means in the kernel's units.
type plan struct {
	rate    uint64 // bytes per second, rounded down: never above the limit
	buffer  uint32 // burst and cburst, in ticks
	quantum uint32 // bytes
	gso     uint32 // bytes; 0 leaves the device as it is
	leaf    leafPlan
}

type leafPlan struct {
	limit    uint32        // bytes a bfifo holds
	target   time.Duration // fq_codel
	interval time.Duration // fq_codel
	memory   uint32        // bytes an fq_codel holds at most
}

// newPlan computes the plan for a limit in bits per second on a device with
// that MTU, whose packets are at most gsoMaxSize bytes if left alone.
func newPlan(limitBits uint64, mtu int, gsoMaxSize uint32) (plan, error) {
	if limitBits < MinLimit || limitBits > MaxLimit {
		return plan{}, fmt.Errorf("limit of %d bit/s is outside %d to %d", limitBits, uint64(MinLimit), uint64(MaxLimit))
	}
	rate := limitBits / 8
	p := plan{
		rate:    rate,
		buffer:  ticks(max(burstTime, timeOf(burstMin, rate))),
		quantum: uint32(min(max(bytesIn(burstTime, rate), quantumMin), quantumMax)),
	}
	packet := max(gsoMaxSize, gsoFloor)
	if limitBits < gsoUntouched {
		p.gso = gsoSize(rate, mtu)
		packet = p.gso
	}
	p.leaf = newLeafPlan(rate, mtu, packet)
	return p, nil
}

// gsoSize is 2 ms of the rate, but room for two segments and what TCP keeps
// for headers: it builds packets of two at any rate (tcp_min_tso_segs).
func gsoSize(rate uint64, mtu int) uint32 {
	floor := max(gsoFloor, min(2*uint64(max(mtu, 0))+512, gsoCeil))
	return uint32(min(max(bytesIn(gsoTime, rate), floor), gsoCeil))
}

func newLeafPlan(rate uint64, mtu int, packet uint32) leafPlan {
	frame := uint64(max(mtu, 0)) + 14
	queue := max(2*uint64(packet), 2*frame, bytesIn(leafTime, rate), leafMin)
	// CoDel takes a packet that waited for longer than target as a sign of
	// a standing queue. Below some 15 Mbit/s one GSO packet takes longer
	// than the usual 5 ms to leave, so the target has to know its size
	// (the same rule as sqm-scripts', with a GSO packet for the MTU).
	target := max(5*time.Millisecond, timeOf(uint64(packet)*3/2, rate))
	target = min(target, time.Second)
	return leafPlan{
		limit:    uint32(min(queue, 1<<31)),
		target:   target,
		interval: 95*time.Millisecond + target,
		memory:   uint32(min(max(bytesIn(100*time.Millisecond, rate), 1<<20), 32<<20)),
	}
}

// bytesIn returns how many bytes pass in d at a rate in bytes per second.
func bytesIn(d time.Duration, rate uint64) uint64 {
	hi, lo := bits.Mul64(uint64(d), rate)
	n, _ := bits.Div64(hi, lo, uint64(time.Second))
	return n
}

// timeOf returns how long size bytes take at a rate in bytes per second.
func timeOf(size, rate uint64) time.Duration {
	hi, lo := bits.Mul64(size, uint64(time.Second))
	n, _ := bits.Div64(hi, lo, rate)
	return time.Duration(n)
}

func ticks(d time.Duration) uint32 { return uint32(d / tick) }
