package nic

import (
	"slices"
	"testing"
)

func TestSpareIsWhatAContainerCouldBeGiven(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	h := l.host
	l.up()
	l.ip(h, "link add ens6 address 52:54:00:00:00:06 type veth peer name p6 address 02:00:00:00:00:06")
	l.ip(h, "link add ens7 address 52:54:00:00:00:07 type veth peer name p7 address 02:00:00:00:00:07")
	l.ip(h, "link add other address 02:00:00:00:00:08 type veth peer name p8 address 02:00:00:00:00:09")
	l.ip(h, "link add twin1 address 52:54:00:00:00:0a type veth peer name twin2 address 52:54:00:00:00:0a")
	l.ip(h, "link add br0 address 52:54:00:00:00:0b type bridge")
	l.ip(h, "link set ens6 master br0")
	l.ip(h, "link set ens7 up")
	l.ip(h, "link set p7 up")
	l.ip(h, "addr add 198.18.7.2/24 dev ens7")
	l.ip(h, "route add default via 198.18.7.1 dev ens7")
	spare := func(globs ...string) []string {
		t.Helper()
		links, err := Spare(l.hostNS, Selector{MACs: globs})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, link := range links {
			names = append(names, link.Attrs().Name)
		}
		return names
	}
	// ens6 has a master, ens7 the default route, the twins one address, br0 is a
	// bridge, other is none of the pool's.
	if got := spare("52:54:*"); !slices.Equal(got, []string{"ens5"}) {
		t.Errorf("spare are %v, want ens5", got)
	}
	if got := spare("02:*:08"); !slices.Equal(got, []string{"other"}) {
		t.Errorf("spare are %v, want other", got)
	}
	if got := spare(); len(got) != 0 {
		t.Errorf("of no globs: %v", got)
	}
	rec := l.snapshot()
	l.mustAttach(rec, full())
	if got := spare("52:54:*"); len(got) != 0 {
		t.Errorf("with ens5 in a container: %v", got)
	}
}
