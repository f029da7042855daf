//go:build amd64

package crash

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// kind is a kind of NIC that the matrix is run with.
type kind struct {
	name string
	// pool is the policy's table [pools.wire].
	pool string
	// missing says what this machine lacks for it, "" if nothing.
	missing string
	// upper is what a container can put upon such a NIC, in the words of ip.
	upper string
	// make gives the node so many NICs, bare, and returns their names. Those
	// that were there are gone afterwards.
	make func(s *stand, count int) []string
}

const hostNICPool = `
kind    = "hostnic"
macs    = ["*"]
`

func kinds() []kind {
	return []kind{
		{name: "veth", pool: hostNICPool, upper: "link add on0 link mine type macvlan", make: makeVeths},
		{name: "macvlan", pool: hostNICPool, make: makeMacvlans},
		hardware(),
	}
}

// makeVeths makes NICs on wires to nobody.
func makeVeths(s *stand, count int) []string {
	var names []string
	for i := range count {
		name := fmt.Sprintf("ens%d", i)
		s.remove(name + "p")
		s.ip("link add %s address 52:54:00:00:00:0%d type veth peer name %sp", name, i, name)
		s.ip("link set %sp up", name)
		names = append(names, name)
	}
	return names
}

// makeMacvlans makes NICs that share a wire.
func makeMacvlans(s *stand, count int) []string {
	s.remove("low0")
	s.ip("link add low0 type veth peer name low0p")
	s.ip("link set low0 up")
	s.ip("link set low0p up")
	var names []string
	for i := range count {
		name := fmt.Sprintf("ens%d", i)
		s.ip("link add %s link low0 address 52:54:00:00:00:0%d type macvlan mode bridge", name, i)
		names = append(names, name)
	}
	return names
}

// hardware are NICs that the machine has to spare, as the test guest has: their
// names in CANDOR_CRASH_NICS, at least three of them, with what else has to be on
// their node, such as the PF of VFs, in CANDOR_CRASH_BESIDE. CANDOR_CRASH_POOL is
// the pool's kind and selection, hostnic with all MACs unless it is set.
//
// With their netdevs in the node's network namespace, the admin settings of VFs
// are part of what has to be as before: ip shows them with the PF.
func hardware() kind {
	nics := strings.Fields(os.Getenv("CANDOR_CRASH_NICS"))
	k := kind{
		name: cmp.Or(os.Getenv("CANDOR_CRASH_KIND"), "hardware"),
		pool: cmp.Or(os.Getenv("CANDOR_CRASH_POOL"), hostNICPool),
		make: func(s *stand, count int) []string {
			for _, name := range append(strings.Fields(os.Getenv("CANDOR_CRASH_BESIDE")), nics...) {
				s.bringHere(name)
			}
			for i, name := range nics {
				s.undress(i, name)
			}
			return nics[:count]
		},
	}
	if len(nics) < 3 {
		k.missing = "needs three NICs to spare, named in CANDOR_CRASH_NICS"
	}
	return k
}

// bringHere moves a device of the machine to the node. The kernel gives it back
// by itself when the node's namespace dies.
func (s *stand) bringHere(name string) {
	s.Helper()
	if exec.Command("ip", "link", "show", name).Run() == nil {
		return
	}
	outside := fmt.Sprintf("--net=/proc/%d/ns/net", os.Getppid())
	if out, err := exec.Command("nsenter", outside, "ip", "link", "set", name, "netns", fmt.Sprint(os.Getpid())).CombinedOutput(); err != nil {
		s.Fatalf("bring %s here: %v: %s", name, err, out)
	}
}

// undress takes off what an earlier row has put on a NIC that cannot be made anew.
func (s *stand) undress(i int, name string) {
	s.Helper()
	s.ip("link set %s down", name)
	s.ip("addr flush dev %s", name)
	exec.Command("ip", "link", "property", "del", "dev", name, "altname", inner(i)).Run() // where there is one
}

// dress gives the NIC number i something of all that has to come back: the first
// has most, the second keeps its addresses in the container, the third is down.
func (s *stand) dress(i int, name string) {
	s.Helper()
	s.ip("link property add dev %s altname %s", name, inner(i))
	switch i {
	case 0:
		s.ip("link set %s mtu 1400 txqueuelen 77 alias rack-7/port-3", name)
		s.ip("link set %s gso_max_size 32768", name)
		s.sysctl("ipv4/conf/"+name+"/rp_filter", "2")
		s.sysctl("ipv4/conf/"+name+"/arp_ignore", "1")
		s.sysctl("ipv6/conf/"+name+"/accept_ra", "0")
		s.sysctl("ipv4/neigh/"+name+"/gc_stale_time", "77")
		s.ip("link set %s up", name)
		s.ip("addr add 198.18.0.2/24 brd + dev %s", name)
		s.ip("addr add 198.18.0.3/24 dev %s label %s:b", name, name)
		s.ip("-6 addr add fd00:18::2/64 dev %s nodad", name)
		s.ip("route add 10.77.0.0/16 via 198.18.0.1 mtu 1300 metric 20")
		s.ip("route add default via 198.18.0.1 table 4711")
		s.ip("-6 route add fd77::/64 via fd00:18::1")
	case 1:
		s.ip("link set %s up", name)
		s.ip("addr add 198.18.1.2/24 dev %s", name)
		s.ip("-6 addr add fd00:19::2/64 dev %s nodad", name)
	case 2:
		// One that was never up is not as one that is down again.
		s.ip("link set %s up", name)
		s.settle()
		s.ip("link set %s down", name)
	}
}

// inner is the name of the NIC number i in a container. On the host it is one of
// its altnames, which has to make room.
func inner(i int) string { return fmt.Sprintf("wire%d", i) }

// asked is the annotation that asks for the NICs. broken asks for a route that the
// last one's address brings along: the kernel refuses it when all else is in place.
func (s *stand) asked(broken bool) string {
	routes := []string{`{"dst":"10.1.0.0/16","gw":"198.18.0.1"}`, "", ""}
	if last := len(s.nics) - 1; broken {
		routes[last] = fmt.Sprintf(`{"dst":"198.18.%d.0/24"}`, last)
	}
	list := []string{
		`{"pool":"wire","interface":"wire0","mac":"%s","ips":["198.18.0.5/24","fd00:18::5/64"],"gateway":["198.18.0.1","fd00:18::1"],"routes":[%s],"mtu":1300}`,
		`{"pool":"wire","interface":"wire1","mac":"%s","routes":[%s]}`,
		`{"pool":"wire","interface":"wire2","mac":"%s","ips":["198.18.2.5/24"],"routes":[%s]}`,
	}[:len(s.nics)]
	for i := range list {
		list[i] = fmt.Sprintf(list[i], s.nics[i].mac, routes[i])
	}
	return "[" + strings.Join(list, ",") + "]"
}
