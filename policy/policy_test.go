package policy

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/request"
)

// write makes a policy out of files, named relative to its directory, and
// returns the path of its main file.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	// Whatever the umask and the owner of the temporary directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config.toml")
}

// loadOwn is Load for whoever runs the test.
func loadOwn(path string) (*Policy, error) { return load(path, uint32(os.Getuid())) }

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

const cloud = `
[pools.cloud]
kind     = "hostnic"
macs     = ["52:54:*", "52-54-0E-E5-00-F7"]
subnets  = ["192.168.1.0/24", "fd00:1::/64"]
gateways = ["192.168.1.1", "fe80::1"]
routes   = [{dst = "10.0.0.0/8", gw = "192.168.1.254"}, {dst = "fd02::/16", metric = 50, table = 100}]
mtu      = 1400
wait     = "2.5s"
allow    = ["containerd:default", "kubernetes:team-*"]
`

func TestLoadReadsEverySetting(t *testing.T) {
	path := write(t, map[string]string{"config.toml": `
state_dir = "/run/other/"
bin_dir = "/opt/candor//bin"
[pools.fast]
kind = "vf"
pfs = ["ens1f0", "0000:3b:00.1#0-3,6"]
numvfs = 8
drivers = ["i*vf"]
macs = ["02:*"]
vlan = 100
vlans = ["100-199", "300"]
max_tx_rate = "10G"
min_tx_rate = "1G"
permit = ["trust", "promisc"]
[resource_view]
enabled = false
required = true
pressure = true
[egress]
max_limit = "1G"
uplink = "eth0"
capacity = "10G"
[metrics]
listen = "[::1]:9464"
` + cloud})
	got, err := loadOwn(path)
	if err != nil {
		t.Fatal(err)
	}
	vlan := 100
	want := &Policy{
		Path: path, StateDir: "/run/other", BinDir: "/opt/candor/bin",
		Pools: map[string]Pool{
			"fast": {
				Name: "fast", File: path, Kind: KindVF, MACs: []string{"02:*"}, Drivers: []string{"i*vf"}, Permit: []string{"trust", "promisc"},
				VF: VFPool{
					PFs:    []PF{{Device: "ens1f0"}, {Device: "0000:3b:00.1", VFs: []Range{{0, 3}, {6, 6}}}},
					NumVFs: 8, VLAN: &vlan, VLANs: []Range{{100, 199}, {300, 300}}, MinTxRate: 1e9, MaxTxRate: 10e9,
				},
			},
			"cloud": {
				Name: "cloud", File: path, Kind: KindHostNIC, MACs: []string{"52:54:*", "52:54:0e:e5:00:f7"},
				Subnets: prefixes("192.168.1.0/24", "fd00:1::/64"), Gateways: addrs("192.168.1.1", "fe80::1"),
				Routes: []request.Route{
					{Dst: netip.MustParsePrefix("10.0.0.0/8"), GW: netip.MustParseAddr("192.168.1.254")},
					{Dst: netip.MustParsePrefix("fd02::/16"), Metric: 50, Table: 100},
				},
				MTU: 1400, Wait: 2500 * time.Millisecond, Allow: []string{"containerd:default", "kubernetes:team-*"},
			},
		},
		ResourceView: ResourceView{Enabled: false, Required: true, Pressure: true},
		Egress:       Egress{MaxLimit: 1e9, Uplink: "eth0", Capacity: 10e9},
		Metrics:      Metrics{Listen: netip.MustParseAddrPort("[::1]:9464")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	defaults := Policy{StateDir: "/run/candor", Pools: map[string]Pool{}, ResourceView: ResourceView{Enabled: true}}
	for name, tt := range map[string]struct {
		files   map[string]string
		missing bool
	}{
		"no file":             {nil, true},
		"empty file":          {map[string]string{"config.toml": ""}, false},
		"drop-in only":        {map[string]string{"config.d/a.toml": ""}, false},
		"what is no drop-in":  {map[string]string{"config.d/a.toml.dpkg-old": "x", "config.d/.a.toml": "x", "config.d/README": "x"}, true},
		"empty drop-in place": {map[string]string{"config.d/README": ""}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tt.files)
			got, err := loadOwn(path)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			want.Path, want.Missing = path, tt.missing
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
	if p, err := loadOwn("/nonexistent/of/all/config.toml"); err != nil || !p.Missing {
		t.Errorf("no directory: %+v, %v", p, err)
	}
}

func TestDropInsReplaceSettingsAndAddPools(t *testing.T) {
	path := write(t, map[string]string{
		"config.toml":        "state_dir = '/run/a'\n[resource_view]\nrequired = true\n[egress]\nmax_limit = '1G'\nuplink = 'eth0'\n" + cloud,
		"config.d/20-b.toml": "[egress]\nmax_limit = '3G'\nuplink = ''\n",
		"config.d/10-a.toml": "state_dir = '/run/b'\n[egress]\nmax_limit = '2G'\n[pools.more]\nkind = 'hostnic'\nnames = ['ens*']\n",
	})
	p, err := loadOwn(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.StateDir != "/run/b" || p.Egress.MaxLimit != 3e9 || p.Egress.Uplink != "" || !p.ResourceView.Required || len(p.Pools) != 2 {
		t.Errorf("got %+v", p)
	}
	if got, want := p.Pools["more"].File, filepath.Join(filepath.Dir(path), "config.d/10-a.toml"); got != want {
		t.Errorf("pool more is from %s, want %s", got, want)
	}
}

// refusal is what Load says of a policy, without the directory.
func refusal(t *testing.T, files map[string]string) string {
	t.Helper()
	path := write(t, files)
	p, err := loadOwn(path)
	if err == nil {
		t.Fatalf("loaded: %+v", p)
	}
	if p != nil {
		t.Error("a policy came out beside the error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %q", err)
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "")
}

func TestLoadRefuses(t *testing.T) {
	pool := func(lines string) string { return "[pools.p]\nkind = 'hostnic'\nnames = ['e*']\n" + lines }
	vf := func(lines string) string { return "[pools.p]\nkind = 'vf'\npfs = ['x']\n" + lines }
	const subnet = "subnets = ['10.0.0.0/24']\n"
	tests := map[string]struct{ text, want string }{
		"unknown key":                {"stat_dir = '/x'", `config config.toml:1:1: unknown key "stat_dir"; did you mean "state_dir"?`},
		"unknown key, none near":     {"\n\ncolour = 1", `config config.toml:3:1: unknown key "colour"`},
		"unknown table":              {"[pool.x]\n", `config config.toml:1:2: unknown key "pool.x"`},
		"unknown key in a table":     {"[egress]\nmaxlimit = '1G'", `config config.toml:2:1: unknown key "egress.maxlimit"; did you mean "max_limit"?`},
		"unknown key in a pool":      {pool("subnet = []"), `config config.toml:4:1: unknown key "pools.p.subnet"; did you mean "subnets"?`},
		"unknown key in a route":     {pool("routes = [{dst = '10.0.0.0/8', gww = 'x'}]"), `config config.toml:4:32: unknown key "pools.p.gww"; did you mean "gw"?`},
		"table in a pool":            {"[pools.p.q]\nx = 1", `config config.toml:1:2: unknown key "pools.p.q"`},
		"key in another case":        {pool("allow = []\nAllow = ['*']"), `config config.toml: unknown key "pools.p.Allow"; did you mean "allow"?`},
		"key of a route, same":       {pool("routes = [{Dst = '10.0.0.0/8'}]"), `config config.toml: unknown key "pools.p.routes.Dst"; did you mean "dst"?`},
		"key twice":                  {"bin_dir = '/a'\nbin_dir = '/b'", `config config.toml:2:1: key bin_dir is already defined`},
		"pool twice":                 {pool("[pools.p]\n"), `config config.toml:4:2: table p already exists`},
		"bad syntax":                 {"state_dir = ", `config config.toml:1:12: expected value, not end of input`},
		"no UTF-8":                   {"bin_dir = \"\xff\"", `config config.toml:1:12: invalid UTF-8 character in basic string`},
		"number for a string":        {"state_dir = 1", `config config.toml:1:13: state_dir must be a string`},
		"string for a list":          {pool("allow = 'docker'"), `config config.toml:4:9: pools.p.allow must be a list of strings`},
		"number in a list":           {pool("allow = [1]"), `config config.toml:4:10: pools.p.allow must be a list of strings`},
		"string for a bool":          {"[resource_view]\nenabled = 'on'", `config config.toml:2:11: resource_view.enabled must be true or false`},
		"number for a pool":          {"pools.p = 1", `config config.toml:1:11: pools.p has a value of the wrong type`},
		"fraction for a number":      {pool("mtu = 1.5"), `config config.toml:4:7: pools.p.mtu must be a whole number`},
		"relative state_dir":         {"state_dir = 'run/candor'", `config config.toml: state_dir: "run/candor" is not an absolute path`},
		"empty state_dir":            {"state_dir = ''", `config config.toml: state_dir: "" is not an absolute path`},
		"state_dir is the root":      {"state_dir = '/run/..'", `config config.toml: state_dir: "/run/.." is the root directory`},
		"state_dir too long":         {"state_dir = '/" + strings.Repeat("x", 80) + "'", `config config.toml: state_dir: "/` + strings.Repeat("x", 80) + `" is longer than 80 bytes: sockets lie in it`},
		"relative bin_dir":           {"bin_dir = 'bin'", `config config.toml: bin_dir: "bin" is not an absolute path`},
		"bad rate":                   {"[egress]\nmax_limit = '100m'", `config config.toml: egress.max_limit: "100m" is in thousandths of a bit; did you mean "100M"?`},
		"bad capacity":               {"[egress]\ncapacity = '0'", `config config.toml: egress.capacity: "0" is zero: a rate is 1k to 1P bits per second`},
		"bad uplink":                 {"[egress]\nuplink = 'a/b'", `config config.toml: egress.uplink: "a/b" must be printable ASCII without space, "/", ":" and "%"`},
		"port alone":                 {"[metrics]\nlisten = ':9464'", `config config.toml: metrics.listen: ":9464" is not an IP address with a port, such as "127.0.0.1:9464"`},
		"name of a host":             {"[metrics]\nlisten = 'localhost:9464'", `config config.toml: metrics.listen: "localhost:9464" is not an IP address with a port, such as "127.0.0.1:9464"`},
		"port that is none":          {"[metrics]\nlisten = '127.0.0.1:0'", `config config.toml: metrics.listen: "127.0.0.1:0" has no port that could be asked`},
		"address in IPv6 dress":      {"[metrics]\nlisten = '[::ffff:127.0.0.1]:1'", `config config.toml: metrics.listen: "[::ffff:127.0.0.1]:1" is an IPv4 address in IPv6 dress`},
		"number for an address":      {"[metrics]\nlisten = 9464", `config config.toml:2:10: metrics.listen must be a string`},
		"unknown key of metrics":     {"[metrics]\nlissen = ''", `config config.toml:2:1: unknown key "metrics.lissen"; did you mean "listen"?`},
		"pool's name":                {"[pools.'a b']\nkind = 'hostnic'", `config config.toml: pools: "a b" is no pool's name: 1 to 63 letters, digits, ".", "_" and "-", the first one a letter or digit`},
		"no kind":                    {"[pools.p]\n", `config config.toml: pools.p.kind: is missing: one of hostnic, vf`},
		"unknown kind":               {"[pools.p]\nkind = 'host-nic'", `config config.toml: pools.p.kind: "host-nic" is unknown; did you mean "hostnic"?`},
		"unknown kind, none near":    {"[pools.p]\nkind = 'bridge'", `config config.toml: pools.p.kind: "bridge" is unknown: one of hostnic, vf`},
		"hostnic that holds nothing": {"[pools.p]\nkind = 'hostnic'", `config config.toml: pools.p.kind: a hostnic pool needs one of macs, names, pci, drivers: without them it holds no NIC`},
		"hostnic with pfs":           {pool("pfs = ['x']"), `config config.toml: pools.p.pfs: is for kind "vf", and this pool is of kind "hostnic"`},
		"vf that holds nothing":      {"[pools.p]\nkind = 'vf'", `config config.toml: pools.p.kind: a vf pool needs pfs: without them it holds no NIC`},
		"vf with names":              {"[pools.p]\nkind = 'vf'\npfs = ['x']\nnames = ['y']", `config config.toml: pools.p.kind: names and pci are for kind "hostnic", and this pool is of kind "vf": it has pfs`},
		"hostnic with numvfs":        {pool("numvfs = 4"), `config config.toml: pools.p.numvfs: is for kind "vf", and this pool is of kind "hostnic"`},
		"hostnic with vlans":         {pool("vlans = ['4']"), `config config.toml: pools.p.vlans: is for kind "vf", and this pool is of kind "hostnic"`},
		"no VFs":                     {vf("numvfs = 0"), `config config.toml: pools.p.numvfs: 0 must be 1 to 65536`},
		"numbers of no VFs":          {"[pools.p]\nkind = 'vf'\npfs = ['x#0-3,']", `config config.toml: pools.p.pfs: "x#0-3,": "" is neither a number nor a range such as "0-3", up to 65535`},
		"numbers the wrong way":      {"[pools.p]\nkind = 'vf'\npfs = ['x#3-0']", `config config.toml: pools.p.pfs: "x#3-0": "3-0" is neither a number nor a range such as "0-3", up to 65535`},
		"VFs of no PF":               {"[pools.p]\nkind = 'vf'\npfs = ['#3']", `config config.toml: pools.p.pfs: a pattern is empty, and would match nothing`},
		"vlan out of range":          {vf("vlan = 4095"), `config config.toml: pools.p.vlan: 4095 must be 0 to 4094`},
		"vlans out of range":         {vf("vlans = ['4000-4095']"), `config config.toml: pools.p.vlans: "4000-4095" is neither a number nor a range such as "0-3", up to 4094`},
		"vlans as numbers":           {vf("vlans = [4]"), `config config.toml:4:10: pools.p.vlans must be a list of strings`},
		"a rate that is none":        {vf("max_tx_rate = 'fast'"), `config config.toml: pools.p.max_tx_rate: "fast" is not a rate: a number with one of k, M, G, T, P behind it, such as "100M"`},
		"unknown permit":             {vf("permit = ['promisq']"), `config config.toml: pools.p.permit: "promisq" is unknown; did you mean "promisc"?`},
		"malformed pattern":          {pool("drivers = ['[a']"), `config config.toml: pools.p.drivers: "[a" is a malformed pattern`},
		"empty pattern":              {pool("allow = ['']"), `config config.toml: pools.p.allow: a pattern is empty, and would match nothing`},
		"half a MAC":                 {pool("macs = ['52:54']"), `config config.toml: pools.p.macs: "52:54" is neither a MAC address nor a pattern such as "52:54:*"`},
		"MAC pattern with a letter":  {pool("macs = ['52:5g:*']"), `config config.toml: pools.p.macs: "52:5g:*" holds "g", which no MAC address does`},
		"caller unknown":             {pool("allow = ['kubernets:x']"), `config config.toml: pools.p.allow: "kubernets:x" names no caller; did you mean "kubernetes"?`},
		"caller unknown, none near":  {pool("allow = ['everybody']"), `config config.toml: pools.p.allow: "everybody" names no caller: they are containerd:NAMESPACE, kubernetes:NAMESPACE, docker, podman, crio, runc`},
		"caller without namespace":   {pool("allow = ['containerd']"), `config config.toml: pools.p.allow: "containerd" names no namespace; did you mean "containerd:*"?`},
		"caller with namespace":      {pool("allow = ['docker:x']"), `config config.toml: pools.p.allow: "docker:x" has a namespace, which docker has not; did you mean "docker"?`},
		"subnet that is none":        {pool("subnets = ['10.0.0.0']"), `config config.toml: pools.p.subnets: "10.0.0.0" is not a network such as "192.168.1.0/24"`},
		"subnet unmasked":            {pool("subnets = ['10.0.0.1/24']"), `config config.toml: pools.p.subnets: "10.0.0.1/24" is an address in a network; did you mean "10.0.0.0/24"?`},
		"subnet of IPv4 in IPv6":     {pool("subnets = ['::ffff:10.0.0.0/104']"), `config config.toml: pools.p.subnets: "::ffff:10.0.0.0/104" is an IPv4 network in IPv6 dress`},
		"subnet of multicast":        {pool("subnets = ['224.0.0.0/8']"), `config config.toml: pools.p.subnets: "224.0.0.0/8" holds no address of a host`},
		"subnet twice":               {pool("subnets = ['10.0.0.0/8', '10.0.0.0/8']"), `config config.toml: pools.p.subnets: "10.0.0.0/8" is given twice`},
		"gateway that is none":       {pool(subnet + "gateways = ['x']"), `config config.toml: pools.p.gateways: "x" is not an IP address`},
		"gateway without subnet":     {pool("gateways = ['10.0.0.1']"), `config config.toml: pools.p.gateways: "10.0.0.1" is in none of the pool's subnets, so that no NIC of the pool could reach it`},
		"gateway outside":            {pool(subnet + "gateways = ['10.0.1.1']"), `config config.toml: pools.p.gateways: "10.0.1.1" is in none of the pool's subnets, so that no NIC of the pool could reach it`},
		"gateway is the network":     {pool(subnet + "gateways = ['10.0.0.0']"), `config config.toml: pools.p.gateways: "10.0.0.0/24" is the address of the network, not of a host in it`},
		"gateway twice":              {pool(subnet + "gateways = ['10.0.0.1', '10.0.0.1']"), `config config.toml: pools.p.gateways: "10.0.0.1" is given twice`},
		"link-local gateway, IPv4":   {pool(subnet + "gateways = ['fe80::1']"), `config config.toml: pools.p.gateways: "fe80::1" is in none of the pool's subnets, so that no NIC of the pool could reach it`},
		"route unmasked":             {pool("routes = [{dst = '10.0.0.1/8'}]"), `config config.toml: pools.p.routes: dst: "10.0.0.1/8" is an address in a network, not the network; did you mean "10.0.0.0/8"?`},
		"route twice":                {pool("routes = [{dst = '10.0.0.0/8'}, {dst = '10.0.0.0/8'}]"), `config config.toml: pools.p.routes: "10.0.0.0/8" is given twice`},
		"route twice, metric":        {pool("routes = [{dst = '10.0.0.0/8', metric = 5}, {dst = '10.0.0.0/8', metric = 5}]"), `config config.toml: pools.p.routes: "10.0.0.0/8" is given twice`},
		"route's metric 0":           {pool("routes = [{dst = '10.0.0.0/8', metric = 0}]"), `config config.toml: pools.p.routes: metric: "0" must be 1 to 2147483647`},
		"route in candor's table":    {pool("routes = [{dst = '10.0.0.0/8', table = 10001}]"), `config config.toml: pools.p.routes: table: "10001" must be 1 to 252 or 256 to 9999`},
		"default route of a pool":    {pool("routes = [{dst = '0.0.0.0/0'}]"), `config config.toml: pools.p.routes: dst: "0.0.0.0/0" is every address: use "gateway", with "default-route" if it is to win, or give the route a "table" of its own`},
		"misspelt key of a route":    {pool("routes = [{dst = '10.0.0.0/8', metrics = 5}]"), `config config.toml:4:32: unknown key "pools.p.metrics"; did you mean "metric"?`},
		"route beyond the subnets":   {pool(subnet + "routes = [{dst = '10.1.0.0/16', gw = '10.2.0.1'}]"), `config config.toml: pools.p.routes: "10.2.0.1" is in none of the pool's subnets, so that no NIC of the pool could reach it`},
		"wait in a vf pool":          {"[pools.p]\nkind = 'vf'\npfs = ['x']\nwait = '1s'", `config config.toml: pools.p.wait: is for kind "hostnic", and this pool is of kind "vf"`},
		"wait without a unit":        {pool("wait = '10'"), `config config.toml: pools.p.wait: "10" has no unit; did you mean "10s"?`},
		"wait as a number":           {pool("wait = 10"), `config config.toml:4:8: pools.p.wait must be a duration such as "10s"`},
		"wait that is none":          {pool("wait = 'ten'"), `config config.toml: pools.p.wait: "ten" is not a duration such as "10s"`},
		"wait below 0":               {pool("wait = '-1s'"), `config config.toml: pools.p.wait: "-1s" must be 0s to 60s`},
		"wait too long":              {pool("wait = '61s'"), `config config.toml: pools.p.wait: "61s" must be 0s to 60s`},
		"MTU too small":              {pool("mtu = 67"), `config config.toml: pools.p.mtu: 67 must be 68 to 65535`},
		"MTU too small for IPv6":     {pool("subnets = ['fd00::/64']\nmtu = 1279"), `config config.toml: pools.p.mtu: 1279 must be 1280 to 65535`},
		"MTU too large":              {pool("mtu = 65536"), `config config.toml: pools.p.mtu: 65536 must be 68 to 65535`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := refusal(t, map[string]string{"config.toml": tt.text}); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLongestWaitOfARequestsPools(t *testing.T) {
	p := &Policy{Pools: map[string]Pool{"a": {Wait: time.Second}, "b": {Wait: 3 * time.Second}, "c": {}}}
	for pools, want := range map[string]time.Duration{"": 0, "c": 0, "a": time.Second, "a c b": 3 * time.Second, "nosuch": 0} {
		var r request.Request
		for _, pool := range strings.Fields(pools) {
			r.NICs = append(r.NICs, request.NIC{Pool: pool})
		}
		if got := p.WaitFor(r); got != want {
			t.Errorf("%q: %s, want %s", pools, got, want)
		}
	}
}

func TestAPoolInTwoFilesNamesBoth(t *testing.T) {
	got := refusal(t, map[string]string{"config.toml": cloud, "config.d/a.toml": cloud})
	if want := "config config.d/a.toml: pool cloud is defined in config.toml already"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBrokenDropInBreaksThePolicy(t *testing.T) {
	got := refusal(t, map[string]string{"config.toml": cloud, "config.d/a.toml": "x"})
	if want := "config config.d/a.toml:1:1: expected '=' after key"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestShippedConfigsLoad(t *testing.T) {
	paths, err := filepath.Glob("../packaging/config*.toml")
	if err != nil || len(paths) < 2 {
		t.Fatal(paths, err)
	}
	for _, shipped := range paths {
		text, err := os.ReadFile(shipped)
		if err != nil {
			t.Fatal(err)
		}
		// Also with all its commented settings: they have to be right too.
		uncommented := strings.NewReplacer("\n#state", "\nstate", "\n#bin", "\nbin", "\n#wait", "\nwait").Replace(string(text))
		for _, text := range []string{string(text), uncommented} {
			if _, err := loadOwn(write(t, map[string]string{"config.toml": text})); err != nil {
				t.Errorf("%s: %v", shipped, err)
			}
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(cloud), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := loadOwn(path); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNamedFileThatIsMissingIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Load = %v, want an error that names %s", err, path)
	}
}
