package egress

import (
	"encoding/binary"
	"errors"
	"fmt"

	"candor.dev/candor/ledger"
)

// The kernel's statistics of qdiscs and classes (gen_stats.h).
const (
	statsBasic   = 1 // struct gnet_stats_basic: u64 bytes, u32 packets
	statsQueue   = 3 // struct gnet_stats_queue: u32 packets waiting, bytes waiting, drops, ...
	statsPackets = 8 // u64, where 32 bits are not enough (5.5)
)

// Stats are the counters of a limit, since it was first set.
type Stats struct {
	// Bytes and Packets were sent. Bytes count the link layer's header.
	Bytes, Packets uint64
	// Drops is how many packets the queue dropped, as it was full or, in fq_codel,
	// as they had waited for long. It wraps at 32 bits.
	Drops uint32
	// BacklogBytes and BacklogPackets wait to be sent: more than 0 is a sender that
	// is held back.
	BacklogBytes, BacklogPackets uint32
}

// ReadStats returns the counters of what [Shape] has put on the device.
func ReadStats(ns Namespace, dev ledger.ShapedDevice) (Stats, error) {
	c, err := dial(ns)
	if err != nil {
		return Stats{}, fmt.Errorf("read the counters of %s: %w", dev.Name, err)
	}
	defer c.close()
	s, err := c.stats(dev.Index)
	if err != nil {
		return Stats{}, fmt.Errorf("read the counters of %s: %w", dev.Name, err)
	}
	return s, nil
}

func (c *conn) stats(index int) (Stats, error) {
	classes, err := c.classes(index)
	if err != nil {
		return Stats{}, err
	}
	qdiscs, err := c.qdiscs(index)
	if err != nil {
		return Stats{}, err
	}
	class, ok := find(classes, classID)
	leaf, both := find(qdiscs, leafHandle)
	if !ok || !both {
		return Stats{}, errors.New("candor's limit is not on it (see candor check)")
	}
	s := class.stats
	// A class does not know what its leaf drops of itself.
	s.Drops = leaf.stats.Drops
	return s, nil
}

// parseStats reads an object's TCA_STATS2. What is missing is 0.
func parseStats(b []byte) (s Stats, err error) {
	attrs, err := values(b)
	if err != nil {
		return s, err
	}
	if basic := attrs[statsBasic]; len(basic) >= 12 {
		s.Bytes = binary.NativeEndian.Uint64(basic)
		s.Packets = uint64(binary.NativeEndian.Uint32(basic[8:]))
	}
	if packets := attrs[statsPackets]; len(packets) >= 8 {
		s.Packets = binary.NativeEndian.Uint64(packets)
	}
	if queue := attrs[statsQueue]; len(queue) >= 12 {
		s.BacklogPackets = binary.NativeEndian.Uint32(queue)
		s.BacklogBytes = binary.NativeEndian.Uint32(queue[4:])
		s.Drops = binary.NativeEndian.Uint32(queue[8:])
	}
	return s, nil
}
