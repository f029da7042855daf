package nic

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
)

const nicMAC = "52:54:0e:e5:00:f7"

// lab is a host with a NIC ens5 on a wire to p0 of a peer, and a container.
type lab struct {
	t                     testing.TB
	host, peer, container string // as ip netns knows them
	hostNS, containerNS   *Namespace
}

// newLab makes the namespaces. kind is that of ens5: veth, or macvlan on low0.
func newLab(t testing.TB, kind string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs root")
	}
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	prefix := fmt.Sprintf("nictest-%x-", b)
	l := &lab{t: t, host: prefix + "h", peer: prefix + "p", container: prefix + "c"}
	for _, ns := range []string{l.host, l.peer, l.container} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() {
			if _, err := os.Stat("/run/netns/" + ns); err == nil {
				run(t, "ip", "netns", "del", ns)
			}
		})
		l.ip(ns, "link set lo up")
	}
	// Duplicate address detection takes a second or two each time.
	l.sysctl(l.host, "ipv6/conf/default/dad_transmits", "0")
	switch kind {
	case "veth":
		l.ip(l.host, "link add ens5 address "+nicMAC+" type veth peer name p0 netns "+l.peer)
	case "macvlan":
		l.ip(l.host, "link add low0 type veth peer name p0 netns "+l.peer)
		l.ip(l.host, "link set low0 up")
		l.ip(l.host, "link add ens5 link low0 address "+nicMAC+" type macvlan mode bridge")
	}
	l.ip(l.peer, "link set p0 up")
	l.ip(l.peer, "addr add 192.168.50.1/24 dev p0")
	l.ip(l.peer, "addr add fd50::1/64 dev p0 nodad")
	l.hostNS, l.containerNS = l.open(l.host), l.open(l.container)
	return l
}

func (l *lab) open(name string) *Namespace {
	l.t.Helper()
	ns, err := Open("/run/netns/" + name)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ns.Close() })
	return ns
}

// rich gives ens5 on the host one of everything that has to come back.
func (l *lab) rich() {
	h := l.host
	l.ip(h, "link set ens5 mtu 1452 txqueuelen 77 alias rack-7/port-3")
	l.ip(h, "link set ens5 gso_max_size 32768")
	l.ip(h, "link property add dev ens5 altname enp0s5 altname a-name-with-more-than-fifteen-bytes")
	l.sysctl(h, "ipv4/conf/ens5/rp_filter", "2")
	l.sysctl(h, "ipv4/conf/ens5/arp_ignore", "1")
	l.sysctl(h, "ipv4/conf/ens5/proxy_arp", "1")
	l.sysctl(h, "ipv6/conf/ens5/accept_ra", "0")
	l.sysctl(h, "ipv4/neigh/ens5/gc_stale_time", "77")
	l.ip(h, "link set ens5 up")
	l.ip(h, "addr add 192.168.50.5/24 brd + dev ens5")
	l.ip(h, "addr add 192.168.50.6/24 dev ens5 label ens5:second")
	l.ip(h, "addr add 192.168.60.5/24 dev ens5 metric 300")
	l.ip(h, "addr add 192.168.70.5/24 dev ens5 noprefixroute")
	l.ip(h, "addr add 10.9.0.1 peer 10.9.0.2/32 dev ens5 scope link")
	l.ip(h, "addr add 192.168.80.5/24 dev ens5 valid_lft 7200 preferred_lft 3600")
	l.ip(h, "-6 addr add fd50::5/64 dev ens5 nodad")
	l.ip(h, "-6 addr add fd51::5/64 dev ens5")
	l.ip(h, "-6 addr add fd52::5/64 dev ens5 valid_lft 7200 preferred_lft 0")
	l.ip(h, "-6 addr add fd53::5/64 dev ens5 metric 99")
	l.ip(h, "-6 addr add fe80::5/64 dev ens5")
	l.eventually("no address is tentative", func() bool { return !strings.Contains(l.ip(h, "addr show ens5"), "tentative") })
	l.ip(h, "route add 192.168.70.0/24 dev ens5 proto kernel scope link src 192.168.70.5 metric 100")
	l.ip(h, "route add 10.77.0.0/16 via 192.168.50.1 mtu 1300 metric 20")
	l.ip(h, "route add 10.78.0.0/16 via 10.200.0.1 dev ens5 onlink")
	l.ip(h, "route add 10.79.0.0/16 via inet6 fd50::1 dev ens5")
	l.ip(h, "route add default via 192.168.50.1 table 4711 src 192.168.50.6")
	l.ip(h, "-6 route add fd77::/64 via fd50::1 src fd51::5")
	l.ip(h, "-6 route add default via fe80::99 dev ens5 table 4711 metric 5")
}

// up brings ens5 up on the host and waits until the kernel has done its part.
func (l *lab) up() {
	l.t.Helper()
	l.ip(l.host, "link set ens5 up")
	l.eventually("the NIC is up", func() bool {
		now := l.ip(l.host, "addr show ens5")
		return strings.Contains(now, "state UP") && strings.Contains(now, "fe80") && !strings.Contains(now, "tentative")
	})
}

func (l *lab) sysctl(ns, path, value string) {
	l.t.Helper()
	n, err := Open("/run/netns/" + ns)
	if err != nil {
		l.t.Fatal(err)
	}
	defer n.Close()
	if err := n.Do(func() error { return writeSysctl("/proc/sys/net/"+path, value) }); err != nil {
		l.t.Fatal(err)
	}
}

// state is all that ip and sysctl show of an interface.
func (l *lab) state(ns, dev string) string {
	l.t.Helper()
	var out []string
	for _, what := range []string{"-d addr show dev ", "-d -4 route show table all dev ", "-d -6 route show table all dev "} {
		var v any
		if err := json.Unmarshal([]byte(l.ip(ns, "-j "+what+dev)), &v); err != nil {
			l.t.Fatal(err)
		}
		b, err := json.MarshalIndent(steady(v), "", " ")
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, string(b))
	}
	n := l.open(ns)
	set, err := n.sysctls(dev)
	if err != nil {
		l.t.Fatal(err)
	}
	b, _ := json.MarshalIndent(set, "", " ")
	return strings.Join(append(out, string(b)), "\n")
}

// steady takes out what runs by itself, seconds that are left, and orders that
// mean nothing: of altnames, and of link-local addresses, of which the kernel
// makes its own when the carrier comes.
func steady(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = steady(v[i])
		}
		slices.SortStableFunc(v, func(a, b any) int {
			nameA, okA := a.(string)
			nameB, okB := b.(string)
			if !okA || !okB {
				nameA, nameB = linkLocalOf(a), linkLocalOf(b)
			}
			return strings.Compare(nameA, nameB)
		})
	case map[string]any:
		for key, x := range v {
			if n, ok := x.(float64); ok && (strings.HasSuffix(key, "_life_time") || key == "expires") && n > 0 && n < 4294967295 {
				v[key] = "limited"
				continue
			}
			v[key] = steady(x)
		}
	}
	return v
}

func linkLocalOf(v any) string {
	m, _ := v.(map[string]any)
	local, _ := m["local"].(string)
	if strings.HasPrefix(local, "fe80") {
		return local
	}
	return ""
}

// same waits until the interface looks as before: carrier and duplicate address
// detection take their time.
func (l *lab) same(before string) {
	l.t.Helper()
	var now string
	for range 60 {
		if now = l.state(l.host, "ens5"); now == before {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Helper()
	l.t.Errorf("the NIC is not as it was:\n%s", difference(before, now))
}

func difference(before, now string) string {
	a, b := strings.Split(before, "\n"), strings.Split(now, "\n")
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	var out []string
	for s, n := range count {
		if n > 0 {
			out = append(out, "before: "+s)
		} else if n < 0 {
			out = append(out, "now:    "+s)
		}
	}
	if len(out) == 0 {
		for i := range a {
			if a[i] != b[i] {
				out = append(out, "in another order: "+a[i]+" / "+b[i])
			}
		}
		return strings.Join(out, "\n")
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for range 100 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Fatalf("never: %s", what)
}

// ip runs ip in a namespace.
func (l *lab) ip(ns, args string) string {
	l.t.Helper()
	return run(l.t, "ip", append([]string{"-n", ns}, strings.Fields(args)...)...)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		var stderr []byte
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			stderr = exit.Stderr
		}
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr)
	}
	return string(out)
}

// links are the names of a namespace's interfaces but lo.
func (l *lab) links(ns string) []string {
	l.t.Helper()
	var links []struct {
		Name string `json:"ifname"`
	}
	if err := json.Unmarshal([]byte(l.ip(ns, "-j link")), &links); err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, link := range links {
		if link.Name != "lo" {
			names = append(names, link.Name)
		}
	}
	return names
}

// snapshot finds ens5 and takes down how it is.
func (l *lab) snapshot() *ledger.NIC {
	l.t.Helper()
	mac, _ := net.ParseMAC(nicMAC)
	link, err := Find(l.hostNS, Selector{MAC: mac, MACs: []string{"*"}})
	if err != nil {
		l.t.Fatal(err)
	}
	rec, err := Snapshot(l.hostNS, link)
	if err != nil {
		l.t.Fatal(err)
	}
	rec.Pool, rec.Interface = "cloud", "net0"
	return &rec
}

func (l *lab) attach(rec *ledger.NIC, cfg Config) error {
	return Attach(context.Background(), l.hostNS, l.containerNS, rec, cfg, func() error { return nil })
}

func (l *lab) mustAttach(rec *ledger.NIC, cfg Config) {
	l.t.Helper()
	if err := l.attach(rec, cfg); err != nil {
		l.t.Fatal(err)
	}
}

// giveBack gives back from a copy of the record that went through JSON, as all
// but the attaching process do.
func (l *lab) giveBack(rec *ledger.NIC) error {
	l.t.Helper()
	b, err := json.Marshal(rec)
	if err != nil {
		l.t.Fatal(err)
	}
	var saved ledger.NIC
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&saved); err != nil {
		l.t.Fatal(err)
	}
	return GiveBack(context.Background(), l.hostNS, []*Namespace{l.containerNS}, &saved)
}

// mustGiveBack gives back twice and wants the host as before, and the container
// without anything.
func (l *lab) mustGiveBack(rec *ledger.NIC, before string) {
	l.t.Helper()
	for range 2 {
		if err := l.giveBack(rec); err != nil {
			l.t.Fatal(err)
		}
		l.same(before)
	}
	for _, family := range []string{"-4", "-6"} {
		if rules := l.ip(l.container, family+" rule"); strings.Contains(rules, "lookup 1") {
			l.t.Fatalf("rules are left in the container:\n%s", rules)
		}
	}
}

// try runs a command in a namespace and reports whether it succeeded.
func (l *lab) try(ns, name string, args ...string) bool {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + ns, name}, args...)...).Run() == nil
}
