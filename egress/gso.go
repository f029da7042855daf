package egress

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// gso is how large a device lets the stack build packets, in bytes.
type gso struct {
	// size is gso_max_size: for both families before Linux 6.3, for IPv6
	// since. More than 64 kB is BIG TCP.
	size uint32
	// ipv4 is gso_ipv4_max_size; 0 where the kernel has none.
	ipv4 uint32
}

func gsoOf(base *netlink.LinkAttrs) gso {
	return gso{size: base.GSOMaxSize, ipv4: base.GSOIPv4MaxSize}
}

func (g gso) largest() uint32 { return max(g.size, g.ipv4) }

func (g gso) String() string { return fmt.Sprintf("%d (ipv4 %d)", g.size, g.ipv4) }

// lowered returns the sizes bounded by max; 0 is no bound. It never raises
// one: a driver may have its reasons for a small packet.
func (g gso) lowered(bound uint32) gso {
	if bound == 0 {
		return g
	}
	return gso{size: min(g.size, bound), ipv4: min(g.ipv4, bound)}
}

// naturalGSO returns what the device has without a limit. Where an earlier
// limit has lowered it, that is the kernel's default; the sizes that the
// device had are in the ledger, and come back with Unshape.
func naturalGSO(base *netlink.LinkAttrs, old *htbClass) gso {
	have := gsoOf(base)
	if old == nil || !old.lowersGSO(base) {
		return have
	}
	full := uint32(gsoCeil)
	// The driver's bound; 0 before Linux 5.19, which had no way to ask.
	if base.TSOMaxSize != 0 {
		full = min(full, base.TSOMaxSize)
	}
	if have.ipv4 != 0 {
		have.ipv4 = full
	}
	have.size = full
	return have
}

// lowersGSO reports whether the device's size is the one that a limit of the
// class's rate sets.
func (h *htbClass) lowersGSO(base *netlink.LinkAttrs) bool {
	return h.rate < gsoUntouched/8 && base.GSOMaxSize == gsoSize(h.rate, base.MTU)
}

// setGSO sets both sizes. The order matters: gso_max_size up to 64 kB sets
// the IPv4 size too.
func (c *conn) setGSO(link netlink.Link, g gso) error {
	if err := c.LinkSetGSOMaxSize(link, int(g.size)); err != nil {
		return fmt.Errorf("set gso_max_size %d: %w", g.size, err)
	}
	if g.ipv4 == 0 {
		return nil
	}
	if err := c.LinkSetGSOIPv4MaxSize(link, int(g.ipv4)); err != nil {
		return fmt.Errorf("set gso_ipv4_max_size %d: %w", g.ipv4, err)
	}
	return nil
}
