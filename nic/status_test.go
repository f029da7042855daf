package nic

import (
	"errors"
	"reflect"
	"testing"
)

func TestStatusIsWhatTheContainersKernelShows(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.up()
	rec := l.snapshot()
	l.mustAttach(rec, full())
	want := Status{
		Interface: "net0", MAC: nicMAC, MTU: 1400, Up: true, Default: true,
		Addresses: prefixes("192.168.50.9/24", "fd50::9/64"), Gateways: addrs("192.168.50.1", "fd50::1"),
	}
	check := func(what string) {
		t.Helper()
		got, err := StatusOf(l.containerNS, rec)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	check("as attached")

	// An engine's network wins, in both families.
	l.ip(l.container, "link add engine0 up type bridge")
	l.ip(l.container, "addr add 203.0.113.2/24 dev engine0")
	l.ip(l.container, "-6 addr add 2001:db8:1::2/64 dev engine0 nodad")
	l.ip(l.container, "route add default via 203.0.113.1")
	l.ip(l.container, "-6 route add default via 2001:db8:1::1 metric 100")
	want.Default = false
	check("beside an engine's network")

	// What the container made of it since.
	l.ip(l.container, "link set net0 down")
	l.ip(l.container, "link set net0 name other mtu 1380")
	l.ip(l.container, "addr flush dev other")
	l.ip(l.container, "addr add 192.168.50.77/32 dev other")
	want = Status{Interface: "other", MAC: nicMAC, MTU: 1380, Addresses: prefixes("192.168.50.77/32")}
	check("changed by the container")

	l.ip(l.container, "link del other")
	var lost *LostError
	if _, err := StatusOf(l.containerNS, rec); !errors.As(err, &lost) {
		t.Errorf("of a NIC that is not there: %v, want a LostError", err)
	}
}

func TestPCIAddressOfADriver(t *testing.T) {
	for bus, want := range map[string]bool{"0000:00:05.0": true, "10000:e1:00.1": true, "": false, "N/A": false, "usb-0000:00:14.0-1": false, "virtio2": false} {
		if got := isPCIAddress(bus); got != want {
			t.Errorf("isPCIAddress(%q) = %v", bus, got)
		}
	}
}
