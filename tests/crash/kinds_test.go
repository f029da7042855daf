//go:build amd64

package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"candor.dev/candor/tests/testnode"
)

// kind is a kind of NIC that the matrix is run with.
type kind struct {
	name string
	// pool is the policy's table [pools.wire].
	pool string
	// asked is the request of each NIC, without its routes.
	asked []string
	// most is how many such NICs the machine can have, 0 for any number.
	most int
	// bare NICs have no addresses on the host: a VF that has some is not given.
	bare bool
	// mac is how a container changes the NIC's MAC, and upper what it can put upon
	// it, in the words of ip.
	mac, upper string
	// own says which calls no other kind has, so that they have to be covered with
	// this one, also where only a sample is.
	own string
	// prepare takes what the NICs are made of from the machine for a whole test, or
	// skips it.
	prepare func(s *stand, count int)
	// make gives the node so many NICs, bare, and returns their names. Those
	// that were there are gone afterwards.
	make func(s *stand, count int) []string
	// pull takes the first of the NICs away, wherever it is; nil where it cannot be
	// had alone.
	pull func(s *stand)
}

const hostNICPool = `
kind    = "hostnic"
macs    = ["*"]
`

// The first NIC gets addresses of its own, the second keeps those that it has.
var hostNICs = []string{
	`"interface":"wire0","mac":"%s","ips":["198.18.0.5/24","fd00:18::5/64"],"gateway":["198.18.0.1","fd00:18::1"],"mtu":1300`,
	`"interface":"wire1","mac":"%s"`,
	`"interface":"wire2","mac":"%s","ips":["198.18.2.5/24"]`,
}

const anotherMAC = "address 52:54:00:00:00:77"

func kinds() []kind {
	return []kind{
		{
			name: "veth", pool: hostNICPool, asked: hostNICs, mac: anotherMAC, upper: "link add on0 link mine type macvlan",
			make: makeVeths,
			pull: func(s *stand) { s.ip("link del ens0p") },
		},
		{name: "macvlan", pool: hostNICPool, asked: hostNICs, mac: anotherMAC, make: makeMacvlans},
		virtio(),
		vf(),
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

// virtio is a NIC as a cloud plugs it in; there is a slot for one.
func virtio() kind {
	const mac = "52:54:0e:e5:00:f7"
	return kind{
		name: "virtio", pool: hostNICPool, asked: hostNICs, mac: anotherMAC, most: 1,
		prepare: func(s *stand, _ int) {
			testnode.SkipWithoutHotplug(s)
			s.Cleanup(func() { testnode.Unplug(s, mac) })
		},
		make: func(s *stand, _ int) []string {
			testnode.Unplug(s, mac)
			testnode.Plug(s, mac, "ens0")
			return []string{"ens0"}
		},
		pull: func(s *stand) { testnode.Unplug(s, mac) },
	}
}

// vf are VFs of a PF, whose settings ip shows with the PF: they are part of what has
// to be as before.
func vf() kind {
	pf, _, _ := strings.Cut(os.Getenv("CANDOR_TEST_PFS"), " ")
	return kind{
		name: "vf",
		pool: fmt.Sprintf(`
			kind   = "vf"
			pfs    = [%q]
			macs   = ["02:*"]
			vlans  = ["100-101"]
			permit = ["spoofchk-off"]
		`, pf),
		asked: []string{
			`"interface":"wire0","mac":"02:00:00:00:00:a0","vlan":100,"spoofchk":false,"max-tx-rate":"100M",
				"ips":["198.18.0.5/24","fd00:18::5/64"],"gateway":["198.18.0.1","fd00:18::1"],"mtu":1300`,
			`"interface":"wire1","vlan":101,"qos":3`,
			`"interface":"wire2","mac":"02:00:00:00:00:a2","ips":["198.18.2.5/24"]`,
		},
		bare:  true,
		upper: "link add on0 link mine type macvlan",
		own:   "netlink RTM_SETLINK vf",
		prepare: func(s *stand, count int) {
			testnode.TakePF(s, testnode.PFs(s)[0], count)
		},
		make: func(s *stand, count int) []string {
			var names []string
			testnode.SetVFs(s, pf, count)
			for i := range count {
				names = append(names, testnode.NameOf(testnode.VF(s, pf, i)))
			}
			return names
		},
		pull: func(s *stand) {
			first := testnode.VF(s, pf, 0)
			testnode.Write(s, filepath.Join(testnode.Driver(s, first), "unbind"), first)
		},
	}
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
	case 1:
		s.ip("link set %s up", name)
	case 2:
		// One that was never up is not as one that is down again.
		s.ip("link set %s up", name)
		s.settle()
		s.ip("link set %s down", name)
	}
	if !s.kind.bare {
		s.address(i, name)
	}
}

// address gives the NIC number i its addresses and routes on the host.
func (s *stand) address(i int, name string) {
	s.Helper()
	switch i {
	case 0:
		s.ip("addr add 198.18.0.2/24 brd + dev %s", name)
		s.ip("addr add 198.18.0.3/24 dev %s label %s:b", name, name)
		s.ip("-6 addr add fd00:18::2/64 dev %s nodad", name)
		s.ip("route add 10.77.0.0/16 via 198.18.0.1 mtu 1300 metric 20")
		s.ip("route add default via 198.18.0.1 table 4711")
		s.ip("-6 route add fd77::/64 via fd00:18::1")
	case 1:
		s.ip("addr add 198.18.1.2/24 dev %s", name)
		s.ip("-6 addr add fd00:19::2/64 dev %s nodad", name)
	}
}

// inner is the name of the NIC number i in a container. On the host it is one of
// its altnames, which has to make room.
func inner(i int) string { return fmt.Sprintf("wire%d", i) }

// asked is the annotation that asks for the NICs. broken asks for a route that the
// last one's address brings along: the kernel refuses it when all else is in place.
func (s *stand) asked(broken bool) string {
	var list []string
	for i, n := range s.nics {
		request := s.kind.asked[i]
		if strings.Contains(request, "%s") {
			request = fmt.Sprintf(request, n.mac)
		}
		route := ""
		switch {
		case broken && i == len(s.nics)-1:
			route = fmt.Sprintf(`{"dst":"198.18.%d.0/24"}`, i)
		case i == 0:
			route = `{"dst":"10.1.0.0/16","gw":"198.18.0.1"}`
		}
		list = append(list, fmt.Sprintf(`{"pool":"wire",%s,"routes":[%s]}`, request, route))
	}
	return "[" + strings.Join(list, ",") + "]"
}
