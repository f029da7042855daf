package policy

import (
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"candor.dev/candor/request"
)

// node is the policy that the tests below ask.
const node = cloud + `
[pools.plain]
kind  = "hostnic"
names = ["ens*"]
allow = ["*"]

[pools.halves]
kind     = "hostnic"
names    = ["ens*"]
subnets  = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"]
gateways = ["10.1.0.1", "10.1.0.2", "10.2.0.1"]
routes   = [{dst = "172.16.0.0/12", gw = "10.2.0.9"}, {dst = "fd02::/16"}]
allow    = ["docker"]

[pools.secret]
kind  = "hostnic"
names = ["ens*"]
allow = ["runc"]

[pools.nobodys]
kind  = "hostnic"
names = ["ens*"]

[pools.fast]
kind  = "vf"
pfs   = ["ens1f0"]
macs  = ["02:*"]
vlan  = 100
vlans = ["100-199", "300"]
min_tx_rate = "1G"
max_tx_rate = "10G"
permit = ["trust"]
subnets = ["192.168.1.0/24"]
allow = ["*"]

[pools.bare]
kind  = "vf"
pfs   = ["ens1f0"]
allow = ["*"]

[egress]
max_limit = "1G"
`

func loadNode(t *testing.T) *Policy {
	t.Helper()
	p, err := loadOwn(write(t, map[string]string{"config.toml": node}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask makes the request of a NIC's compact form.
func ask(t *testing.T, s string) request.NIC {
	t.Helper()
	r, err := request.Parse(map[string]string{request.KeyNIC: s})
	if err != nil {
		t.Fatal(err)
	}
	return r.NICs[0]
}

const mac = "52:54:0e:e5:00:f7"

func TestGrantFillsInThePoolsDefaults(t *testing.T) {
	routes := func(list ...string) (out []request.Route) {
		for _, s := range list {
			dst, gw, _ := strings.Cut(s, " ")
			r, err := request.ParseRoute(dst, gw, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
		return out
	}
	// The one of pool cloud that is in a table of its own.
	apart := request.Route{Dst: netip.MustParsePrefix("fd02::/16"), Metric: 50, Table: 100}
	tests := map[string]struct {
		caller, ask string
		want        Grant // Pool, MAC and Interface left out
	}{
		"all asked for": {
			"containerd:default", "pool=cloud,ip=192.168.1.5/25,ip=fd00:1::5/64,gateway=192.168.1.9,mtu=1300,default-route=true",
			Grant{
				Addresses: prefixes("192.168.1.5/25", "fd00:1::5/64"), Gateways: addrs("192.168.1.9"), MTU: 1300, DefaultRoute: true,
				Routes: append(routes("10.0.0.0/8 192.168.1.254"), apart),
			},
		},
		"address alone": {
			"kubernetes:team-a", "pool=cloud,ip=192.168.1.5",
			Grant{
				Addresses: prefixes("192.168.1.5/24"), Gateways: addrs("192.168.1.1"), MTU: 1400,
				Routes: routes("10.0.0.0/8 192.168.1.254"),
			},
		},
		"IPv6 address alone, link-local gateway": {
			"containerd:default", "pool=cloud,ip=fd00:1::5",
			Grant{Addresses: prefixes("fd00:1::5/64"), Gateways: addrs("fe80::1"), MTU: 1400, Routes: []request.Route{apart}},
		},
		"both families": {
			"containerd:default", "pool=cloud,ip=fd00:1::5,ip=192.168.1.5",
			Grant{
				Addresses: prefixes("fd00:1::5/64", "192.168.1.5/24"), Gateways: addrs("192.168.1.1", "fe80::1"), MTU: 1400,
				Routes: append(routes("10.0.0.0/8 192.168.1.254"), apart),
			},
		},
		"longer prefix keeps the subnet's gateway": {
			"containerd:default", "pool=cloud,ip=192.168.1.5/32",
			Grant{
				Addresses: prefixes("192.168.1.5/32"), Gateways: addrs("192.168.1.1"), MTU: 1400,
				Routes: routes("10.0.0.0/8 192.168.1.254"),
			},
		},
		"bare MAC keeps the addresses": {
			"containerd:default", "pool=cloud", Grant{KeepAddresses: true, MTU: 1400},
		},
		"bare MAC with a gateway": {
			"containerd:default", "pool=cloud,gateway=192.168.1.9,default-route=true",
			Grant{KeepAddresses: true, MTU: 1400, Gateways: addrs("192.168.1.9"), DefaultRoute: true},
		},
		"bare MAC with a default route": {
			"containerd:default", "pool=cloud,default-route=true", Grant{KeepAddresses: true, MTU: 1400, DefaultRoute: true},
		},
		"pool without subnets": {"podman", "pool=plain", Grant{KeepAddresses: true}},
		"narrowest subnet, its gateway and route": {
			"docker", "pool=halves,ip=10.2.0.5",
			Grant{Addresses: prefixes("10.2.0.5/16"), Gateways: addrs("10.2.0.1"), Routes: routes("172.16.0.0/12 10.2.0.9")},
		},
		"first gateway of a subnet": {
			"docker", "pool=halves,ip=10.1.0.5", Grant{Addresses: prefixes("10.1.0.5/16"), Gateways: addrs("10.1.0.1")},
		},
		"prefix of the wider subnet reaches every gateway": {
			"docker", "pool=halves,ip=10.2.0.5/8",
			Grant{Addresses: prefixes("10.2.0.5/8"), Gateways: addrs("10.1.0.1"), Routes: routes("172.16.0.0/12 10.2.0.9")},
		},
		"any address, with its prefix length": {
			"docker", "pool=halves,ip=198.51.100.5/24", Grant{Addresses: prefixes("198.51.100.5/24")},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := loadNode(t)
			n := ask(t, tt.ask+",mac="+mac+",interface=eth7")
			got, err := p.GrantNIC(tt.caller, n)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Pool, tt.want.Interface = p.Pools[n.Pool], "eth7"
			tt.want.MAC, _ = net.ParseMAC(mac)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestKeptAddressesGetThePoolsDefaultsToo(t *testing.T) {
	p := loadNode(t)
	g, err := p.GrantNIC("containerd:default", ask(t, "pool=cloud,mac="+mac))
	if err != nil {
		t.Fatal(err)
	}
	if g := g.WithDefaults(prefixes("192.168.1.5/24")); !reflect.DeepEqual(g.Gateways, addrs("192.168.1.1")) || len(g.Routes) != 1 || !g.KeepAddresses {
		t.Errorf("in the pool's subnet: %+v", g)
	}
	if g := g.WithDefaults(prefixes("203.0.113.5/24")); len(g.Gateways) != 0 || len(g.Routes) != 0 {
		t.Errorf("outside the pool's subnets: %+v", g)
	}
	if g := g.WithDefaults(prefixes("fe80::5/64")); len(g.Gateways) != 0 {
		t.Errorf("with a link-local address only: %+v", g)
	}
	g.Gateways = addrs("192.168.1.9")
	if g := g.WithDefaults(prefixes("192.168.1.5/24")); !reflect.DeepEqual(g.Gateways, addrs("192.168.1.9")) {
		t.Errorf("with a gateway of its own: %+v", g)
	}
}

func TestGrantRefuses(t *testing.T) {
	tests := map[string]struct{ caller, ask, want string }{
		"no caller":              {"", "pool=cloud,mac=" + mac, `pool cloud for caller (none): nobody says who asks (--caller is missing), and without a caller nothing is granted (policy config.toml)`},
		"no caller, open pool":   {"", "pool=plain,mac=" + mac, `pool plain for caller (none): nobody says who asks (--caller is missing), and without a caller nothing is granted (policy config.toml)`},
		"caller not allowed":     {"containerd:other", "pool=cloud,mac=" + mac, `pool cloud for caller containerd:other: the caller is not allowed to use the pool (policy config.toml)`},
		"caller only begins so":  {"containerd:default2", "pool=cloud,mac=" + mac, `pool cloud for caller containerd:default2: the caller is not allowed to use the pool (policy config.toml)`},
		"pool that is nobody's":  {"runc", "pool=nobodys,mac=" + mac, `pool nobodys for caller runc: the caller is not allowed to use the pool (policy config.toml)`},
		"unknown pool, near":     {"docker", "pool=plane,mac=" + mac, `pool plane for caller docker: there is no such pool; did you mean "plain"? (policy config.toml)`},
		"unknown pool, none":     {"docker", "pool=xyzzyxyzzy,mac=" + mac, `pool xyzzyxyzzy for caller docker: there is no such pool; the caller may use bare, fast, halves, plain (policy config.toml)`},
		"near is another's pool": {"docker", "pool=secrets,mac=" + mac, `pool secrets for caller docker: there is no such pool; the caller may use bare, fast, halves, plain (policy config.toml)`},
		"caller in two lines":    {"docker\nx", "pool=cloud,mac=" + mac, `pool cloud for caller "docker\nx": the caller is not allowed to use the pool (policy config.toml)`},
		"MAC of no macs":         {"docker", "pool=bare,mac=" + mac, `pool bare for caller docker: mac: the pool has no macs, so that none can be asked for (policy config.toml)`},
		"MAC of others":          {"docker", "pool=fast,mac=" + mac, `pool fast for caller docker: mac ` + mac + ` is none of the pool's (02:*) (policy config.toml)`},
		"VLAN of others":         {"docker", "pool=fast,vlan=200", `pool fast for caller docker: vlan 200 is none of the pool's (100-199, 300) (policy config.toml)`},
		"out of the pool's VLAN": {"docker", "pool=fast,vlan=0", `pool fast for caller docker: vlan 0 is none of the pool's (100-199, 300) (policy config.toml)`},
		"VLAN of no vlans":       {"docker", "pool=bare,vlan=5", `pool bare for caller docker: vlan 5: the pool has no vlans, so that none can be asked for (policy config.toml)`},
		"rate above the pool's":  {"docker", "pool=fast,max-tx-rate=11G", `pool fast for caller docker: max-tx-rate 11G: the pool's max_tx_rate is 10G (policy config.toml)`},
		"guarantee above":        {"docker", "pool=fast,min-tx-rate=2G", `pool fast for caller docker: min-tx-rate 2G: the pool's min_tx_rate is 1G (policy config.toml)`},
		"guarantee of none":      {"docker", "pool=bare,min-tx-rate=1M", `pool bare for caller docker: min-tx-rate 1M: the pool has no min_tx_rate, so that no guarantee can be asked for (policy config.toml)`},
		"trust":                  {"docker", "pool=bare,trust=true", `pool bare for caller docker: "trust": true is more than the pool permits: it would have to say permit = ["trust"] (policy config.toml)`},
		"spoofing":               {"docker", "pool=fast,spoofchk=false", `pool fast for caller docker: "spoofchk": false is more than the pool permits: it would have to say permit = ["spoofchk-off"] (policy config.toml)`},
		"promiscuous host NIC":   {"docker", "pool=plain,promisc=true,mac=" + mac, `pool plain for caller docker: "promisc": true is more than the pool permits: it would have to say permit = ["promisc"] (policy config.toml)`},
		"no selector":            {"docker", "pool=plain", `pool plain for caller docker: no selector: a request to a hostnic pool says by "mac" which NIC it wants (policy config.toml)`},
		"vlan":                   {"docker", "pool=plain,vlan=0,mac=" + mac, `pool plain for caller docker: "vlan" can be asked only of a vf pool, and this one is of kind hostnic (policy config.toml)`},
		"address without subnets": {
			"docker", "pool=plain,ip=10.0.0.5/24,mac=" + mac,
			`pool plain for caller docker: address 10.0.0.5/24: the pool has no subnets, so that no address can be asked for (policy config.toml)`,
		},
		"address outside": {
			"containerd:default", "pool=cloud,ip=192.168.2.5/24,mac=" + mac,
			`pool cloud for caller containerd:default: address 192.168.2.5/24 is outside the pool's subnets (192.168.1.0/24, fd00:1::/64) (policy config.toml)`,
		},
		"bare address outside": {
			"containerd:default", "pool=cloud,ip=192.168.2.5,mac=" + mac,
			`pool cloud for caller containerd:default: address 192.168.2.5 is outside the pool's subnets (192.168.1.0/24, fd00:1::/64) (policy config.toml)`,
		},
		"second address outside": {
			"containerd:default", "pool=cloud,ip=192.168.1.5,ip=fd00:2::5,mac=" + mac,
			`pool cloud for caller containerd:default: address fd00:2::5 is outside the pool's subnets (192.168.1.0/24, fd00:1::/64) (policy config.toml)`,
		},
		"prefix wider than the subnet": {
			"containerd:default", "pool=cloud,ip=192.168.1.5/16,mac=" + mac,
			`pool cloud for caller containerd:default: address 192.168.1.5/16 reaches beyond the pool's subnet 192.168.1.0/24 (policy config.toml)`,
		},
		"bare address of the network": {
			"containerd:default", "pool=cloud,ip=192.168.1.0,mac=" + mac,
			`pool cloud for caller containerd:default: address "192.168.1.0/24" is the address of the network, not of a host in it (policy config.toml)`,
		},
		"bare broadcast address": {
			"containerd:default", "pool=cloud,ip=192.168.1.255,mac=" + mac,
			`pool cloud for caller containerd:default: address "192.168.1.255/24" is the broadcast address of its network (policy config.toml)`,
		},
		"the pool's gateway": {
			"containerd:default", "pool=cloud,ip=192.168.1.1,mac=" + mac,
			`pool cloud for caller containerd:default: address 192.168.1.1 is a gateway of the pool (policy config.toml)`,
		},
		"the gateway of its routes": {
			"containerd:default", "pool=cloud,ip=192.168.1.254,mac=" + mac,
			`pool cloud for caller containerd:default: address 192.168.1.254 is a gateway of the pool (policy config.toml)`,
		},
		"bare address of anywhere": {
			"docker", "pool=halves,ip=198.51.100.5,mac=" + mac,
			`pool halves for caller docker: address 198.51.100.5 has no prefix length, and the pool's subnet 0.0.0.0/0 gives none (policy config.toml)`,
		},
		"default route without gateway": {
			"docker", "pool=halves,ip=198.51.100.5/24,default-route=true,mac=" + mac,
			`pool halves for caller docker: "default-route" needs a gateway: neither the request nor the pool gives one for these addresses (policy config.toml)`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := loadNode(t)
			g, err := p.GrantNIC(tt.caller, ask(t, tt.ask))
			if err == nil {
				t.Fatalf("granted: %+v", g)
			}
			if got := strings.ReplaceAll(err.Error(), filepath.Dir(p.Path)+"/", ""); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !reflect.DeepEqual(g, Grant{}) {
				t.Errorf("a grant came out beside the error: %+v", g)
			}
		})
	}
}

func TestEveryVFFieldIsRefusedByName(t *testing.T) {
	p := loadNode(t)
	for _, f := range []string{
		"vlan=5", "spoofchk=false", "trust=false", "link-state=auto", "min-tx-rate=1M", "max-tx-rate=1M", "qos=0", "best-effort=true",
	} {
		_, err := p.GrantNIC("docker", ask(t, "pool=plain,mac="+mac+","+f))
		name, _, _ := strings.Cut(f, "=")
		if err == nil || !strings.Contains(err.Error(), `"`+name+`" can be asked only of a vf pool`) {
			t.Errorf("%s: %v", f, err)
		}
	}
	n := ask(t, "pool=plain,mac="+mac)
	n.Proto = "802.1q" // the grammar takes it only beside a vlan
	if _, err := p.GrantNIC("docker", n); err == nil || !strings.Contains(err.Error(), `"proto" can be`) {
		t.Error(err)
	}
}

func TestGrantOfAVF(t *testing.T) {
	p := loadNode(t)
	on, off, vlan := true, false, func(id int) *int { return &id }
	for asked, want := range map[string]VF{
		"trust=true,spoofchk=true,promisc=false":                       {VLAN: vlan(100), Trust: &on, SpoofChk: &on},
		"vlan=100":                                                     {VLAN: vlan(100)},
		"vlan=300,qos=3,proto=802.1ad":                                 {VLAN: vlan(300), QoS: 3, Proto: "802.1ad"},
		"mac=02:00:00:00:00:01,trust=false":                            {VLAN: vlan(100), Trust: &off},
		"min-tx-rate=1G,max-tx-rate=10G,link-state=enable":             {VLAN: vlan(100), MinTxRate: 1e9, MaxTxRate: 10e9, LinkState: "enable"},
		"ip=192.168.1.5,gateway=192.168.1.1,mtu=1400,best-effort=true": {VLAN: vlan(100), BestEffort: true},
	} {
		g, err := p.GrantNIC("docker", ask(t, "pool=fast,"+asked))
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		if !reflect.DeepEqual(*g.VF, want) || g.KeepAddresses {
			t.Errorf("%s: got %+v, want %+v", asked, *g.VF, want)
		}
	}
	g, err := p.GrantNIC("docker", ask(t, "pool=bare"))
	if err != nil || !reflect.DeepEqual(*g.VF, VF{}) {
		t.Errorf("asked for nothing: %+v, %v", g.VF, err)
	}
}

func TestWithoutPolicyNothingIsGranted(t *testing.T) {
	p, err := loadOwn("/nonexistent/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.GrantNIC("docker", ask(t, "pool=cloud,mac="+mac))
	if want := "pool cloud for caller docker: there is no policy, and without one nothing is granted (policy /nonexistent/config.toml)"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	p = &Policy{Path: "x.toml"}
	_, err = p.GrantNIC("docker", ask(t, "pool=cloud,mac="+mac))
	if want := "pool cloud for caller docker: there is no such pool, and the caller may use none of those that there are (policy x.toml)"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestGrantNamesTheFileOfThePool(t *testing.T) {
	p, err := loadOwn(write(t, map[string]string{"config.d/cloud.toml": cloud}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.GrantNIC("docker", ask(t, "pool=cloud,mac="+mac))
	if err == nil || !strings.Contains(err.Error(), "config.d/cloud.toml)") {
		t.Error(err)
	}
}

func TestGrantLimit(t *testing.T) {
	p := loadNode(t)
	if err := p.GrantLimit("docker", 1e9); err != nil {
		t.Error(err)
	}
	err := p.GrantLimit("docker", 1001e6)
	if want := "egress limit 1001M for caller docker: the node's max_limit is 1G (policy " + p.Path + ")"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = p.GrantLimit("", 1e6)
	if want := "egress limit 1M: nobody says who asks (--caller is missing), and without a caller nothing is granted (policy " + p.Path + ")"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := (&Policy{Missing: true}).GrantLimit("docker", request.MaxRate); err != nil {
		t.Errorf("without max_limit: %v", err)
	}
}

// What is granted must always stay within the subnets, whatever is asked for.
func FuzzGrantStaysInTheSubnets(f *testing.F) {
	f.Add("192.168.1.5", 24, "192.168.1.1", true)
	f.Add("fd00:1::5", -1, "", false)
	f.Add("10.0.0.5", 0, "x", true)
	pool := Pool{
		Name: "p", Kind: KindHostNIC, Allow: []string{"*"}, Subnets: prefixes("192.168.1.0/24", "fd00:1::/64", "192.168.0.0/16"),
		Gateways: addrs("192.168.1.1", "192.168.0.1", "fd00:1::1"),
	}
	p := &Policy{Pools: map[string]Pool{"p": pool}}
	f.Fuzz(func(t *testing.T, addr string, bits int, gateway string, defaultRoute bool) {
		n := request.NIC{Pool: "p", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DefaultRoute: defaultRoute}
		a, err := netip.ParseAddr(addr)
		if err != nil || bits < -1 || bits > a.BitLen() {
			return
		}
		n.IPs = []request.IP{{Addr: a, Bits: bits}}
		if gw, err := request.ParseAddr(gateway); err == nil {
			n.Gateway = []netip.Addr{gw}
		}
		g, err := p.GrantNIC("runc", n)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		for _, got := range g.Addresses {
			inside := false
			for _, s := range pool.Subnets {
				inside = inside || s.Contains(got.Addr()) && s.Bits() <= got.Bits()
			}
			if !inside || got.Addr() != a || bits >= 0 && got.Bits() != bits {
				t.Errorf("%s/%d was granted as %s", addr, bits, got)
			}
		}
		if len(g.Addresses) != 1 || g.KeepAddresses || defaultRoute && len(g.Gateways) == 0 {
			t.Errorf("granted %+v", g)
		}
	})
}
