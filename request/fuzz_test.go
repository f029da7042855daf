package request

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
)

// oneLine checks what every error promises, whatever it was made from.
func oneLine(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Rule == "" {
		t.Errorf("not an *Error with a rule: %#v", err)
	}
	text := err.Error()
	if len(text) > 1000 {
		t.Errorf("error of %d bytes: %s", len(text), text)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Fatalf("error holds byte %#x: %q", text[i], text)
		}
	}
}

// FuzzParse gives any key any value, in front of fixed others.
func FuzzParse(f *testing.F) {
	for _, s := range [][2]string{
		{"nic", "pool=cloud,mac=52:54:0e:e5:00:f7,ip=192.168.1.5/24,gateway=192.168.1.1"},
		{"nic", "pool=p;interface=eth0;ip=10.0.0.5;ip=fd00::5/64;gateway=10.0.0.1;gateway=fe80::1;default-route=true;mtu=1500"},
		{"nic", "pool=p,vlan=5,qos=3,proto=802.1ad,spoofchk=false,trust=true,link-state=enable,min-tx-rate=1M,max-tx-rate=1G,promisc=true,allmulti=false,best-effort=true"},
		{"nics", `[{"pool":"fast","interface":"net0","mac":"52:54:00:00:00:01","ips":["10.0.0.5/24","fd00::5/64"],"gateway":["10.0.0.1"],"routes":[{"dst":"10.1.0.0/16","gw":"10.0.0.1"}],"mtu":9000,"vlan":100,"qos":3,"proto":"802.1q","spoofchk":true,"trust":false,"link-state":"auto","min-tx-rate":"100M","max-tx-rate":"1G"}]`},
		{"nics", `[{"pool":"p"},{"pool":"q","interface":"net0"},{"pool":"r","default-route":["10.0.0.1"]}]`},
		{"nics", `[{"pool":"p","default-route":[]},{"pool":"p","ips":["1:2:3:4:5:6::8"]}]`},
		{"nics", `[{"pool":"p","interface":"\"<&>\\"}]`},
		{"nics", `[{"pool":"p","routes":[{"dst":"::/0","table":256,"metric":1},{"dst":"::/0","table":256,"priority":1024}]}]`},
		{"nics", `[]`},
		{"nics", `[{"pool":"p","pool":"q"}]`},
		{"egress-limit", "1.5G"},
		{"resource-view", "off"},
		{"egress-limt", "x"},
		{"", ""},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		in := map[string]string{Prefix + key: value, "mac": "x", "candor.dev": "y"}
		r, err := Parse(in)
		if err != nil {
			oneLine(t, err)
			if !reflect.DeepEqual(r, Request{}) {
				t.Error("a request came out beside an error")
			}
			return
		}
		if len(r.NICs) > MaxNICs {
			t.Errorf("%d NICs", len(r.NICs))
		}
		names := make(map[string]bool)
		for _, n := range r.NICs {
			if CheckInterface(n.Interface) != nil || names[n.Interface] || CheckPool(n.Pool) != nil {
				t.Errorf("interface %q of pool %q", n.Interface, n.Pool)
			}
			names[n.Interface] = true
		}
		printed := r.Annotations()
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("prints as %q, which is refused: %v", printed, err)
		}
		if !reflect.DeepEqual(again, r) {
			t.Errorf("prints as %q, which is\n%+v, not\n%+v", printed, again, r)
		}
		if twice := again.Annotations(); !maps.Equal(twice, printed) {
			t.Errorf("prints as %q, then as %q", printed, twice)
		}
		if r.Empty() != (len(printed) == 0) {
			t.Errorf("Empty() = %v, printed %q", r.Empty(), strings.Join([]string{key, value}, "="))
		}
	})
}
