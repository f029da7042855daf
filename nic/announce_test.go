package nic

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen receives all frames that arrive at an interface of a namespace.
func listen(t *testing.T, ns *Namespace, name string) (next func() []byte) {
	t.Helper()
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	all := int(uint16(unix.ETH_P_ALL)>>8 | uint16(unix.ETH_P_ALL)<<8&0xff00)
	err = ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Attrs().Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	return func() []byte {
		b := make([]byte, 2048)
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil
		}
		return b[:n]
	}
}

func TestPeerHearsTheAnnouncements(t *testing.T) {
	for name, late := range map[string]bool{"by the kernel": false, "by candor, where the carrier is late": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			rec := l.snapshot()
			next := listen(t, l.open(l.peer), "p0")
			// The peer knows the addresses elsewhere, and learns better at once.
			l.ip(l.peer, "neigh replace 192.168.50.9 lladdr 02:00:00:00:00:99 dev p0 nud stale")
			l.ip(l.peer, "-6 neigh replace fd50::9 lladdr 02:00:00:00:00:99 dev p0 nud stale")
			a := &attach{host: l.hostNS, target: l.containerNS, rec: rec, cfg: full(), save: func() error { return nil }}
			a.passed = func(step string) {
				if step == "sysctls" && late { // the kernel keeps silent
					l.sysctl(l.container, "ipv4/conf/net0/arp_notify", "0")
					l.sysctl(l.container, "ipv6/conf/net0/ndisc_notify", "0")
				}
				if step == "up" {
					a.late = late
				}
			}
			if err := a.run(context.Background()); err != nil {
				t.Fatal(err)
			}
			mac := parseMAC(t, nicMAC)
			want := map[string][]byte{
				"gratuitous ARP": arpAnnouncement(mac, netip.MustParseAddr("192.168.50.9")),
				"unsolicited NA": neighbourAdvertisement(mac, netip.MustParseAddr("fd50::9")),
			}
			for deadline := time.Now().Add(3 * time.Second); len(want) > 0 && time.Now().Before(deadline); {
				frame := next()
				for what, w := range want {
					// The kernel sends from the link-local address: the
					// advertisement itself counts.
					if bytes.Equal(frame, w) || (len(w) > 54 && len(frame) == len(w) && bytes.Equal(frame[58:], w[58:])) {
						delete(want, what)
					}
				}
			}
			for what := range want {
				t.Errorf("no %s at the peer", what)
			}
			for _, addr := range []string{"192.168.50.9", "fd50::9"} {
				if n := l.ip(l.peer, "neigh show "+addr); !strings.Contains(n, nicMAC) {
					t.Errorf("the peer believes: %s", n)
				}
			}
		})
	}
}

func TestAttachWithoutCarrierWaitsAndGoesOn(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.ip(l.peer, "link set p0 down")
	rec := l.snapshot()
	start := time.Now()
	l.mustAttach(rec, full())
	if took := time.Since(start); took < carrierWait || took > carrierWait+30*time.Second { // no measure of speed: that it ends
		t.Errorf("took %s", took)
	}
	l.ip(l.peer, "link set p0 up")
	l.ip(l.peer, "addr add fd50::1/64 dev p0 nodad")
	l.eventually("ping without another word", func() bool {
		return l.try(l.container, "ping", "-q", "-c1", "-W1", "192.168.50.1") && l.try(l.container, "ping", "-q", "-c1", "-W1", "fd50::1")
	})
}

func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	arp := arpAnnouncement(mac, netip.MustParseAddr("10.0.0.1"))
	if len(arp) != 42 || !bytes.Equal(arp[28:32], arp[38:42]) {
		t.Errorf("% x", arp)
	}
	na := neighbourAdvertisement(mac, netip.MustParseAddr("fd00::1"))
	if len(na) != 14+40+32 {
		t.Errorf("%d bytes", len(na))
	}
	// A checksum over a message with the right one in it is zero.
	var src, dst [16]byte
	copy(src[:], na[22:])
	copy(dst[:], na[38:])
	if sum := checksum(src, dst, na[54:]); sum != 0 {
		t.Errorf("checksum is off: %#x", sum)
	}
}
