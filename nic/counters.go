package nic

import "candor.dev/candor/ledger"

// Counters are an interface's own (IFLA_STATS64, rtnetlink(7)).
type Counters struct {
	ReceivedBytes, ReceivedPackets, SentBytes, SentPackets uint64
	// Dropped packets, in both directions.
	Dropped uint64
}

// CountersOf returns the counters of a NIC that is in this namespace, and whether it
// is.
func (n *Namespace) CountersOf(rec *ledger.NIC) (c Counters, found bool, err error) {
	link, err := byIndexInside(isIt)(n, rec)
	if link == nil && err == nil {
		link, err = byTransientName(isAtItsPlace)(n, rec)
	}
	if err != nil || link == nil || link.Attrs().Statistics == nil {
		return Counters{}, false, err
	}
	s := link.Attrs().Statistics
	return Counters{
		ReceivedBytes: s.RxBytes, ReceivedPackets: s.RxPackets, SentBytes: s.TxBytes, SentPackets: s.TxPackets,
		Dropped: s.RxDropped + s.TxDropped,
	}, true, nil
}
