package nic

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// full is a configuration with everything in it.
func full() Config {
	return Config{
		Addresses: prefixes("192.168.50.9/24", "fd50::9/64"),
		Gateways:  addrs("192.168.50.1", "fd50::1"),
		Routes: []Route{
			{Destination: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("192.168.50.1")},
			{Destination: netip.MustParsePrefix("10.2.0.0/16")},
			{Destination: netip.MustParsePrefix("fd99::/64"), Gateway: netip.MustParseAddr("fd50::1")},
		},
		MTU: 1400,
	}
}

func TestRoundTripLeavesTheHostAsItWas(t *testing.T) {
	for _, kind := range []string{"veth", "macvlan"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, kind)
			l.sysctl(l.host, "ipv6/conf/ens5/dad_transmits", "1")
			l.rich()
			before := l.state(l.host, "ens5")
			rec := l.snapshot()
			l.mustAttach(rec, full())

			if slices.Contains(l.links(l.host), "ens5") {
				t.Error("the NIC is still on the host")
			}
			var got []struct {
				MTU       int    `json:"mtu"`
				Address   string `json:"address"`
				OperState string `json:"operstate"`
				Addrs     []struct {
					Local     string `json:"local"`
					Tentative bool   `json:"tentative"`
				} `json:"addr_info"`
			}
			if err := json.Unmarshal([]byte(l.ip(l.container, "-j addr show dev net0")), &got); err != nil {
				t.Fatal(err)
			}
			if got[0].MTU != 1400 || got[0].Address != nicMAC || got[0].OperState != "UP" {
				t.Errorf("in the container the NIC is %+v", got[0])
			}
			var have []string
			for _, a := range got[0].Addrs {
				have = append(have, a.Local)
				if a.Tentative {
					t.Errorf("%s is tentative", a.Local)
				}
			}
			for _, want := range []string{"192.168.50.9", "fd50::9"} {
				if !slices.Contains(have, want) {
					t.Errorf("the container lacks %s: %v", want, have)
				}
			}
			run(t, "nsenter", "--net=/run/netns/"+l.container, "ping", "-q", "-c1", "-W2", "192.168.50.1")
			run(t, "nsenter", "--net=/run/netns/"+l.container, "ping", "-q", "-c1", "-W2", "fd50::1")
			l.mustGiveBack(rec, before)
		})
	}
}

func TestDownNICComesBackDown(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.ip(l.host, "addr add 192.168.50.5/24 dev ens5")
	before := l.state(l.host, "ens5")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	l.mustGiveBack(rec, before)
}

func TestKeepAddressesTakesThemAlongForGood(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before := l.state(l.host, "ens5")
	rec := l.snapshot()
	l.mustAttach(rec, Config{KeepAddresses: true})
	got := l.ip(l.container, "-o addr show dev net0")
	for _, want := range []string{"192.168.50.5/24", "192.168.80.5/24", "10.9.0.1 peer 10.9.0.2/32", "fd50::5/64", "fd53::5/64"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s was not kept:\n%s", want, got)
		}
	}
	for _, not := range []string{"ens5", "dynamic", "fe80::5/", "nodad tentative"} {
		if strings.Contains(got, not) {
			t.Errorf("%q in the container:\n%s", not, got)
		}
	}
	if routes := l.ip(l.container, "route show table all"); strings.Contains(routes, "10.77.0.0/16") {
		t.Errorf("the host's routes went along:\n%s", routes)
	}
	l.mustGiveBack(rec, before)
}

func TestNameTakenInTheContainer(t *testing.T) {
	occupy := map[string]string{
		"by a name":     "link add net0 type veth peer name other",
		"by an altname": "link property add dev lo altname net0",
	}
	for how, command := range occupy {
		t.Run(how+", found beforehand", func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.rich()
			l.ip(l.container, command)
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			err := l.attach(rec, full())
			if err == nil || !strings.Contains(err.Error(), "net0 already") || !strings.Contains(err.Error(), nicMAC+" (ens5)") {
				t.Errorf("error %v", err)
			}
			l.same(before)
		})
		t.Run(how+", meanwhile", func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.rich()
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			a := &attach{host: l.hostNS, target: l.containerNS, rec: rec, cfg: full(), save: func() error { return nil }}
			a.passed = func(step string) {
				if step == "save" {
					l.ip(l.container, command)
				}
			}
			err := a.run(context.Background())
			if err == nil || !strings.Contains(err.Error(), "name nic") || !strings.Contains(err.Error(), "net0 already") {
				t.Errorf("error %v", err)
			}
			l.same(before)
		})
	}
}

// The engine works on the namespace at the same time: what was free when we looked
// may be taken when the kernel looks.
func TestAltNameTakenMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	a := &attach{host: l.hostNS, target: l.containerNS, rec: rec, cfg: full(), save: func() error { return nil }}
	a.passed = func(step string) {
		if step == "altnames" {
			l.ip(l.container, "link property add dev lo altname enp0s5")
		}
	}
	err := a.run(context.Background())
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "move nic "+nicMAC+" (ens5) into the container") || rec.InnerIndex != 0 {
		t.Errorf("error %v", err)
	}
	l.same(before)
}

func TestNamesThatCollideOnTheWay(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	l.ip(l.host, "link property add dev ens5 altname net0")
	// The host's name, and two of its altnames, are others' in the container.
	l.ip(l.container, "link add ens5 type veth peer name enp0s5")
	l.ip(l.container, "link property add dev lo altname a-name-with-more-than-fifteen-bytes")
	before, inside := l.state(l.host, "ens5"), l.state(l.container, "ens5")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	l.mustGiveBack(rec, before)
	if now := l.state(l.container, "ens5"); now != inside {
		t.Errorf("the container's own interface changed:\n%s", difference(inside, now))
	}
}

func TestIndexTakenInTheContainer(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	l.ip(l.container, "link add other index "+itoa(rec.Index)+" type veth peer name more index 77")
	l.mustAttach(rec, full())
	if rec.InnerIndex == rec.Index || rec.InnerIndex == 0 {
		t.Errorf("inner index %d, host's %d", rec.InnerIndex, rec.Index)
	}
	l.mustGiveBack(rec, before)
}

// errKilled stands for a SIGKILL: nothing is undone by the one who got it.
var errKilled = errors.New("killed")

// survived reports whether what was recovered is errKilled; another panic goes on.
func survived(recovered any) bool {
	if err, ok := recovered.(error); ok && errors.Is(err, errKilled) {
		return true
	}
	if recovered != nil {
		panic(recovered)
	}
	return false
}

func killedAfter(l *lab, rec *ledger.NIC, last string) {
	a := &attach{host: l.hostNS, target: l.containerNS, rec: rec, cfg: full()}
	onDisk := *rec
	a.save = func() error { onDisk = *rec; return nil }
	a.passed = func(step string) {
		if step == last {
			panic(errKilled)
		}
	}
	defer func() {
		survived(recover())
		*rec = onDisk
	}()
	_ = a.run(context.Background())
}

func TestKilledAfterEachStep(t *testing.T) {
	steps := []string{"down", "altnames", "move", "save", "rename", "mtu", "sysctls", "addresses", "up", "routes", "announce"}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.rich()
			l.ip(l.container, "link property add dev lo altname enp0s5")
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			killedAfter(l, rec, step)
			l.mustGiveBack(rec, before)
		})
	}
}

func TestErrorUndoesTheAttach(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	t.Run("in save", func(t *testing.T) {
		noSpace := errors.New("no space left on /run")
		err := Attach(context.Background(), l.hostNS, l.containerNS, rec, full(), func() error { return noSpace })
		if !errors.Is(err, noSpace) || !strings.Contains(err.Error(), "save where nic "+nicMAC+" (ens5) is") {
			t.Errorf("error %v", err)
		}
		l.same(before)
	})
	t.Run("by the context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		late := errors.New("hook timed out")
		a := &attach{host: l.hostNS, target: l.containerNS, rec: rec, cfg: full(), save: func() error { return nil }}
		a.passed = func(step string) {
			if step == "routes" {
				cancel(late)
			}
		}
		if err := a.run(ctx); !errors.Is(err, late) {
			t.Errorf("error %v", err)
		}
		l.same(before)
	})
	t.Run("of the kernel", func(t *testing.T) {
		cfg := full()
		cfg.MTU = 70000
		if err := l.attach(rec, cfg); err == nil || !strings.Contains(err.Error(), "set the MTU of nic") {
			t.Errorf("error %v", err)
		}
		l.same(before)
	})
	if rules := l.ip(l.container, "rule"); strings.Contains(rules, "20000") {
		t.Errorf("rules are left:\n%s", rules)
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.up()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	for name, c := range map[string]struct {
		change func(*ledger.NIC, *Config)
		want   string
	}{
		"name too long":     {func(r *ledger.NIC, _ *Config) { r.Interface = "sixteen-bytes-xx" }, "more than 15 bytes"},
		"name is template":  {func(r *ledger.NIC, _ *Config) { r.Interface = "net%d" }, "not one that the kernel takes"},
		"no v6 address":     {func(_ *ledger.NIC, c *Config) { c.Addresses = prefixes("192.168.50.9/24") }, "the nic has no IPv6 address"},
		"no v4 address":     {func(_ *ledger.NIC, c *Config) { c.Addresses = prefixes("fd50::9/64") }, "the nic has no IPv4 address"},
		"two gateways":      {func(_ *ledger.NIC, c *Config) { c.Gateways = addrs("192.168.50.1", "192.168.50.2") }, "both IPv4"},
		"no gateway at all": {func(_ *ledger.NIC, c *Config) { c.Gateways, c.DefaultRoute = nil, true }, "neither request nor pool has a gateway"},
		"default as route":  {func(_ *ledger.NIC, c *Config) { c.Routes = []Route{{Destination: prefixes("0.0.0.0/0")[0]}} }, "asked for by gateway"},
		"candor's table":    {func(_ *ledger.NIC, c *Config) { c.Routes[0].Table = tableBase + 1 }, "table 10001 is one of candor's own"},
		"mixed families":    {func(_ *ledger.NIC, c *Config) { c.Routes[0].Gateway = addrs("fd50::1")[0] }, "other family"},
		"MTU below IPv6's":  {func(_ *ledger.NIC, c *Config) { c.MTU = 1000 }, "needs 1280|they need 1280"},
		"NIC has gone away": {func(r *ledger.NIC, _ *Config) { r.Index = 4711 }, "is not on this node"},
	} {
		t.Run(name, func(t *testing.T) {
			r, cfg := *rec, full()
			c.change(&r, &cfg)
			err := l.attach(&r, cfg)
			if err == nil || !slices.ContainsFunc(strings.Split(c.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	var refused *RefusedError
	if err := Attach(context.Background(), l.hostNS, l.hostNS, rec, full(), nil); !errors.As(err, &refused) {
		t.Errorf("the host's own namespace: %v", err)
	}
	l.same(before)
}
