package nic

import (
	"strconv"
	"strings"
	"testing"

	"candor.dev/candor/ledger"
)

// check is Check's result as text, one difference a line.
func (l *lab) check(rec *ledger.NIC) string {
	l.t.Helper()
	found, err := Check(l.hostNS, l.containerNS, rec)
	if err != nil {
		l.t.Fatal(err)
	}
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

func TestCheckNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		do   func(l *lab, rec *ledger.NIC)
		want []string
	}{
		"down":       {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 down") }, []string{"expected up, is down"}},
		"mtu":        {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 mtu 1290") }, []string{"expected with an MTU of 1400, is with 1290"}},
		"an address": {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "addr del fd50::9/64 dev net0") }, []string{"expected with the address fd50::9/64, is without it"}},
		"promisc":    {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 promisc off") }, []string{"expected with promisc on, is off"}},
		"allmulti":   {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 allmulticast on") }, []string{"expected with allmulti off, is on"}},
		"a rule":     {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "rule del from 192.168.50.9 priority 20000") }, []string{"expected with a rule for what is sent from 192.168.50.9, is without it"}},
		"a route":    {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "route del 10.1.0.0/16 table main") }, []string{"expected with the route to 10.1.0.0/16 via 192.168.50.1, is without it"}},
		"renamed": {func(l *lab, _ *ledger.NIC) { // 6.1 renames none that is up
			l.ip(l.container, "link set net0 down")
			l.ip(l.container, "link set net0 name other")
			l.ip(l.container, "link set other up")
		}, []string{"expected called net0 in the container, is called other"}},
		"other MAC": {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 address 02:00:00:00:00:77") }, []string{"expected with the MAC " + nicMAC + ", is with 02:00:00:00:00:77"}},
		"no altname": {func(l *lab, rec *ledger.NIC) {
			l.ip(l.container, "link property del dev net0 altname "+rec.TransientName)
		}, []string{"expected altname cdr", "is without it"}},
		"deleted": {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link del net0") }, []string{"expected in the container as net0 (index ", "is neither there nor on the host"}},
		"on the host": {func(l *lab, _ *ledger.NIC) { l.ip(l.container, "link set net0 netns "+l.host) }, []string{
			"expected in the container as net0 (index ", "is on the host as net0",
		}},
		"out and in again": {func(l *lab, rec *ledger.NIC) {
			l.ip(l.container, "link set net0 netns "+l.peer)
			l.ip(l.container, "link add name taken index "+strconv.Itoa(rec.InnerIndex)+" type bridge")
			l.ip(l.peer, "link set net0 netns "+l.container+" up")
			l.ip(l.container, "link set net0 up")
		}, []string{"in the container, is "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.up()
			rec, cfg, on, off := l.snapshot(), full(), true, false
			cfg.Promisc, cfg.AllMulti = &on, &off
			l.mustAttach(rec, cfg)
			if got := l.check(rec); got != "" {
				t.Fatalf("a NIC as attached differs: %s", got)
			}
			test.do(l, rec)
			got := l.check(rec)
			// To go down costs a NIC its routes, to leave its addresses too.
			if one := withoutLosses(got); strings.Count(one, "\n") > 1 {
				t.Errorf("several differences: %s", got)
			}
			for _, want := range test.want {
				if !strings.Contains(got, "nic "+labelOf(rec)+": ") || !strings.Contains(got, want) {
					t.Errorf("%q, want one with %q", got, want)
				}
			}
		})
	}
}

// Without addresses nothing looks at the NIC again once it has its MTU.
func TestCheckOfANICWithAnMTUAndNoAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.up()
	rec := l.snapshot()
	l.mustAttach(rec, Config{MTU: 1400})
	if got := l.check(rec); got != "" {
		t.Errorf("as attached: %s", got)
	}
}

func withoutLosses(differences string) (rest string) {
	for line := range strings.Lines(differences + "\n") {
		if !strings.Contains(line, "is without it") {
			rest += line
		}
	}
	return rest
}

func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	rec := l.snapshot()
	l.mustAttach(rec, full())
	l.eventually("the NIC is settled", func() bool { return !strings.Contains(l.ip(l.container, "addr show net0"), "tentative") })
	inside := l.state(l.container, "net0")
	for range 2 {
		if got := l.check(rec); got != "" {
			t.Error(got)
		}
	}
	if now := l.state(l.container, "net0"); now != inside {
		t.Errorf("check changed the NIC:\n%s", difference(inside, now))
	}
}

// With the namespace the virtual NIC has gone; on the host one is looked for.
func TestCheckWithoutTheContainersNamespace(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.up()
	rec := l.snapshot()
	found, err := Check(l.hostNS, nil, rec)
	if err != nil || len(found) != 1 || found[0].Actual != "on the host as ens5" {
		t.Errorf("Check = %v, %v", found, err)
	}
}

func TestInTransitFindsTransientNamesAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	for _, name := range []string{"cdr0123456789", "cdr012345678", "cdr01234567890", "cdr012345678G", "xcdr012345678"} {
		l.ip(l.peer, "link add "+name+" type bridge")
	}
	l.ip(l.peer, "link property add dev p0 altname cdrabcdefabcd")
	found, err := InTransit(l.open(l.peer))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range found {
		got = append(got, s.Name+"="+s.TransientName)
	}
	if text := strings.Join(got, " "); len(got) != 2 || !strings.Contains(text, "cdr0123456789=cdr0123456789") || !strings.Contains(text, "p0=cdrabcdefabcd") {
		t.Errorf("in transit: %s", text)
	}
}
