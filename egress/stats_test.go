package egress

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStatsAreTheKernels(t *testing.T) {
	w := newWire(t)
	dev, err := Shape(w.inside, w.eth0(t), 2_000_000)
	must(t, err)
	conn, err := w.dial("udp", net.JoinHostPort("10.9.0.2", "9"), 0, 0, 0)
	must(t, err)
	defer conn.Close()
	untilAnswered(t, conn)
	before := w.sent(t)
	b := make([]byte, 1400)
	written := 0
	for start := time.Now(); time.Since(start) < 300*time.Millisecond; written++ {
		if _, err := conn.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	got, err := ReadStats(w.inside, dev)
	must(t, err)
	after := w.sent(t)
	if got.Bytes < before.bytes || got.Bytes > after.bytes || got.Packets < uint64(before.packets) || got.Packets > uint64(after.packets) {
		t.Errorf("%+v, and the library says %+v before and %+v after", got, before, after)
	}
	if got.BacklogPackets == 0 || got.BacklogBytes < got.BacklogPackets {
		t.Errorf("%+v, with %d packets on the way", got, written)
	}
	// What neither left nor waits was dropped, or waits in the socket.
	if most := uint64(written) + 10; got.Packets+uint64(got.BacklogPackets)+uint64(got.Drops) > uint64(before.packets)+most {
		t.Errorf("%+v of %d packets", got, written)
	}
	if got.Drops == 0 && dev.Leaf == leafBfifo {
		t.Errorf("%+v: nothing was dropped, of %d packets", got, written)
	}

	must(t, Unshape(w.inside, dev, 0))
	if _, err := ReadStats(w.inside, dev); err == nil {
		t.Error("a device without a limit has counters of one")
	}
}
