package nic

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func parseMAC(t *testing.T, s string) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// fake is a link as a machine with the hardware would show it.
func fake(kind, name, permanent, current string, index, parent int) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.ParentIndex, attrs.EncapType = name, index, parent, "ether"
	attrs.HardwareAddr, _ = net.ParseMAC(current)
	attrs.PermHWAddr, _ = net.ParseMAC(permanent)
	if kind == "" {
		return &netlink.Device{LinkAttrs: attrs}
	}
	return &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
}

func TestChoose(t *testing.T) {
	const a, b = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
	for name, c := range map[string]struct {
		links []netlink.Link
		mac   string
		want  string
	}{
		"a bridge has the NIC's address":    {[]netlink.Link{fake("bridge", "br0", "", a, 1, 0), fake("", "ens1", a, a, 2, 0)}, a, "ens1"},
		"even where there is no permanent":  {[]netlink.Link{fake("bridge", "br0", "", a, 1, 0), fake("veth", "v0", "", a, 2, 9)}, a, "v0"},
		"a vlan and a macvlan on it":        {[]netlink.Link{fake("vlan", "ens1.7", "", a, 3, 2), fake("macvlan", "mv0", "", a, 4, 2), fake("veth", "ens1", "", a, 2, 9)}, a, "ens1"},
		"bonded NICs show one address":      {[]netlink.Link{fake("bond", "bond0", "", a, 1, 0), fake("", "ens1", a, a, 2, 0), fake("", "ens2", b, a, 3, 0)}, b, "ens2"},
		"the permanent one beats another's": {[]netlink.Link{fake("", "ens1", a, b, 2, 0), fake("", "ens2", b, a, 3, 0)}, a, "ens1"},
		"the current one, if no permanent":  {[]netlink.Link{fake("", "ens1", a, b, 2, 0)}, b, "ens1"},
		"macvlan of a parent with its own":  {[]netlink.Link{fake("macvlan", "mv0", "", b, 4, 2), fake("", "ens1", a, a, 2, 0)}, b, "mv0"},
		"only a bridge has it":              {[]netlink.Link{fake("bridge", "br0", "", a, 1, 0)}, a, "br0"},
		"two veths":                         {[]netlink.Link{fake("veth", "v1", "", a, 2, 9), fake("veth", "v0", "", a, 3, 9)}, a, "ambiguous: v0, v1"},
		"nobody":                            {[]netlink.Link{fake("", "ens1", a, a, 2, 0)}, b, "not on this node"},
	} {
		t.Run(name, func(t *testing.T) {
			link, err := choose(c.links, c.mac)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = link.Attrs().Name
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestFindRestrictsToThePool(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.ip(l.host, "link property add dev ens5 altname enp0s5")
	for name, c := range map[string]struct {
		s  Selector
		ok bool
	}{
		"MAC glob":                 {Selector{MACs: []string{"52:54:*"}}, true},
		"MAC glob in capitals":     {Selector{MACs: []string{"52:54:0E:*"}}, true},
		"name glob":                {Selector{Names: []string{"eth*", "ens*"}}, true},
		"altname":                  {Selector{Names: []string{"enp0s?"}}, true},
		"driver":                   {Selector{Drivers: []string{"veth"}}, true},
		"one list of several":      {Selector{MACs: []string{"00:*"}, PCI: []string{"0000:*"}, Drivers: []string{"ve*"}}, true},
		"other MACs":               {Selector{MACs: []string{"00:*"}}, false},
		"other names":              {Selector{Names: []string{"eth*"}}, false},
		"other driver":             {Selector{Drivers: []string{"ixgbe"}}, false},
		"PCI, which it has none":   {Selector{PCI: []string{"*"}}, false},
		"a pool that lists no NIC": {Selector{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.MAC = parseMAC(t, nicMAC)
			link, err := Find(l.hostNS, c.s)
			var refused *RefusedError
			switch {
			case c.ok && err != nil:
				t.Error(err)
			case c.ok && link.Attrs().Name != "ens5":
				t.Errorf("found %s", link.Attrs().Name)
			case !c.ok && (!errors.As(err, &refused) || !strings.Contains(err.Error(), "none of the pool's")):
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFindSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	var refused *RefusedError
	if _, err := Find(l.hostNS, Selector{MACs: []string{"*"}}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "has to give a mac") {
		t.Errorf("no MAC: %v", err)
	}
	var none *NotFoundError
	if _, err := Find(l.hostNS, Selector{MAC: parseMAC(t, "02:00:00:00:00:77"), MACs: []string{"*"}}); !errors.As(err, &none) {
		t.Errorf("no such NIC: %v", err)
	}
	if _, err := Find(l.containerNS, Selector{MAC: make(net.HardwareAddr, 6), MACs: []string{"*"}}); !errors.As(err, &none) {
		t.Errorf("the loopback's MAC: %v", err)
	}
	l.ip(l.host, "link add twin address "+nicMAC+" type veth peer name twinpeer")
	var several *AmbiguousError
	if _, err := Find(l.hostNS, Selector{MAC: parseMAC(t, nicMAC), MACs: []string{"*"}}); !errors.As(err, &several) || !slices.Equal(several.Names, []string{"ens5", "twin"}) {
		t.Errorf("two of them: %v", err)
	}
}

func TestVirtualNICHasNoPermanentMAC(t *testing.T) {
	for _, kind := range []string{"veth", "macvlan"} {
		l := newLab(t, kind)
		rec := l.snapshot()
		if rec.PermanentMAC != "" || rec.ParentDevice != "" || rec.Type != kind || rec.MAC != nicMAC {
			t.Errorf("%+v", rec)
		}
		if !strings.HasPrefix(rec.TransientName, "cdr") || len(rec.TransientName) != 13 || rec.Kind != "hostnic" {
			t.Errorf("%+v", rec)
		}
	}
}

func TestSnapshotRefusesWhatTheHostNeeds(t *testing.T) {
	for want, commands := range map[string][]string{
		"default route|v4":           {"addr add 192.168.50.5/24 dev ens5", "route add default via 192.168.50.1"},
		"default route|v4 backup":    {"addr add 192.168.50.5/24 dev ens5", "route add default via 192.168.50.1 metric 900"},
		"default route|table":        {"addr add 192.168.50.5/24 dev ens5", "route add default via 192.168.50.1 table default"},
		"default route|v6":           {"-6 addr add fd50::5/64 dev ens5 nodad", "-6 route add default via fd50::1"},
		"default route|half":         {"route add 128.0.0.0/1 dev ens5"},
		"default route|multipath":    {"addr add 192.168.50.5/24 dev ens5", "link add u0 type veth peer name u1", "link set u0 up", "route add default nexthop via 192.168.50.1 nexthop dev u0"},
		"default route|v6 multipath": {"-6 addr add fd50::5/64 dev ens5 nodad", "link add u0 type veth peer name u1", "link set u0 up", "-6 addr add fd60::5/64 dev u0 nodad", "-6 route add default nexthop via fd50::1 nexthop via fd60::1"},
		"multipath route":            {"addr add 192.168.50.5/24 dev ens5", "link add u0 type veth peer name u1", "link set u0 up", "route add 10.0.0.0/8 nexthop via 192.168.50.1 nexthop dev u0"},
		"node's own address":         {"addr add 192.168.50.5/24 dev ens5", "link add u0 type veth peer name u1", "link set u0 up", "route add default dev u0 src 192.168.50.5"},
		"belongs to br0":             {"link add br0 type bridge", "link set ens5 master br0"},
		"mv0 sits on top":            {"link add mv0 link ens5 type macvlan"},
		"could not be put back":      {"addr add 192.168.50.5/24 dev ens5", "route add 10.0.0.0/8 via 192.168.50.1 advmss 1200"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.up()
			for _, c := range commands {
				l.ip(l.host, c)
			}
			before := l.state(l.host, "ens5")
			link, err := l.hostNS.handle.LinkByName("ens5")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Snapshot(l.hostNS, link)
			var refused *RefusedError
			reason, _, _ := strings.Cut(want, "|")
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "nic "+nicMAC+" (ens5)") {
				t.Errorf("error %v", err)
			}
			l.same(before)
		})
	}
	l := newLab(t, "veth")
	l.ip(l.host, "link add br0 type bridge")
	l.ip(l.host, "link add mt0 type ifb")
	for name, reason := range map[string]string{"lo": "loopback", "br0": "kind bridge", "mt0": "kind ifb"} {
		link, err := l.hostNS.handle.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Snapshot(l.hostNS, link); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// What the host can spare is not refused: a default route elsewhere, policy
// routing through the NIC, a veth's peer on the same host, a child elsewhere.
func TestSnapshotAcceptsWhatTheHostCanSpare(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	l.ip(l.host, "link add u0 type veth peer name u1")
	l.ip(l.host, "link set u0 up")
	l.ip(l.host, "addr add 192.0.2.5/24 dev u0")
	l.ip(l.host, "route add default via 192.0.2.9")
	l.snapshot()
	link, err := l.hostNS.handle.LinkByName("u1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Snapshot(l.hostNS, link); err != nil {
		t.Errorf("a veth whose peer is here: %v", err)
	}
}
