package nic

import (
	"net/netip"

	"candor.dev/candor/ledger"
)

// KeptAddresses returns the addresses that a NIC of this record brings along
// under [Config.KeepAddresses]: known only after [Snapshot], and needed for the
// gateways and routes that go with them.
func KeptAddresses(rec ledger.NIC) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range keptAddresses(&rec) {
		prefixes = append(prefixes, a.Prefix)
	}
	return prefixes
}
