package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

type sent struct {
	bytes   uint64
	packets uint32
}

// sent is what the class has let through, in bytes on the wire.
func (w *wire) sent(t *testing.T) sent {
	t.Helper()
	classes, err := w.in.ClassList(w.eth0(t), 0)
	must(t, err)
	for _, c := range classes {
		if c.Attrs().Handle == classID {
			return sent{c.Attrs().Statistics.Basic.Bytes, c.Attrs().Statistics.Basic.Packets}
		}
	}
	t.Fatal("eth0 has no class")
	return sent{}
}

// received is what the peer's end of the wire has seen.
func (w *wire) received(t *testing.T) sent {
	t.Helper()
	link, err := w.out.LinkByName("eth0")
	must(t, err)
	s := link.Attrs().Statistics
	return sent{s.RxBytes, uint32(s.RxPackets)}
}

// dialer dials from inside the container with a socket option set.
func (w *wire) dial(network, addr string, level, option, value int) (net.Conn, error) {
	var conn net.Conn
	err := w.inside.Do(func() error {
		var err error
		d := net.Dialer{Timeout: 5 * time.Second}
		if level != 0 {
			d.Control = func(_, _ string, raw syscall.RawConn) error {
				var err error
				return errors.Join(raw.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), level, option, value)
				}), err)
			}
		}
		conn, err = d.Dial(network, addr)
		return err
	})
	return conn, err
}

// sendUDP sends packets of that payload to port 9 of the peer, where nobody
// listens.
func (w *wire) sendUDP(host string, packets, payload int) error {
	conn, err := w.dial("udp", net.JoinHostPort(host, "9"), 0, 0, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	b := make([]byte, payload)
	for range packets {
		// The port's ICMP error comes back on a later write.
		if _, err := conn.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

// A queue that cannot hold one packet of the stack stops TCP altogether: 64 kB
// of GSO against an 18 kB leaf gave 0.06 Mbit/s at a limit of 10.
func TestTCPLivesAtOneMegabit(t *testing.T) {
	for _, family := range []struct{ network, addr string }{{"tcp4", "10.9.0.2"}, {"tcp6", "fd09::2"}} {
		t.Run(family.network, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			const limit = 1_000_000
			_, err := Shape(w.inside, w.eth0(t), limit)
			must(t, err)
			var listener net.Listener
			must(t, w.outside.Do(func() (err error) {
				listener, err = (&net.ListenConfig{}).Listen(context.Background(), family.network, net.JoinHostPort(family.addr, "0"))
				return err
			}))
			defer listener.Close()
			var got atomic.Int64
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := conn.Read(b)
					got.Add(int64(n))
					if err != nil {
						return
					}
				}
			}()
			conn, err := w.dial(family.network, listener.Addr().String(), 0, 0, 0)
			must(t, err)
			defer conn.Close()
			const window = 2 * time.Second
			must(t, conn.SetWriteDeadline(time.Now().Add(window)))
			start := time.Now()
			if _, err := io.Copy(conn, zeros{}); err != nil && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
				t.Fatal(err)
			}
			most := bytesIn(time.Since(start), limit/8) + burstMin
			if n := uint64(got.Load()); n < atLeast(most/2) || n > most {
				t.Errorf("%d bytes arrived in %v at %d bit/s, want between %d and %d", n, time.Since(start), limit, most/2, most)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestAFloodStaysWithinLimitAndBurst(t *testing.T) {
	const limit = 8_000_000
	for _, tt := range []struct {
		name, host string
		payload    int
		option     int // of UDP: UDP_SEGMENT
	}{
		{"IPv4", "10.9.0.2", 1400, 0},
		{"IPv6", "fd09::2", 1400, 0},
		{"small packets", "10.9.0.2", 18, 0},
		{"one datagram in many packets", "10.9.0.2", 60_000, 0},
		{"UDP segmentation, which ignores gso_max_size", "10.9.0.2", 14_000, 1400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t)
			// Segments made before the wire, so that the peer counts packets.
			_, err := Shape(w.inside, w.eth0(t), limit)
			must(t, err)
			level := 0
			if tt.option != 0 {
				level = unix.SOL_UDP
			}
			conn, err := w.dial("udp", net.JoinHostPort(tt.host, "9"), level, unix.UDP_SEGMENT, tt.option)
			must(t, err)
			defer conn.Close()
			untilAnswered(t, conn)
			before := w.sent(t)
			wireBefore := w.received(t)
			start := time.Now()
			b := make([]byte, tt.payload)
			for time.Since(start) < 400*time.Millisecond {
				if _, err := conn.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOBUFS) {
					t.Fatal(err)
				}
			}
			after := w.sent(t)
			wireAfter := w.received(t)
			took := time.Since(start)
			// One packet goes over the brim: HTB sends while it has any
			// token. Twice, for the clock is not read at the same moment.
			most := bytesIn(took, limit/8) + burstMin + 2*(64<<10)
			if n := after.bytes - before.bytes; n > most || n < atLeast(most/4) {
				t.Errorf("%d bytes left in %v at %d bit/s, want between %d and %d", n, took, limit, most/4, most)
			}
			// The class counts a superpacket's headers, the peer may not.
			if n := wireAfter.bytes - wireBefore.bytes; n > most || n < atLeast(most/8) {
				t.Errorf("%d bytes arrived in %v at %d bit/s, want between %d and %d", n, took, limit, most/8, most)
			}
		})
	}
}

// HTB sends a packet whose priority is the root's handle past all classes.
// CAP_NET_RAW, which engines give to every container, is enough to set it.
func TestASocketPriorityDoesNotGoAround(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 1_000_000)
	must(t, err)
	must(t, w.sendUDP("10.9.0.2", 1, 100)) // neighbour resolution
	conn, err := w.dial("udp4", "10.9.0.2:9", unix.SOL_SOCKET, unix.SO_PRIORITY, rootHandle)
	must(t, err)
	defer conn.Close()
	before := w.received(t)
	for range 200 {
		if _, err := conn.Write(make([]byte, 1400)); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if n := w.received(t).bytes - before.bytes; n > 20_000 {
		t.Errorf("%d bytes went around the class", n)
	}
	qdiscs, err := w.in.qdiscs(w.eth0(t).Attrs().Index)
	must(t, err)
	root, _ := find(qdiscs, rootHandle)
	if n := nl.DeserializeTcHtbGlob(root.options[nl.TCA_HTB_INIT]).DirectPkts; n != 0 {
		t.Errorf("%d direct packets", n)
	}
}

func TestARPIsInTheClass(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 1_000_000)
	must(t, err)
	neighbours, err := w.in.NeighList(w.eth0(t).Attrs().Index, netlink.FAMILY_V4)
	must(t, err)
	for i := range neighbours {
		must(t, w.in.NeighDel(&neighbours[i]))
	}
	before, wire := w.sent(t), w.received(t)
	// An address that nobody has: nothing but ARP leaves.
	must(t, w.sendUDP("10.9.0.77", 1, 100))
	for range 100 {
		if w.sent(t).packets > before.packets {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	counted, arrived := w.sent(t).packets-before.packets, w.received(t).packets-wire.packets
	if counted == 0 || arrived > counted {
		t.Errorf("class counted %d packets, %d arrived", counted, arrived)
	}
}

// untilAnswered waits for the peer to refuse a datagram. The first neighbour
// solicitation on a new veth may come before the peer has joined the group that
// it goes to; the next one goes out a second later.
func untilAnswered(t *testing.T, conn net.Conn) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		if _, err := conn.Write([]byte{0}); errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	t.Fatal("the peer does not answer")
}

// atLeast is the lower bound of what a limit lets through. With -short there is
// none: an emulated machine may be too slow to fill even a low limit.
func atLeast(n uint64) uint64 {
	if testing.Short() {
		return 1
	}
	return n
}
