package main

import (
	"bytes"
	"net/netip"
	"testing"

	"candor.dev/candor/lifecycle"
	"candor.dev/candor/nic"
)

func TestNetworkStatusHasTheAnnotationsShape(t *testing.T) {
	list := []lifecycle.NICStatus{
		{Pool: "fast", Status: nic.Status{
			Interface: "net0", MAC: "52:54:00:00:00:01", MTU: 9000, Up: true, Default: true, PCI: "0000:3b:02.1",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24"), netip.MustParsePrefix("fd00::5/64")},
			Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		}},
		{Pool: "cloud", Status: nic.Status{Interface: "net1", MAC: "52:54:00:00:00:02", MTU: 1500}},
	}
	const want = `[
  {
    "name": "candor/fast",
    "interface": "net0",
    "ips": [
      "10.0.0.5",
      "fd00::5"
    ],
    "mac": "52:54:00:00:00:01",
    "mtu": 9000,
    "default": true,
    "dns": {},
    "device-info": {
      "type": "pci",
      "version": "1.1.0",
      "pci": {
        "pci-address": "0000:3b:02.1"
      }
    },
    "gateway": [
      "10.0.0.1"
    ]
  },
  {
    "name": "candor/cloud",
    "interface": "net1",
    "mac": "52:54:00:00:00:02",
    "mtu": 1500,
    "dns": {}
  }
]
`
	var got bytes.Buffer
	if err := printJSON(&got, asAnnotation(list)); err != nil || got.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, &got, want)
	}
	got.Reset()
	if err := printJSON(&got, asAnnotation(nil)); err != nil || got.String() != "[]\n" {
		t.Errorf("of no NIC: %q, %v", &got, err)
	}
}
