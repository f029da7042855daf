package nic

import (
	"net/netip"
	"regexp"
	"testing"
)

func TestTransientNamesAreUniqueAndValid(t *testing.T) {
	form, seen := regexp.MustCompile(`^cdr[0-9a-f]{10}$`), map[string]bool{}
	for range 1000 {
		name, err := TransientName()
		if err != nil {
			t.Fatal(err)
		}
		if !form.MatchString(name) || checkName(name) != nil || seen[name] {
			t.Fatalf("%q", name)
		}
		seen[name] = true
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"net0": true, "a": true, "fifteen-bytes-x": true, "eth0.100": true,
		"": false, "sixteen-bytes-xx": false, ".": false, "..": false, "a/b": false, "a b": false, "a:1": false, "net%d": false, "a\nb": false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestBroadcastOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.168.50.9/24": "192.168.50.255", "10.0.0.1/8": "10.255.255.255", "10.0.0.5/30": "10.0.0.7", "172.16.5.4/20": "172.16.15.255",
		"10.0.0.5/31": "invalid IP", "10.0.0.5/32": "invalid IP", "fd00::1/64": "invalid IP",
	} {
		if got := broadcastOf(netip.MustParsePrefix(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestLinkLocal(t *testing.T) {
	if got := linkLocal(parseMAC(t, nicMAC)).String(); got != "fe80::5054:eff:fee5:f7" {
		t.Error(got)
	}
}
