package nic

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestContainerChangedTheNIC(t *testing.T) {
	for name, commands := range map[string][]string{
		"name, MAC, MTU, alias": {
			"link set net0 down", "link set net0 address 02:00:00:00:00:01", "link set net0 mtu 1300 alias mine txqueuelen 5",
			"link set net0 gso_max_size 20000", "link set net0 name eth7", "link set eth7 up",
		},
		"down":          {"link set net0 down"},
		"addresses":     {"addr flush dev net0", "addr add 10.10.10.10/24 dev net0"},
		"other altname": {"link property add dev net0 altname low0", "link property add dev net0 altname ens5"},
		"bridge port":   {"link add br0 type bridge", "link set net0 master br0"},
		"macvlan on it": {"link add mv0 link net0 type macvlan", "link set mv0 up"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "macvlan") // whose host has a low0
			if name == "macvlan on it" {
				l = newLab(t, "veth")
			}
			l.rich()
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			l.mustAttach(rec, full())
			for _, c := range commands {
				l.ip(l.container, c)
			}
			l.mustGiveBack(rec, before)
		})
	}
}

// The kernel gives the index of a device that has died to the next one.
func TestOtherDeviceWithTheIndexIsLeftAlone(t *testing.T) {
	l := newLab(t, "veth")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	l.ip(l.container, "link del net0")
	l.ip(l.container, "link add eth0 index "+itoa(rec.InnerIndex)+" type veth peer name more index 77")
	before := l.state(l.container, "eth0")
	var lost *LostError
	if err := l.giveBack(rec); !errors.As(err, &lost) {
		t.Errorf("error %v, want a LostError", err)
	}
	if now := l.state(l.container, "eth0"); now != before {
		t.Errorf("the container's own device changed:\n%s", difference(before, now))
	}
}

func TestVirtualNICDiesWithItsNamespace(t *testing.T) {
	l := newLab(t, "veth")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	if err := l.containerNS.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "netns", "del", l.container)
	l.eventually("the peer has gone", func() bool { return !slices.Contains(l.links(l.peer), "p0") })
	for range 2 {
		var lost *LostError
		if err := GiveBack(context.Background(), l.hostNS, nil, rec); !errors.As(err, &lost) {
			t.Fatalf("error %v, want a LostError", err)
		}
	}
}

func TestNamespaceIsKeptByThePin(t *testing.T) {
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	l.mustAttach(rec, full())
	run(t, "ip", "netns", "del", l.container) // our Namespace is the last reference
	if err := l.giveBack(rec); err != nil {
		t.Fatal(err)
	}
	l.same(before)
}

// A device that the kernel has put back by itself has the container's name, or
// dev%d where that is taken, and the container's settings.
func TestAlreadyOnTheHostInDisorder(t *testing.T) {
	for name, commands := range map[string][]string{
		"under the container's name": {"link set net0 netns HOST"},
		"as dev%d":                   {"link set net0 name dev7", "link set dev7 mtu 1300", "link set dev7 netns HOST"},
		"without its marker":         {"link property del dev net0 altname MARK", "link set net0 netns HOST"},
		"under the transient name":   {"link property del dev net0 altname MARK", "link set net0 name MARK", "link set MARK netns HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "veth")
			l.rich()
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			l.mustAttach(rec, full())
			for _, c := range commands {
				l.ip(l.container, strings.NewReplacer("HOST", l.host, "MARK", rec.TransientName).Replace(c))
			}
			l.mustGiveBack(rec, before)
		})
	}
}

func TestHostNameTakenMeanwhile(t *testing.T) {
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	l.mustAttach(rec, full())
	l.ip(l.host, "link add ens5 type veth peer name thief")
	other := l.state(l.host, "ens5")
	for range 2 {
		err := l.giveBack(rec)
		if err == nil || !strings.Contains(err.Error(), "another interface has it") {
			t.Errorf("error %v", err)
		}
		now := l.ip(l.host, "addr show dev "+rec.TransientName)
		for _, want := range []string{"state UP", "192.168.50.5/24", "fd51::5/64", "altname enp0s5"} {
			if !strings.Contains(now, want) {
				t.Errorf("%q is missing:\n%s", want, now)
			}
		}
	}
	if now := l.state(l.host, "ens5"); now != other {
		t.Errorf("the other interface changed:\n%s", difference(other, now))
	}
	// Once the name is free it comes back whole.
	l.ip(l.host, "link del thief")
	l.mustGiveBack(rec, before)
}

func TestUntouchedNICIsLeftAlone(t *testing.T) {
	l := newLab(t, "veth")
	l.rich()
	l.ip(l.host, "neigh add 192.168.50.77 lladdr 02:00:00:00:00:02 dev ens5")
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	// The container has a device of its own with the same MAC.
	l.ip(l.container, "link add eth0 address "+nicMAC+" type veth peer name more")
	l.mustGiveBack(rec, before)
	if got := l.links(l.container); !slices.Contains(got, "eth0") {
		t.Errorf("the container has %v", got)
	}
	if neigh := l.ip(l.host, "neigh show 192.168.50.77"); !strings.Contains(neigh, "PERMANENT") {
		t.Error("the NIC was down in between: its static neighbour is gone")
	}
}

func TestHardwareIsWaitedFor(t *testing.T) {
	l := newLab(t, "veth")
	rec := l.snapshot()
	rec.ParentDevice, rec.ParentBus, rec.PermanentMAC = "0000:3b:02.1", "pci", nicMAC
	start := time.Now()
	var lost *LostError
	if err := l.giveBack(rec); !errors.As(err, &lost) {
		t.Errorf("a veth was taken for the card: %v", err)
	}
	if waited := time.Since(start); waited < returnWait {
		t.Errorf("gave up after %s", waited)
	}
}
