package nic

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// routeTo asks the kernel which way a packet goes.
func (l *lab) routeTo(to, from string) (dev, via string) {
	l.t.Helper()
	args := "-j route get " + to
	if from != "" {
		args += " from " + from
	}
	var got []struct {
		Dev     string `json:"dev"`
		Gateway string `json:"gateway"`
	}
	if err := json.Unmarshal([]byte(l.ip(l.container, args)), &got); err != nil {
		l.t.Fatal(err)
	}
	return got[0].Dev, got[0].Gateway
}

func TestGatewayIsTheLastResortAndTheWayOfItsOwnAddresses(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	rec := l.snapshot()
	l.mustAttach(rec, full())
	if dev, via := l.routeTo("8.8.8.8", ""); dev != "net0" || via != "192.168.50.1" {
		t.Errorf("alone: through %s by %s", dev, via)
	}
	if dev, via := l.routeTo("2001:db8::8", ""); dev != "net0" || via != "fd50::1" {
		t.Errorf("alone: through %s by %s", dev, via)
	}
	// The engine's network comes later, with engines' metric.
	l.ip(l.container, "link add eth0 type veth peer name engine")
	l.ip(l.container, "link set eth0 up")
	l.ip(l.container, "link set engine up")
	l.ip(l.container, "addr add 10.88.0.2/16 dev eth0")
	l.ip(l.container, "-6 addr add fd88::2/64 dev eth0 nodad")
	l.ip(l.container, "route add default via 10.88.0.1")
	l.ip(l.container, "-6 route add default via fd88::1")
	for _, c := range []struct{ to, from, dev, via string }{
		{"8.8.8.8", "", "eth0", "10.88.0.1"},
		{"2001:db8::8", "", "eth0", "fd88::1"},
		{"8.8.8.8", "192.168.50.9", "net0", "192.168.50.1"},
		{"2001:db8::8", "fd50::9", "net0", "fd50::1"},
		{"8.8.8.8", "10.88.0.2", "eth0", "10.88.0.1"},
		{"192.168.50.77", "192.168.50.9", "net0", ""}, // a neighbour, not by the gateway
		{"fd50::77", "fd50::9", "net0", ""},
		{"10.1.2.3", "", "net0", "192.168.50.1"},
		{"10.1.2.3", "192.168.50.9", "net0", "192.168.50.1"},
		{"10.2.2.3", "192.168.50.9", "net0", ""},
		{"fd99::3", "", "net0", "fd50::1"},
	} {
		if dev, via := l.routeTo(c.to, c.from); dev != c.dev || via != c.via {
			t.Errorf("to %s from %q: through %s by %q, want %s by %q", c.to, c.from, dev, via, c.dev, c.via)
		}
	}
	if err := l.giveBack(rec); err != nil {
		t.Fatal(err)
	}
	// A pod's namespace lives on: only what is not candor's stays.
	for _, family := range []string{"-4", "-6"} {
		if rules := l.ip(l.container, family+" rule"); strings.Contains(rules, "20000:") {
			t.Errorf("rules are left:\n%s", rules)
		}
	}
	if dev, _ := l.routeTo("8.8.8.8", ""); dev != "eth0" {
		t.Errorf("the engine's default route has gone")
	}
}

func TestDefaultRouteTakesTheEnginesMetric(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	rec := l.snapshot()
	cfg := full()
	cfg.DefaultRoute = true
	l.mustAttach(rec, cfg)
	if r := l.ip(l.container, "route show default"); !strings.Contains(r, "via 192.168.50.1 dev net0") || strings.Contains(r, "metric") {
		t.Errorf("%s", r)
	}
	if r := l.ip(l.container, "-6 route show default"); !strings.Contains(r, "via fd50::1 dev net0") || !strings.Contains(r, "metric 1024") {
		t.Errorf("%s", r)
	}
}

func TestDefaultRouteIsAnErrorWhereOneExists(t *testing.T) {
	for family, commands := range map[string][]string{
		"IPv4": {"addr add 10.88.0.2/16 dev eth0", "route add default via 10.88.0.1"},
		"IPv6": {"-6 addr add fd88::2/64 dev eth0 nodad", "-6 route add default via fd88::1"},
	} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "veth")
			l.up()
			l.ip(l.container, "link add eth0 type veth peer name engine")
			l.ip(l.container, "link set eth0 up")
			for _, c := range commands {
				l.ip(l.container, c)
			}
			before, rec := l.state(l.host, "ens5"), l.snapshot()
			cfg := full()
			cfg.DefaultRoute = true
			if err := l.attach(rec, cfg); err == nil || !strings.Contains(err.Error(), "default route already, through eth0") {
				t.Errorf("error %v", err)
			}
			l.same(before)
		})
	}
}

func TestGatewayOutsideTheSubnets(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	rec := l.snapshot()
	l.mustAttach(rec, Config{
		Addresses: prefixes("203.0.113.7/32", "fd70::7/128"),
		Gateways:  addrs("169.254.1.1", "fe80::1"),
		Routes:    []Route{{Destination: netip.MustParsePrefix("10.1.2.3/16"), Gateway: netip.MustParseAddr("172.16.0.1")}},
	})
	for to, want := range map[string]string{"8.8.8.8": "169.254.1.1", "2001:db8::8": "fe80::1", "10.1.9.9": "172.16.0.1"} {
		if dev, via := l.routeTo(to, ""); dev != "net0" || via != want {
			t.Errorf("to %s: through %s by %s", to, dev, via)
		}
	}
	// In the NIC's own table too.
	for from, to := range map[string][2]string{"203.0.113.7": {"8.8.8.8", "169.254.1.1"}, "fd70::7": {"2001:db8::8", "fe80::1"}} {
		if dev, via := l.routeTo(to[0], from); dev != "net0" || via != to[1] {
			t.Errorf("to %s from %s: through %s by %s", to[0], from, dev, via)
		}
	}
}

// An IPv6 gateway that is no link-local address either is taken to be on the link.
func TestIPv6GatewayOutsideTheSubnets(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	rec := l.snapshot()
	l.mustAttach(rec, Config{Addresses: prefixes("fd70::7/128"), Gateways: addrs("fd71::1"), DefaultRoute: true})
	for _, from := range []string{"", "fd70::7"} {
		if dev, via := l.routeTo("2001:db8::8", from); dev != "net0" || via != "fd71::1" {
			t.Errorf("from %q: through %s by %s", from, dev, via)
		}
	}
}

func TestRoutesWithMetricsAndTables(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.rich()
	before, rec := l.state(l.host, "ens5"), l.snapshot()
	to, gw := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParseAddr("192.168.50.1")
	cfg := full()
	cfg.Routes = []Route{
		{Destination: to, Gateway: netip.MustParseAddr("192.168.50.77"), Metric: 700},
		{Destination: to, Gateway: gw, Metric: 50},
		{Destination: to, Table: 100},
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw, Metric: 5, Table: 100},
		{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd50::1"), Table: 100},
	}
	l.mustAttach(rec, cfg)
	for _, from := range []string{"", "192.168.50.9"} {
		if dev, via := l.routeTo("10.1.2.3", from); dev != "net0" || via != gw.String() {
			t.Errorf("from %q: through %s by %q, want the route of the better metric", from, dev, via)
		}
	}
	for _, want := range []struct{ table, route string }{
		{"main", "10.1.0.0/16 via 192.168.50.77 dev net0 proto static metric 700"},
		{"main", "10.1.0.0/16 via 192.168.50.1 dev net0 proto static metric 50"},
		{"main", "default via 192.168.50.1 dev net0 proto static metric 4096"},
		{"100", "default via 192.168.50.1 dev net0 proto static metric 5"},
		{"100", "10.1.0.0/16 dev net0 proto static scope link"},
		{itoa(tableOf(rec)), "10.1.0.0/16 via 192.168.50.1 dev net0 proto static metric 50"},
	} {
		if got := l.ip(l.container, "route show table "+want.table); !strings.Contains(got, want.route) {
			t.Errorf("no %q in table %s:\n%s", want.route, want.table, got)
		}
	}
	if got := l.ip(l.container, "-6 route show table 100"); !strings.Contains(got, "default via fd50::1 dev net0") {
		t.Errorf("IPv6 in table 100:\n%s", got)
	}
	// No rule leads to a table that somebody asked for.
	if rules := l.ip(l.container, "rule"); strings.Contains(rules, "lookup 100 ") || strings.Contains(rules, "lookup 100\n") {
		t.Errorf("rules:\n%s", rules)
	}
	l.mustGiveBack(rec, before)
}

func TestTwoNICsInOneContainer(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	l.ip(l.host, "link add ens6 address 52:54:0e:e5:00:f8 type veth peer name p1 netns "+l.peer)
	l.ip(l.peer, "link set p1 up")
	before := l.state(l.host, "ens5")
	first := l.snapshot()
	link, err := l.hostNS.handle.LinkByName("ens6")
	if err != nil {
		t.Fatal(err)
	}
	second, err := Snapshot(l.hostNS, link)
	if err != nil {
		t.Fatal(err)
	}
	second.Interface = "net1"
	l.mustAttach(first, Config{Addresses: prefixes("192.168.50.9/24"), Gateways: addrs("192.168.50.1")})
	l.mustAttach(&second, Config{Addresses: prefixes("192.168.50.10/24"), Gateways: addrs("192.168.50.2"), Routes: nil})
	for from, want := range map[string]string{"192.168.50.9": "net0", "192.168.50.10": "net1"} {
		for _, to := range []string{"8.8.8.8", "192.168.50.77"} {
			if dev, _ := l.routeTo(to, from); dev != want {
				t.Errorf("to %s from %s: through %s", to, from, dev)
			}
		}
	}
	if err := l.giveBack(&second); err != nil {
		t.Fatal(err)
	}
	if rules := l.ip(l.container, "rule"); !strings.Contains(rules, "192.168.50.9") || strings.Contains(rules, "192.168.50.10") {
		t.Errorf("rules after the second has gone:\n%s", rules)
	}
	l.mustGiveBack(first, before)
	if got := l.links(l.host); !slices.Contains(got, "ens6") {
		t.Errorf("host has %v", got)
	}
}

// Engines turn IPv6 off in namespaces that they give none.
func TestIPv6WhereTheNamespaceHasItOff(t *testing.T) {
	t.Parallel()
	l := newLab(t, "veth")
	for _, which := range []string{"all", "default"} {
		l.sysctl(l.container, "ipv6/conf/"+which+"/disable_ipv6", "1")
	}
	rec := l.snapshot()
	l.mustAttach(rec, full())
	run(t, "nsenter", "--net=/run/netns/"+l.container, "ping", "-q", "-c1", "-W2", "fd50::1")
	run(t, "nsenter", "--net=/run/netns/"+l.peer, "ping", "-q", "-c1", "-W2", "fd50::9")
}
