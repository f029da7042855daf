package request

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func ptr[T any](v T) *T { return &v }

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ip(addr string, bits int) IP { return IP{Addr: netip.MustParseAddr(addr), Bits: bits} }

func TestParseReadsWhatIsAskedFor(t *testing.T) {
	cloud := NIC{
		Pool: "cloud", Interface: "net0", MAC: mac("52:54:0e:e5:00:f7"),
		IPs: []IP{ip("192.168.1.5", 24)}, Gateway: addrs("192.168.1.1"),
	}
	full := NIC{
		Pool: "fast", Interface: "net0", MAC: mac("52:54:00:00:00:01"),
		IPs: []IP{ip("10.0.0.5", 24), ip("fd00::5", 64)}, Gateway: addrs("10.0.0.1"),
		Routes: []Route{
			{Dst: netip.MustParsePrefix("10.1.0.0/16"), GW: netip.MustParseAddr("10.0.0.1")},
			{Dst: netip.MustParsePrefix("10.2.0.0/16")},
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), GW: netip.MustParseAddr("10.0.0.1"), Metric: 7, Table: 100},
		},
		MTU: 9000, VLAN: ptr(100), QoS: ptr(3), Proto: "802.1q", SpoofChk: ptr(true), Trust: ptr(false),
		LinkState: "auto", MinTxRate: 100e6, MaxTxRate: 1e9,
	}
	tests := map[string]struct {
		in   map[string]string
		want Request
	}{
		"nothing":                  {nil, Request{}},
		"others' keys are ignored": {map[string]string{"io.kubernetes.cri.x": "y", "nic": "z", "candor.dev": "q"}, Request{}},
		"compact NIC": {
			map[string]string{KeyNIC: "pool=cloud,mac=52:54:0e:e5:00:f7,ip=192.168.1.5/24,gateway=192.168.1.1"},
			Request{NICs: []NIC{cloud}},
		},
		"compact NIC with semicolons": {
			map[string]string{KeyNIC: "pool=cloud;mac=52-54-0E-E5-00-F7;ip=192.168.1.5/24;gateway=192.168.1.1"},
			Request{NICs: []NIC{cloud}},
		},
		"compact NIC with everything": {
			map[string]string{KeyNIC: "pool=p,interface=eth0,ip=10.0.0.5,ip=fd00::5/64,gateway=10.0.0.1,gateway=fe80::1," +
				"default-route=true,mtu=1500,vlan=0,qos=0,spoofchk=false,trust=true,link-state=enable,max-tx-rate=1G"},
			Request{NICs: []NIC{{
				Pool: "p", Interface: "eth0", IPs: []IP{ip("10.0.0.5", -1), ip("fd00::5", 64)},
				Gateway: addrs("10.0.0.1", "fe80::1"), DefaultRoute: true, MTU: 1500,
				VLAN: ptr(0), QoS: ptr(0), SpoofChk: ptr(false), Trust: ptr(true), LinkState: "enable", MaxTxRate: 1e9,
			}}},
		},
		"MAC alone keeps the host's addresses": {
			map[string]string{KeyNIC: "pool=cloud,mac=52:54:0e:e5:00:f7,gateway=10.0.0.1,gateway=fd00::1"},
			Request{NICs: []NIC{{
				Pool: "cloud", Interface: "net0", MAC: mac("52:54:0e:e5:00:f7"), Gateway: addrs("10.0.0.1", "fd00::1"),
			}}},
		},
		"list with every field": {
			map[string]string{KeyNICs: ` [ {"pool":"fast","interface":"net0","mac":"52:54:00:00:00:01",
				"ips":["10.0.0.5/24","fd00::5/64"],"gateway":["10.0.0.1"],
				"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.1"},{"dst":"10.2.0.0/16"},
					{"dst":"0.0.0.0/0","gw":"10.0.0.1","priority":7,"table":100}],
				"mtu":9000,"vlan":100,"qos":3,"proto":"802.1q","spoofchk":true,"trust":false,"link-state":"auto",
				"min-tx-rate":"100M","max-tx-rate":"1G"} ] `},
			Request{NICs: []NIC{full}},
		},
		"Multus's default-route list": {
			map[string]string{KeyNICs: `[{"pool":"p","ips":["10.0.0.5/24"],"default-route":["10.0.0.1"]}]`},
			Request{NICs: []NIC{{
				Pool: "p", Interface: "net0", IPs: []IP{ip("10.0.0.5", 24)}, Gateway: addrs("10.0.0.1"), DefaultRoute: true,
			}}},
		},
		"Multus's empty default-route list": {
			map[string]string{KeyNICs: `[{"pool":"p","gateway":["10.0.0.1"],"default-route":[]}]`},
			Request{NICs: []NIC{{Pool: "p", Interface: "net0", Gateway: addrs("10.0.0.1")}}},
		},
		"default names avoid explicit ones": {
			map[string]string{KeyNICs: `[{"pool":"p"},{"pool":"p","interface":"net1"},{"pool":"p"},{"pool":"p","interface":"net0"}]`},
			Request{NICs: []NIC{
				{Pool: "p", Interface: "net2"},
				{Pool: "p", Interface: "net1"},
				{Pool: "p", Interface: "net3"},
				{Pool: "p", Interface: "net0"},
			}},
		},
		"default routes of both families on two NICs": {
			map[string]string{KeyNICs: `[{"pool":"p","gateway":["10.0.0.1"],"default-route":true},{"pool":"p","ips":["fd00::5"],"default-route":true}]`},
			Request{NICs: []NIC{
				{Pool: "p", Interface: "net0", Gateway: addrs("10.0.0.1"), DefaultRoute: true},
				{Pool: "p", Interface: "net1", IPs: []IP{ip("fd00::5", -1)}, DefaultRoute: true},
			}},
		},
		"no NICs":        {map[string]string{KeyNICs: "[]"}, Request{}},
		"limit and view": {map[string]string{KeyEgressLimit: "50M", KeyResourceView: "off"}, Request{EgressLimit: 50e6, ResourceView: Off}},
		"view on":        {map[string]string{KeyResourceView: "on"}, Request{ResourceView: On}},
		"point-to-point addresses": {
			map[string]string{KeyNIC: "pool=p,ip=10.0.0.0/31,ip=fd00::/127,ip=10.0.0.7/32,gateway=10.0.0.1"},
			Request{NICs: []NIC{{
				Pool: "p", Interface: "net0", IPs: []IP{ip("10.0.0.0", 31), ip("fd00::", 127), ip("10.0.0.7", 32)},
				Gateway: addrs("10.0.0.1"),
			}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if got.Empty() != reflect.DeepEqual(got, Request{}) {
				t.Errorf("Empty() = %v", got.Empty())
			}
			printed := got.Annotations()
			again, err := Parse(printed)
			if err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("printed as %q, which parses to %+v, %v", printed, again, err)
			}
		})
	}
}

// nic and nics are the shapes in which most of the bad input below comes.
func nicOf(s string) map[string]string  { return map[string]string{KeyNIC: s} }
func nicsOf(s string) map[string]string { return map[string]string{KeyNICs: s} }

func TestParseRefuses(t *testing.T) {
	many := "[" + strings.Repeat(`{"pool":"p"},`, MaxNICs) + `{"pool":"p"}]`
	tests := map[string]struct {
		in   map[string]string
		want string // the whole error
	}{
		"unknown key, nearest named":     {map[string]string{"candor.dev/egres-limt": "1M"}, `annotation candor.dev/egres-limt: is not an annotation that candor knows; did you mean "candor.dev/egress-limit"?`},
		"key in the wrong case":          {map[string]string{"candor.dev/NIC": "x"}, `annotation candor.dev/NIC: is not an annotation that candor knows; did you mean "candor.dev/nic"?`},
		"unknown key, none near":         {map[string]string{"candor.dev/xyzzyxyzzy": "1"}, `annotation candor.dev/xyzzyxyzzy: is not an annotation that candor knows (nic, nics, egress-limit, resource-view, egress-guarantee, ingress-limit, memory-request, tuning, volumes)`},
		"key that would break the line":  {map[string]string{"candor.dev/a\nb": "1"}, `annotation "candor.dev/a\nb": is not an annotation that candor knows (nic, nics, egress-limit, resource-view, egress-guarantee, ingress-limit, memory-request, tuning, volumes)`},
		"guarantee":                      {map[string]string{"candor.dev/egress-guarantee": "1M"}, `annotation candor.dev/egress-guarantee: is not supported yet`},
		"ingress limit":                  {map[string]string{"candor.dev/ingress-limit": "1M"}, `annotation candor.dev/ingress-limit: is not supported yet`},
		"memory request":                 {map[string]string{"candor.dev/memory-request": "1Gi"}, `annotation candor.dev/memory-request: is not supported yet`},
		"tuning":                         {map[string]string{"candor.dev/tuning": "{}"}, `annotation candor.dev/tuning: is not supported yet`},
		"volumes":                        {map[string]string{"candor.dev/volumes": "[]"}, `annotation candor.dev/volumes: is not supported yet`},
		"empty value":                    {nicOf(""), `annotation candor.dev/nic: is empty`},
		"value over 16 KiB":              {nicOf("pool=" + strings.Repeat("x", MaxValue)), `annotation candor.dev/nic: is longer than 16 KiB`},
		"value that is not UTF-8":        {nicOf("pool=\xff"), `annotation candor.dev/nic: "pool=\xff" is not UTF-8`},
		"both ways":                      {map[string]string{KeyNIC: "pool=p", KeyNICs: "[]"}, `annotation candor.dev/nic: cannot stand beside candor.dev/nics: put all NICs into the list`},
		"cut at commas by a command":     {map[string]string{KeyNIC: "pool=p", "mac": "52:54:00:00:00:01"}, `annotation candor.dev/nic: was cut at a comma by the command line: "mac" stands there as an annotation of its own; separate the fields with ";"`},
		"view neither on nor off":        {map[string]string{KeyResourceView: "True"}, `annotation candor.dev/resource-view: "True" must be "on" or "off"; did you mean "on"?`},
		"view, no guess":                 {map[string]string{KeyResourceView: "maybe"}, `annotation candor.dev/resource-view: "maybe" must be "on" or "off"`},
		"rate with m":                    {map[string]string{KeyEgressLimit: "100m"}, `annotation candor.dev/egress-limit: "100m" is in thousandths of a bit; did you mean "100M"?`},
		"long value is cut in the error": {map[string]string{KeyResourceView: strings.Repeat("ä", 50)}, `annotation candor.dev/resource-view: "` + strings.Repeat(`\u00e4`, 32) + `"... must be "on" or "off"`},

		"mixed separators":             {nicOf("pool=p;mac=52:54:00:00:00:01,ip=10.0.0.1"), `annotation candor.dev/nic: "pool=p;mac=52:54:00:00:00:01,ip=10.0.0.1" separates its fields by both "," and ";"`},
		"JSON in the compact key":      {nicOf(`[{"pool":"p"}]`), `annotation candor.dev/nic: "[{\"pool\":\"p\"}]" is not key=value: JSON goes into candor.dev/nics`},
		"trailing comma":               {nicOf("pool=p,"), `annotation candor.dev/nic: "pool=p," has an empty field: a "," too many`},
		"white space":                  {nicOf("pool=p, mac=52:54:00:00:00:01"), `annotation candor.dev/nic: " mac=52:54:00:00:00:01" holds white space`},
		"unknown compact field":        {nicOf("pool=p,ips=10.0.0.5"), `annotation candor.dev/nic: "ips" is not a field; did you mean "ip"?`},
		"unknown field, none near":     {nicOf("pool=p,colour=red"), `annotation candor.dev/nic: "colour" is not a field (pool, interface, mac, ip, gateway, default-route, mtu, promisc, allmulti, vlan, qos, proto, spoofchk, trust, link-state, min-tx-rate, max-tx-rate, best-effort)`},
		"field without value":          {nicOf("pool=p,mac"), `annotation candor.dev/nic: mac: has no value: write "mac=..."`},
		"field with empty value":       {nicOf("pool=p,mac="), `annotation candor.dev/nic: mac: is empty`},
		"field without name":           {nicOf("=p"), `annotation candor.dev/nic: a field has no name (pool, interface, mac, ip, gateway, default-route, mtu, promisc, allmulti, vlan, qos, proto, spoofchk, trust, link-state, min-tx-rate, max-tx-rate, best-effort)`},
		"compact field twice":          {nicOf("pool=p,pool=q"), `annotation candor.dev/nic: pool: "q" is given twice`},
		"routes in the compact form":   {nicOf("pool=p,routes=10.0.0.0/8"), `annotation candor.dev/nic: routes: can only be asked for in candor.dev/nics`},
		"no pool":                      {nicOf("mac=52:54:00:00:00:01"), `annotation candor.dev/nic: pool: is missing: a NIC comes from a pool of the node`},
		"bool that is none":            {nicOf("pool=p,trust=on"), `annotation candor.dev/nic: trust: "on" must be "true" or "false"; did you mean "true"?`},
		"bool that is none, no guess":  {nicOf("pool=p,trust=x"), `annotation candor.dev/nic: trust: "x" must be "true" or "false"`},
		"number with leading zero":     {nicOf("pool=p,mtu=01500"), `annotation candor.dev/nic: mtu: "01500" must be a plain whole number`},
		"address twice, compact":       {nicOf("pool=p,ip=10.0.0.5/24,ip=10.0.0.5"), `annotation candor.dev/nic: ip: "10.0.0.5" is asked for twice`},
		"pool with a path in its name": {nicOf("pool=../x"), `annotation candor.dev/nic: pool: "../x" is no pool's name: 1 to 63 letters, digits, ".", "_" and "-", the first one a letter or digit`},

		"no JSON":                     {nicsOf("pool=p"), `annotation candor.dev/nics: "pool=p" is not JSON: invalid character 'p' looking for beginning of value`},
		"trailing data":               {nicsOf(`[] []`), `annotation candor.dev/nics: "[] []" is not JSON: invalid character '[' after top-level value`},
		"object for a list":           {nicsOf(`{"pool":"p"}`), `annotation candor.dev/nics: must be a list of NICs, not an object; did you mean "[{...}]"?`},
		"null":                        {nicsOf(`null`), `annotation candor.dev/nics: "null" must be a list of NICs`},
		"null NIC":                    {nicsOf(`[null]`), `annotation candor.dev/nics: [0]: "null" must be an object`},
		"null field":                  {nicsOf(`[{"pool":null}]`), `annotation candor.dev/nics: [0].pool: "null" must be a string`},
		"unknown field":               {nicsOf(`[{"pool":"p"},{"pool":"p","ip":"10.0.0.5"}]`), `annotation candor.dev/nics: [1]: "ip" is not a field; did you mean "ips"?`},
		"field in another case":       {nicsOf(`[{"pool":"p","MAC":"52:54:00:00:00:01"}]`), `annotation candor.dev/nics: [0]: "MAC" is not a field; did you mean "mac"?`},
		"duplicate field":             {nicsOf(`[{"pool":"p","po\u006fl":"q"}]`), `annotation candor.dev/nics: [0].pool: is given twice`},
		"duplicate field in a route":  {nicsOf(`[{"pool":"p","routes":[{"dst":"10.0.0.0/8","dst":"10.0.0.0/8"}]}]`), `annotation candor.dev/nics: [0].routes[0].dst: is given twice`},
		"string for a list":           {nicsOf(`[{"pool":"p","ips":"10.0.0.5"}]`), `annotation candor.dev/nics: [0].ips: "10.0.0.5" must be a list of strings`},
		"number in a list":            {nicsOf(`[{"pool":"p","ips":[5]}]`), `annotation candor.dev/nics: [0].ips[0]: "5" must be a string`},
		"empty string in a list":      {nicsOf(`[{"pool":"p","default-route":[""]}]`), `annotation candor.dev/nics: [0].default-route[0]: is empty`},
		"string for a bool":           {nicsOf(`[{"pool":"p","trust":"true"}]`), `annotation candor.dev/nics: [0].trust: "true" must be true or false`},
		"string for a number":         {nicsOf(`[{"pool":"p","mtu":"1500"}]`), `annotation candor.dev/nics: [0].mtu: "1500" must be a number`},
		"number with exponent":        {nicsOf(`[{"pool":"p","mtu":15e2}]`), `annotation candor.dev/nics: [0].mtu: "15e2" must be a plain whole number`},
		"number beyond an int":        {nicsOf(`[{"pool":"p","mtu":99999999999999999999}]`), `annotation candor.dev/nics: [0].mtu: "99999999999999999999" must be a plain whole number`},
		"object for a string":         {nicsOf(`[{"pool":{"a":1}}]`), `annotation candor.dev/nics: [0].pool: must be a string, not an object`},
		"routes that are no list":     {nicsOf(`[{"pool":"p","routes":"x"}]`), `annotation candor.dev/nics: [0].routes: "x" must be a list of objects`},
		"route that is a string":      {nicsOf(`[{"pool":"p","routes":["10.0.0.0/8"]}]`), `annotation candor.dev/nics: [0].routes[0]: "10.0.0.0/8" must be an object such as {"dst":"10.1.0.0/16","gw":"10.0.0.1"}`},
		"route without destination":   {nicsOf(`[{"pool":"p","routes":[{"gw":"10.0.0.1"}]}]`), `annotation candor.dev/nics: [0].routes[0].dst: is missing`},
		"route with unknown field":    {nicsOf(`[{"pool":"p","routes":[{"dest":"10.0.0.0/8"}]}]`), `annotation candor.dev/nics: [0].routes[0]: "dest" is not a field; did you mean "dst"?`},
		"route with a number":         {nicsOf(`[{"pool":"p","routes":[{"dst":10}]}]`), `annotation candor.dev/nics: [0].routes[0].dst: "10" must be a string`},
		"route twice":                 {nicsOf(`[{"pool":"p","routes":[{"dst":"10.0.0.0/8"},{"dst":"10.0.0.0/8"}]}]`), `annotation candor.dev/nics: [0].routes: "10.0.0.0/8" is asked for twice`},
		"17 NICs":                     {nicsOf(many), `annotation candor.dev/nics: [16]: is one NIC too many: at most 16 can be asked for`},
		"duplicate interface":         {nicsOf(`[{"pool":"p","interface":"a"},{"pool":"p"},{"pool":"p","interface":"a"}]`), `annotation candor.dev/nics: [2].interface: "a" is asked for by NIC [0] too`},
		"duplicate MAC":               {nicsOf(`[{"pool":"p","mac":"52:54:00:00:00:0a"},{"pool":"q","mac":"52-54-00-00-00-0A"}]`), `annotation candor.dev/nics: [1].mac: "52:54:00:00:00:0a" is asked for by NIC [0] too`},
		"duplicate address":           {nicsOf(`[{"pool":"p","ips":["fd00::5"]},{"pool":"p","ips":["fd00:0::5/64"]}]`), `annotation candor.dev/nics: [1].ips: "fd00::5" is asked for by NIC [0] too`},
		"two default routes":          {nicsOf(`[{"pool":"p","ips":["10.0.0.5"],"default-route":true},{"pool":"q","default-route":true}]`), `annotation candor.dev/nics: [1].default-route: "IPv4" is asked for by NIC [0] too`},
		"gateways in two places":      {nicsOf(`[{"pool":"p","default-route":["10.0.0.1"],"gateway":["10.0.0.1"]}]`), `annotation candor.dev/nics: [0].default-route: lists gateways beside "gateway": give them in one of the two`},
		"list for default-route of 5": {nicsOf(`[{"pool":"p","default-route":[5]}]`), `annotation candor.dev/nics: [0].default-route[0]: "5" must be a string`},
		"default-route as string":     {nicsOf(`[{"pool":"p","default-route":"yes"}]`), `annotation candor.dev/nics: [0].default-route: "yes" must be true, false or a list of gateways`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tt.in)
			if err == nil {
				t.Fatalf("parsed to %+v", got)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			var typed *Error
			if !errors.As(err, &typed) || typed.Key == "" || typed.Rule == "" {
				t.Errorf("not a whole *Error: %#v", err)
			}
			if !reflect.DeepEqual(got, Request{}) {
				t.Errorf("a part of the request came out beside the error: %+v", got)
			}
		})
	}
}

// The canonical form names all interfaces and so may be longer than what was
// read. What cannot be printed within the bounds must not be taken.
func TestParseTakesNothingThatItCouldNotPrint(t *testing.T) {
	const overhead = len(`[{"pool":"p","ips":[]}]`)
	one := func(size int) string {
		var b strings.Builder
		for i := 0; b.Len()+20 < size-overhead; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7}).String() + `"`)
		}
		s := `[{"pool":"p","ips":[` + b.String() + `]}]`
		return s + strings.Repeat(" ", size-len(s))
	}
	r, err := Parse(nicsOf(one(MaxValue - 100)))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(r.Annotations()); err != nil || !reflect.DeepEqual(again, r) {
		t.Error("does not parse again:", err)
	}
	full := strings.TrimRight(one(MaxValue), " ")
	full = strings.Replace(full, `"p"`, `"`+strings.Repeat("p", 1+MaxValue-len(full))+`"`, 1)
	if _, err := Parse(nicsOf(full)); err == nil || !strings.Contains(err.Error(), "longer than 16 KiB") {
		t.Error("a value that prints longer than it may be was taken:", err)
	}
}

func TestPrintedTextIsStable(t *testing.T) {
	r, err := Parse(map[string]string{
		KeyNIC:          "mac=52:54:0E:E5:00:F7,gateway=192.168.1.1,ip=192.168.1.5/24,pool=cloud",
		KeyEgressLimit:  "1000k",
		KeyResourceView: "on",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		KeyNICs:         `[{"pool":"cloud","interface":"net0","mac":"52:54:0e:e5:00:f7","ips":["192.168.1.5/24"],"gateway":["192.168.1.1"]}]`,
		KeyEgressLimit:  "1M",
		KeyResourceView: "on",
	}
	if got := r.Annotations(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
