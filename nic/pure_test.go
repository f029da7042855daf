package nic

import (
	"net/netip"
	"regexp"
	"testing"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
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

// A VF's permanent address is what its driver says at the moment: none before it
// was up for the first time, and whatever the container set last from then on.
func TestAVFIsKnownByItsPlace(t *testing.T) {
	vf := func(parent, permanent string) netlink.Link {
		attrs := netlink.LinkAttrs{ParentDev: parent, ParentDevBus: "pci"}
		if permanent != "" {
			attrs.PermHWAddr = parseMAC(t, permanent)
		}
		return &netlink.Device{LinkAttrs: attrs}
	}
	const place, other = "0000:3b:02.1", "0000:3b:02.3"
	for _, permanent := range []string{"", nicMAC} {
		rec := &ledger.NIC{ParentDevice: place, ParentBus: "pci", PermanentMAC: permanent, MAC: nicMAC}
		if !isIt(rec, vf(place, permanent)) {
			t.Errorf("permanent address %q: not the VF as it was", permanent)
		}
		changed := vf(place, "02:00:00:00:00:01")
		if isIt(rec, changed) || !isAtItsPlace(rec, changed) {
			t.Errorf("permanent address %q: a changed one is unmistakable %v, possible %v", permanent, isIt(rec, changed), isAtItsPlace(rec, changed))
		}
		if isIt(rec, vf(other, permanent)) || isAtItsPlace(rec, vf(other, permanent)) {
			t.Errorf("permanent address %q: another VF was taken for it", permanent)
		}
	}
	virtual := &ledger.NIC{MAC: nicMAC}
	if isAtItsPlace(virtual, vf("", "02:00:00:00:00:01")) {
		t.Error("a device without a place was taken for a virtual one")
	}
}
