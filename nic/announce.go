package nic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// announce tells the network where the addresses are now: switches learn the
// port, neighbours that knew the address elsewhere learn the MAC at once instead
// of when their entry expires. Nobody answers.
//
// The kernel has done so when the NIC came up (see setSysctls), and that was
// heard unless the carrier came later, as it does with cables. Then it is done
// here, with a packet socket, which needs no route and no address that is past
// duplicate detection (sending an advertisement while tentative fails:
// sriov-cni#307). It is not always done so because closing such a socket waits
// for all processors, 10 ms of each start at 100 Hz.
func (a *attach) announce(context.Context) error {
	attrs := a.link.Attrs()
	mac := attrs.HardwareAddr
	if !a.late || attrs.RawFlags&unix.IFF_NOARP != 0 || len(mac) != 6 {
		return nil
	}
	return a.target.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer unix.Close(fd)
		for _, addr := range a.addresses {
			frame := arpAnnouncement(mac, addr.Prefix.Addr())
			if addr.Prefix.Addr().Is6() {
				frame = neighbourAdvertisement(mac, addr.Prefix.Addr())
			}
			to := &unix.SockaddrLinklayer{Ifindex: attrs.Index}
			err := unix.Sendto(fd, frame, 0, to)
			if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENOBUFS) {
				continue // the link went away again, or its queue is full
			}
			if err != nil {
				return fmt.Errorf("%s: %w", addr.Prefix.Addr(), err)
			}
		}
		return nil
	})
}

func ethernet(dst, src net.HardwareAddr, etherType uint16) []byte {
	frame := append(append(make([]byte, 0, 128), dst...), src...)
	return binary.BigEndian.AppendUint16(frame, etherType)
}

// arpAnnouncement is an ARP request for the own address (RFC 5227, 2.3).
func arpAnnouncement(mac net.HardwareAddr, addr netip.Addr) []byte {
	frame := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, unix.ETH_P_ARP)
	frame = append(frame,
		0, 1, // Ethernet
		8, 0, // IPv4
		6, 4, // their lengths
		0, 1) // request
	frame = append(append(frame, mac...), addr.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), addr.AsSlice()...)
}

// neighbourAdvertisement is an unsolicited one to all nodes (RFC 4861, 7.2.6)
// that overrides what they know.
func neighbourAdvertisement(mac net.HardwareAddr, addr netip.Addr) []byte {
	allNodes := netip.MustParseAddr("ff02::1").As16()
	source := addr.As16()
	const override = 0x20
	body := []byte{136, 0, 0, 0, override, 0, 0, 0} // type, code, checksum, flags
	body = append(body, source[:]...)
	body = append(append(body, 2, 1), mac...) // target link-layer address, in units of 8 bytes

	binary.BigEndian.PutUint16(body[2:], checksum(source, allNodes, body))

	frame := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, unix.IPPROTO_ICMPV6, 255) // routers would lower the hop limit
	frame = append(append(frame, source[:]...), allNodes[:]...)
	return append(frame, body...)
}

// checksum is ICMPv6's (RFC 4443, 2.3), over body with its checksum field zero
// and of even length.
func checksum(src, dst [16]byte, body []byte) uint16 {
	pseudo := append(append([]byte{}, src[:]...), dst[:]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, unix.IPPROTO_ICMPV6)
	var sum uint32
	for _, part := range [][]byte{pseudo, body} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
