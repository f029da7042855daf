package egress

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestDevicesAreThoseThatPacketsLeaveBy(t *testing.T) {
	w := newWire(t)
	// Both ends here: its packets stay.
	must(t, w.in.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0", TxQLen: 1000}, PeerName: "v1"}))
	// On top of eth0: its packets leave through eth0.
	stacked := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: w.eth0(t).Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := w.in.LinkAdd(stacked); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the kernel has no macvlan")
	} else {
		must(t, err)
	}
	// On top of a device of the peer's namespace.
	peer, err := w.out.LinkByName("eth0")
	must(t, err)
	must(t, w.out.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: "net0", ParentIndex: peer.Attrs().Index, Namespace: netlink.NsFd(w.inside.file.Fd())},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}))

	links, err := Devices(w.inside)
	must(t, err)
	var names []string
	for _, link := range links {
		names = append(names, link.Attrs().Name)
	}
	if want := []string{"eth0", "net0"}; !slices.Equal(names, want) {
		t.Errorf("devices are %v, want %v", names, want)
	}
	for _, link := range links {
		_, err := Shape(w.inside, link, 10_000_000)
		must(t, err)
	}
}

func TestAnEmptyNamespaceHasNoDevices(t *testing.T) {
	links, err := Devices(newNS(t))
	must(t, err)
	for _, link := range links {
		t.Errorf("device %s", link.Attrs().Name)
	}
}
