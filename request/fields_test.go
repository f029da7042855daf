package request

import (
	"net/netip"
	"strings"
	"testing"
)

// Every field is tried in both ways of writing: they must agree.
func TestFieldValues(t *testing.T) {
	tests := []struct {
		compact, json string
		rule          string // part of the error; "" = taken
	}{
		{"mac=52:54:0e:e5:00:f7", `"mac":"52:54:0e:e5:00:f7"`, ""},
		{"mac=5254.0ee5.00f7", `"mac":"5254.0ee5.00f7"`, ""},
		{"mac=52:54:0e:e5:00", `"mac":"52:54:0e:e5:00"`, "is not a MAC address"},
		{"mac=02:00:5e:10:00:00:00:01", `"mac":"02:00:5e:10:00:00:00:01"`, "is not a MAC address"},
		{"mac=01:00:5e:00:00:01", `"mac":"01:00:5e:00:00:01"`, "multicast"},
		{"mac=ff:ff:ff:ff:ff:ff", `"mac":"ff:ff:ff:ff:ff:ff"`, "multicast"},
		{"mac=00:00:00:00:00:00", `"mac":"00:00:00:00:00:00"`, "zero MAC"},

		{"interface=eth0", `"interface":"eth0"`, ""},
		{"interface=abcdefghijklmno", `"interface":"abcdefghijklmno"`, ""},
		{"interface=abcdefghijklmnop", `"interface":"abcdefghijklmnop"`, "longer than the 15 bytes"},
		{"interface=", `"interface":""`, "is empty"},
		{"interface=.", `"interface":"."`, "no name that the kernel allows"},
		{"interface=..", `"interface":".."`, "no name that the kernel allows"},
		{"interface=all", `"interface":"all"`, "no name that the kernel allows"},
		{"interface=default", `"interface":"default"`, "no name that the kernel allows"},
		{"interface=lo", `"interface":"lo"`, "loopback"},
		{"interface=a/b", `"interface":"a/b"`, "printable ASCII"},
		{"interface=a:b", `"interface":"a:b"`, "printable ASCII"},
		{"interface=net%d", `"interface":"net%d"`, "printable ASCII"},
		{"interface=ä", `"interface":"ä"`, "printable ASCII"},
		{"interface=a\x00b", `"interface":"a\u0000b"`, "printable ASCII"},
		{"interface=a=b", `"interface":"a=b"`, ""},

		{"ip=10.0.0.5", `"ips":["10.0.0.5"]`, ""},
		{"ip=10.0.0.5/24", `"ips":["10.0.0.5/24"]`, ""},
		{"ip=10.0.0.5/33", `"ips":["10.0.0.5/33"]`, "prefix length of 1 to 32"},
		{"ip=10.0.0.5/0", `"ips":["10.0.0.5/0"]`, "prefix length of 1 to 32"},
		{"ip=10.0.0.5/024", `"ips":["10.0.0.5/024"]`, "prefix length of 1 to 32"},
		{"ip=10.0.0.5/", `"ips":["10.0.0.5/"]`, "prefix length of 1 to 32"},
		{"ip=10.0.0.05", `"ips":["10.0.0.05"]`, "is not an IP address"},
		{"ip=10.0.0", `"ips":["10.0.0"]`, "is not an IP address"},
		{"ip=10.0.0.0/24", `"ips":["10.0.0.0/24"]`, "address of the network"},
		{"ip=10.0.0.255/24", `"ips":["10.0.0.255/24"]`, "broadcast address of its network"},
		{"ip=fd00::/64", `"ips":["fd00::/64"]`, "address of the network"},
		{"ip=fd00::ffff:ffff:ffff:ffff/64", `"ips":["fd00::ffff:ffff:ffff:ffff/64"]`, ""},
		{"ip=0.0.0.0", `"ips":["0.0.0.0"]`, "unspecified"},
		{"ip=::", `"ips":["::"]`, "unspecified"},
		{"ip=127.0.0.1", `"ips":["127.0.0.1"]`, "loopback"},
		{"ip=::1/128", `"ips":["::1/128"]`, "loopback"},
		{"ip=224.0.0.1", `"ips":["224.0.0.1"]`, "multicast"},
		{"ip=ff02::1/64", `"ips":["ff02::1/64"]`, "multicast"},
		{"ip=255.255.255.255", `"ips":["255.255.255.255"]`, "broadcast"},
		{"ip=fe80::1%eth0/64", `"ips":["fe80::1%eth0/64"]`, "has a zone"},
		{"ip=::ffff:10.0.0.5/120", `"ips":["::ffff:10.0.0.5/120"]`, `IPv6 dress; did you mean "10.0.0.5"`},

		{"gateway=10.0.0.1", `"gateway":["10.0.0.1"]`, ""},
		{"gateway=10.0.0.1/24", `"gateway":["10.0.0.1/24"]`, "is not an IP address"},
		{"gateway=fe80::1%2", `"gateway":["fe80::1%2"]`, "has a zone"},
		{"gateway=10.0.0.1,gateway=10.0.0.2", `"gateway":["10.0.0.1","10.0.0.2"]`, "second gateway for IPv4"},
		{"gateway=fe80::1,gateway=10.0.0.2", `"gateway":["fe80::1","10.0.0.2"]`, ""},
		{"ip=fd00::5/64,gateway=10.0.0.1", `"ips":["fd00::5/64"],"gateway":["10.0.0.1"]`, "IPv4 gateway for an IPv6-only NIC"},
		{"gateway=fe80::1,ip=10.0.0.5", `"gateway":["fe80::1"],"ips":["10.0.0.5"]`, "IPv6 gateway for an IPv4-only NIC"},
		{"ip=10.0.0.5/24,gateway=10.0.0.5", `"ips":["10.0.0.5/24"],"gateway":["10.0.0.5"]`, "the NIC's own address"},
		{"ip=10.0.0.5/24,gateway=10.0.0.255", `"ips":["10.0.0.5/24"],"gateway":["10.0.0.255"]`, "broadcast"},
		{"ip=10.0.0.5/24,gateway=10.0.0.0", `"ips":["10.0.0.5/24"],"gateway":["10.0.0.0"]`, "address of the network"},
		{"ip=10.0.0.5/24,gateway=10.9.0.0", `"ips":["10.0.0.5/24"],"gateway":["10.9.0.0"]`, ""},

		{"mtu=68", `"mtu":68`, ""},
		{"mtu=67", `"mtu":67`, "must be 68 to 65535"},
		{"mtu=65536", `"mtu":65536`, "must be 68 to 65535"},
		{"mtu=-1", `"mtu":-1`, "plain whole number"},
		{"mtu=1279,ip=fd00::5/64", `"mtu":1279,"ips":["fd00::5/64"]`, "at least 1280 for IPv6"},
		{"mtu=1279,ip=10.0.0.5", `"mtu":1279,"ips":["10.0.0.5"]`, ""},

		{"vlan=4094", `"vlan":4094`, ""},
		{"vlan=4095", `"vlan":4095`, "must be 0 to 4094"},
		{"vlan=5,qos=7", `"vlan":5,"qos":7`, ""},
		{"vlan=5,qos=8", `"vlan":5,"qos":8`, "must be 0 to 7"},
		{"qos=3", `"qos":3`, "needs a vlan"},
		{"vlan=0,qos=3", `"vlan":0,"qos":3`, "needs a vlan"},
		{"vlan=5,proto=802.1ad", `"vlan":5,"proto":"802.1ad"`, ""},
		{"proto=802.1ad", `"proto":"802.1ad"`, "needs a vlan"},
		{"vlan=5,proto=802.1Q", `"vlan":5,"proto":"802.1Q"`, `did you mean "802.1q"?`},
		{"vlan=5,proto=", `"vlan":5,"proto":""`, "is empty"},
		{"link-state=disable", `"link-state":"disable"`, ""},
		{"link-state=enabled", `"link-state":"enabled"`, `must be one of auto, enable, disable; did you mean "enable"?`},
		{"spoofchk=true", `"spoofchk":true`, ""},
		{"min-tx-rate=1M,max-tx-rate=1M", `"min-tx-rate":"1M","max-tx-rate":"1M"`, ""},
		{"min-tx-rate=2M,max-tx-rate=1M", `"min-tx-rate":"2M","max-tx-rate":"1M"`, "is more than max-tx-rate, 1M"},
		{"min-tx-rate=2M", `"min-tx-rate":"2M"`, ""},
		{"max-tx-rate=1500k", `"max-tx-rate":"1500k"`, ""},
		{"best-effort=true", `"best-effort":true`, ""},
		{"promisc=true,allmulti=false", `"promisc":true,"allmulti":false`, ""},
		{"promisc=on", `"promisc":"on"`, "true"},
		{"max-tx-rate=0", `"max-tx-rate":"0"`, "is zero"},
		{"default-route=true", `"default-route":true`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.compact, func(t *testing.T) {
			a, errA := Parse(nicOf("pool=p," + tt.compact))
			b, errB := Parse(nicsOf(`[{"pool":"p",` + tt.json + `}]`))
			for _, err := range []error{errA, errB} {
				switch {
				case tt.rule == "" && err != nil:
					t.Error(err)
				case tt.rule != "" && (err == nil || !strings.Contains(err.Error(), tt.rule)):
					t.Errorf("error %v, want one with %q", err, tt.rule)
				}
			}
			if p, q := a.Annotations()[KeyNICs], b.Annotations()[KeyNICs]; p != q {
				t.Errorf("compact is read as %s\nlist    is read as %s", p, q)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	tests := map[string]struct{ nic, rule string }{
		"with a gateway":       {`"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.1"}]`, ""},
		"on the wire":          {`"routes":[{"dst":"fd01::/64"}]`, ""},
		"to one host":          {`"routes":[{"dst":"10.1.2.3/32"}]`, ""},
		"unmasked":             {`"routes":[{"dst":"10.1.2.3/16"}]`, `not the network; did you mean "10.1.0.0/16"?`},
		"without length":       {`"routes":[{"dst":"10.1.2.3"}]`, `has no prefix length; did you mean "10.1.2.3/32"?`},
		"no network":           {`"routes":[{"dst":"x"}]`, "is not a network"},
		"empty":                {`"routes":[{"dst":""}]`, "is empty"},
		"default":              {`"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}]`, `use "gateway"`},
		"IPv4 in IPv6":         {`"routes":[{"dst":"::ffff:10.0.0.0/104"}]`, "IPv6 dress"},
		"loopback":             {`"routes":[{"dst":"127.0.0.0/8"}]`, "loopback"},
		"gateway of other kin": {`"routes":[{"dst":"10.1.0.0/16","gw":"fd00::1"}]`, "is not of the family of 10.1.0.0/16"},
		"bad gateway":          {`"routes":[{"dst":"10.1.0.0/16","gw":"0.0.0.0"}]`, "unspecified"},
		"empty gateway":        {`"routes":[{"dst":"10.1.0.0/16","gw":""}]`, "is empty"},
		"own address":          {`"ips":["10.0.0.5/24"],"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.5"}]`, "own address"},
		"family of no address": {`"ips":["10.0.0.5/24"],"routes":[{"dst":"fd01::/64"}]`, "IPv6 route for an IPv4-only NIC"},

		"metric and table":        {`"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.1","metric":100,"table":9999}]`, ""},
		"CNI's word for it":       {`"routes":[{"dst":"10.1.0.0/16","priority":2147483647}]`, ""},
		"both words":              {`"routes":[{"dst":"10.1.0.0/16","metric":5,"priority":5}]`, `[0].routes[0].priority: is given twice: "metric" and "priority" are the same`},
		"metric 0":                {`"routes":[{"dst":"10.1.0.0/16","metric":0}]`, `[0].routes[0].metric: "0" must be 1 to 2147483647`},
		"metric as a string":      {`"routes":[{"dst":"10.1.0.0/16","metric":"5"}]`, `[0].routes[0].metric: "5" must be a number`},
		"metric below 0":          {`"routes":[{"dst":"10.1.0.0/16","priority":-1}]`, `[0].routes[0].priority: "-1" must be a plain whole number`},
		"misspelt metric":         {`"routes":[{"dst":"10.1.0.0/16","metrik":5}]`, `"metrik" is not a field; did you mean "metric"?`},
		"lowest tables":           {`"routes":[{"dst":"10.1.0.0/16","table":1},{"dst":"10.1.0.0/16","table":252},{"dst":"10.1.0.0/16","table":256}]`, ""},
		"table 0":                 {`"routes":[{"dst":"10.1.0.0/16","table":0}]`, `[0].routes[0].table: "0" must be 1 to 252 or 256 to 9999`},
		"the main table":          {`"routes":[{"dst":"10.1.0.0/16","table":254}]`, `"254" is the main table, where a route without "table" goes`},
		"a table of the kernel":   {`"routes":[{"dst":"10.1.0.0/16","table":255}]`, `"255" is a table of the kernel's own`},
		"a table of candor":       {`"routes":[{"dst":"10.1.0.0/16","table":10000}]`, `"10000" must be 1 to 252 or 256 to 9999`},
		"default in a table":      {`"routes":[{"table":100,"gw":"10.0.0.1","dst":"0.0.0.0/0"},{"dst":"::/0","table":100}]`, ""},
		"default with a metric":   {`"routes":[{"dst":"::/0","metric":5}]`, `or give the route a "table" of its own`},
		"default that is none":    {`"routes":[{"dst":"10.0.0.0/0","table":100}]`, `did you mean "0.0.0.0/0"?`},
		"same but for metric":     {`"routes":[{"dst":"10.1.0.0/16"},{"dst":"10.1.0.0/16","metric":5},{"dst":"10.1.0.0/16","metric":6}]`, ""},
		"same with metric":        {`"routes":[{"dst":"10.1.0.0/16","metric":5},{"dst":"10.1.0.0/16","priority":5,"gw":"10.0.0.1"}]`, `"10.1.0.0/16" is asked for twice`},
		"the kernel's own for v6": {`"routes":[{"dst":"fd01::/64"},{"dst":"fd01::/64","metric":1024}]`, `"fd01::/64" is asked for twice`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(nicsOf(`[{"pool":"p",` + tt.nic + `}]`))
			if tt.rule == "" && err != nil || tt.rule != "" && (err == nil || !strings.Contains(err.Error(), tt.rule)) {
				t.Errorf("error %v, want one with %q", err, tt.rule)
			}
		})
	}
}

func TestChecksForThePolicy(t *testing.T) {
	if _, err := ParseRoute("10.1.0.0/16", "", nil, nil); err != nil {
		t.Error(err)
	}
	if _, err := ParseRoute("10.1.0.1/16", "", nil, nil); err == nil || err.Error() != `dst: "10.1.0.1/16" is an address in a network, not the network; did you mean "10.1.0.0/16"?` {
		t.Error(err)
	}
	if _, err := ParseRoute("10.1.0.0/16", "fd00::1", nil, nil); err == nil {
		t.Error("took a gateway of another family")
	}
	if _, err := ParseRoute("10.1.0.0/16", "x", nil, nil); err == nil {
		t.Error("took x for a gateway")
	}
	if r, err := ParseRoute("0.0.0.0/0", "10.0.0.1", ptr(5), ptr(100)); err != nil || r.Metric != 5 || r.Table != 100 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, route := range []struct{ metric, table *int }{{metric: ptr(0)}, {table: ptr(0)}, {table: ptr(10001)}} {
		if _, err := ParseRoute("10.1.0.0/16", "", route.metric, route.table); err == nil {
			t.Errorf("took %+v", route)
		}
	}
	if _, err := ParseAddr("10.0.0.1"); err != nil {
		t.Error(err)
	}
	if err := CheckInterface("eth0"); err != nil {
		t.Error(err)
	}
	if err := CheckPool("fast"); err != nil {
		t.Error(err)
	}
	if err := CheckHost(netip.MustParsePrefix("10.0.0.1/24")); err != nil {
		t.Error(err)
	}
	if err := CheckHost(netip.MustParsePrefix("10.0.0.0/24")); err == nil {
		t.Error("took a network for a host")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"pool", "interface", "mac", "ips", "gateway", "mtu", "max-tx-rate", "min-tx-rate"}
	for in, want := range map[string]string{
		"ip": "ips", "gatway": "gateway", "getaway": "gateway", "max_tx_rate": "max-tx-rate", "MTU": "mtu",
		"mtx": "mtu", "colour": "", "": "", "interfaces": "interface", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(in, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
