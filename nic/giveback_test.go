package nic

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestContainerChangedTheNIC(t *testing.T) {
	for name, commands := range map[string][]string{
		"name, MAC, MTU, alias": {
			"link set net0 down", "link set net0 address 02:00:00:00:00:01", "link set net0 mtu 1300 alias mine txqueuelen 5",
			"link set net0 gso_max_size 20000", "link set net0 name eth7", "link set eth7 up",
		},
		"down":             {"link set net0 down"},
		"addresses":        {"addr flush dev net0", "addr add 10.10.10.10/24 dev net0"},
		"other altname":    {"link property add dev net0 altname low0", "link property add dev net0 altname ens5"},
		"bridge port":      {"link add br0 type bridge", "link set net0 master br0"},
		"flags":            {"link set net0 promisc on", "link set net0 allmulticast on", "link set net0 arp off", "link set net0 multicast off"},
		"sizes":            {"link set net0 gro_max_size 9000", "link set net0 gso_max_segs 2"},
		"group, broadcast": {"link set net0 group 77", "link set net0 broadcast 01:02:03:04:05:06"},
		"macvlan on it":    {"link add mv0 link net0 type macvlan", "link set mv0 up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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

// What sits on a NIC stays on it when the NIC moves, in a namespace that somebody
// else may keep alive: it would hear and speak on the host's wire.
func TestNothingOfTheContainersStaysOnTheNIC(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	l.mustAttach(rec, full())
	for _, c := range []string{
		"link add mv0 link net0 type macvlan mode bridge", "link set mv0 up",
		"link add mv1 link net0 type macvlan mode bridge",
	} {
		l.ip(l.container, c)
	}
	l.mustGiveBack(rec, before)
	if left := l.links(l.container); slices.Contains(left, "mv0") || slices.Contains(left, "mv1") {
		t.Errorf("on the host's NIC sit devices of the container's: %v", left)
	}
}

func TestOffloadsComeBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	if !l.try(l.host, "ethtool", "-K", "ens5", "gro", "on", "tx-udp-segmentation", "off") {
		t.Skip("ethtool cannot set the features of a veth here")
	}
	features := func(dev string) string { return run(t, "nsenter", "--net=/run/netns/"+l.host, "ethtool", "-k", dev) }
	before := features("ens5")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	if !l.try(l.container, "ethtool", "-K", "net0", "gro", "off", "tso", "off", "gso", "off", "sg", "off", "tx", "off", "rx", "off") {
		t.Fatal("ethtool cannot set the features in the container")
	}
	for range 2 {
		if err := l.giveBack(rec); err != nil {
			t.Fatal(err)
		}
		if now := features("ens5"); now != before {
			t.Fatalf("the features are other ones:\n%s", difference(before, now))
		}
	}
}

// The kernel gives the index of a device that has died to the next one.
func TestOtherDeviceWithTheIndexIsLeftAlone(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
		// Down first: kernels before 6.2 rename no interface that is up.
		"as dev%d":                 {"link set net0 down", "link set net0 name dev7", "link set dev7 mtu 1300", "link set dev7 netns HOST"},
		"without its marker":       {"link property del dev net0 altname MARK", "link set net0 netns HOST"},
		"under the transient name": {"link property del dev net0 altname MARK", "link set net0 down", "link set net0 name MARK", "link set MARK netns HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
	t.Parallel()
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
		for _, want := range []string{",UP", "192.168.50.5/24", "fd51::5/64", "altname enp0s5"} {
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

func TestHostAltNameTakenMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	l.mustAttach(rec, full())
	l.ip(l.host, "link property add dev lo altname enp0s5")
	for range 2 {
		if err := l.giveBack(rec); err == nil || !strings.Contains(err.Error(), "add altname enp0s5") {
			t.Errorf("error %v", err)
		}
		now := l.ip(l.host, "addr show dev ens5")
		for _, want := range []string{",UP", "192.168.50.5/24", "fd51::5/64", "altname a-name-with-more-than-fifteen-bytes"} {
			if !strings.Contains(now, want) {
				t.Errorf("%q is missing:\n%s", want, now)
			}
		}
	}
	l.ip(l.host, "link property del dev lo altname enp0s5")
	l.mustGiveBack(rec, before)
}

func TestUntouchedNICIsLeftAlone(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// Giving back may be killed as well.
func TestKilledWhileGivingBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	if testing.Short() {
		t.Skip("tests/crash kills at every call")
	}
	for last := range 60 {
		before, rec := l.state(l.host, "ens5"), l.snapshot()
		l.mustAttach(rec, full())
		for _, c := range []string{"link set net0 address 02:00:00:00:00:01", "link set net0 mtu 1300 alias mine", "link set net0 down", "link set net0 name eth7"} {
			l.ip(l.container, c)
		}
		link, err := l.containerNS.handle.LinkByIndex(rec.InnerIndex)
		if err != nil {
			t.Fatal(err)
		}
		home, err := bringHome(context.Background(), l.hostNS, l.containerNS, link, rec)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		r := restore{host: l.hostNS, link: home, rec: rec, fail: func(what string, err error) {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if calls++; calls > last {
				panic(errKilled)
			}
		}}
		killed := func() (killed bool) {
			defer func() { killed = survived(recover()) }()
			r.run(t.Context())
			return false
		}()
		l.mustGiveBack(rec, before)
		if !killed {
			t.Logf("%d points", last)
			return
		}
	}
	t.Error("more points than were tried")
}

func TestXDPProgramOfTheContainerIsTakenOff(t *testing.T) {
	for name, mode := range map[string]uint32{"driver": unix.XDP_FLAGS_DRV_MODE, "generic": unix.XDP_FLAGS_SKB_MODE} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.up()
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			l.mustAttach(rec, full())
			prog := passAll(t)
			if err := l.containerNS.setXDP(rec.InnerIndex, prog, mode); err != nil {
				t.Skipf("attach an XDP program: %v", err)
			}
			l.mustGiveBack(rec, before)

			if err := l.hostNS.setXDP(rec.Index, prog, mode); err != nil {
				t.Fatal(err)
			}
			link, err := l.hostNS.handle.LinkByName("ens5")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Snapshot(l.hostNS, link); err == nil || !strings.Contains(err.Error(), "XDP program") {
				t.Errorf("with a program of the host: %v", err)
			}
		})
	}
}

// passAll loads the XDP program "return XDP_PASS".
func passAll(t *testing.T) int {
	t.Helper()
	insns := []byte{0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0}
	license := []byte("GPL\x00")
	attr := struct {
		kind, count    uint32
		insns, license uint64
		rest           [96]byte
	}{kind: unix.BPF_PROG_TYPE_XDP, count: 2, insns: uint64(uintptr(unsafe.Pointer(&insns[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(insns)
	runtime.KeepAlive(license)
	if errno != 0 {
		t.Skipf("load an XDP program: %v", errno)
	}
	t.Cleanup(func() { unix.Close(int(fd)) })
	return int(fd)
}
