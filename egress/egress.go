// Package egress limits what leaves through a network device, by a qdisc on
// the device itself inside the container's network namespace: nothing is
// shared between containers, a full queue holds the sender back instead of
// dropping its packets, and every kind of device is served alike.
//
// The tree is one HTB root with one class that all packets fall into, ARP
// too, and a leaf that is fq_codel where the kernel has it and bfifo
// elsewhere. Sizes count the Ethernet header.
//
// It binds processes that can neither change it (CAP_NET_ADMIN) nor go around
// it: a packet socket with PACKET_QDISC_BYPASS, or AF_XDP, needs CAP_NET_RAW
// only and meets no qdisc at all. Who may hold which capability is for the
// caller to decide. The qdisc goes with a move of the device to another
// namespace: a device is shaped after it has arrived.
package egress

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

const (
	rootHandle = 1 << 16
	// classMinor is the default class. The odd number says whose the tree
	// is: 1: is the handle that everyone takes.
	classMinor = 0xcad0
	classID    = rootHandle | classMinor
	leafHandle = classMinor << 16
)

// ForeignError is returned for a device whose root qdisc somebody else chose.
type ForeignError struct {
	Device string
	// Qdisc is the root qdisc, as "tbf 8001:0".
	Qdisc string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s has the root qdisc %s, which candor did not set: remove it or ask for no limit", e.Device, e.Qdisc)
}

// Shape limits what leaves through the device to limitBits bits per second
// ([MinLimit] to [MaxLimit]), headers of the link layer counted, and reads all
// of it back. Below 250 Mbit/s it lowers the device's gso_max_size, so that
// one packet is about 2 ms of the limit.
//
// It may be called again: with the same limit nothing changes; with another
// one the class changes and its queue is kept. A root qdisc that is neither
// the kernel's default nor candor's is a [ForeignError]. After an error the
// device is as it was.
func Shape(ns Namespace, link netlink.Link, limitBits uint64) (ledger.ShapedDevice, error) {
	name := link.Attrs().Name
	c, err := dial(ns)
	if err != nil {
		return ledger.ShapedDevice{}, fmt.Errorf("limit egress of %s: %w", name, err)
	}
	defer c.close()
	dev, err := c.shape(link.Attrs().Index, limitBits)
	if err != nil {
		return ledger.ShapedDevice{}, fmt.Errorf("limit egress of %s to %d bit/s: %w", name, limitBits, err)
	}
	return dev, nil
}

func (c *conn) shape(index int, limitBits uint64) (_ ledger.ShapedDevice, err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()

	link, err := c.LinkByIndex(index)
	if err != nil {
		return ledger.ShapedDevice{}, err
	}
	base := link.Attrs()
	ours, err := c.ourRoot(base)
	if err != nil {
		return ledger.ShapedDevice{}, err
	}
	var old *htbClass
	if ours {
		if old, err = c.ourClass(index); err != nil {
			return ledger.ShapedDevice{}, err
		}
	}

	natural := naturalGSO(base, old)
	p, err := newPlan(limitBits, base.MTU, natural.largest())
	if err != nil {
		return ledger.ShapedDevice{}, err
	}

	if !ours {
		// Not NLM_F_REPLACE: what came since the look is not ours to drop.
		if err := c.modify(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, rootHandle, netlink.HANDLE_ROOT, "htb", htbRoot()); err != nil {
			return ledger.ShapedDevice{}, fmt.Errorf("add htb: %w", err)
		}
		undo = append(undo, func() error { return c.deleteRoot(index) })
	}
	cl := class{rate: p.rate, buffer: p.buffer, quantum: p.quantum}
	if old != nil && old.rate == old.ceil {
		undo = append(undo, func() error {
			return c.setClass(index, class{rate: old.rate, buffer: old.buffer, quantum: old.quantum})
		})
	}
	if err := c.setClass(index, cl); err != nil {
		return ledger.ShapedDevice{}, fmt.Errorf("set htb class: %w", err)
	}
	leaf, err := c.setLeaf(index, p.leaf)
	if err != nil {
		return ledger.ShapedDevice{}, fmt.Errorf("set leaf qdisc: %w", err)
	}
	// Last, so that a Shape that is killed anywhere leaves nothing lowered
	// without a class that tells by how much.
	want := natural.lowered(p.gso)
	if have := gsoOf(base); have != want {
		undo = append(undo, func() error { return c.setGSO(link, have) })
		if err := c.setGSO(link, want); err != nil {
			return ledger.ShapedDevice{}, err
		}
	}
	if err := c.compare(index, cl, leaf, p.leaf, want); err != nil {
		return ledger.ShapedDevice{}, fmt.Errorf("read back: %w", err)
	}
	dev := ledger.ShapedDevice{Name: base.Name, Index: index, Leaf: leaf}
	if want != natural {
		dev.GSOMaxSize = want.size
	}
	return dev, nil
}

// Unshape sets the device's gso_max_size back to gsoMaxSize where it still is
// what Shape set (0 leaves it), and takes candor's qdisc off, whereupon the
// kernel puts its default there. A device that is gone, or that carries
// somebody else's qdisc by now, is left alone: that is no error.
func Unshape(ns Namespace, dev ledger.ShapedDevice, gsoMaxSize uint32) error {
	c, err := dial(ns)
	if err != nil {
		return fmt.Errorf("lift egress limit of %s: %w", dev.Name, err)
	}
	defer c.close()
	if err := c.unshape(dev, gsoMaxSize); err != nil && !gone(err) {
		return fmt.Errorf("lift egress limit of %s: %w", dev.Name, err)
	}
	return nil
}

func (c *conn) unshape(dev ledger.ShapedDevice, gsoMaxSize uint32) error {
	link, err := c.LinkByIndex(dev.Index)
	if err != nil {
		return err
	}
	base := link.Attrs()
	ours, err := c.ourRoot(base)
	var foreign *ForeignError
	if err != nil && !errors.As(err, &foreign) {
		return err
	}
	lowered := dev.GSOMaxSize
	if ours && lowered == 0 {
		// A Shape that was killed before its result was written down.
		cl, err := c.ourClass(dev.Index)
		if err != nil {
			return err
		}
		if cl != nil && cl.lowersGSO(base) {
			lowered = base.GSOMaxSize
		}
	}
	if lowered != 0 && gsoMaxSize != 0 && base.GSOMaxSize == lowered {
		was := gso{size: gsoMaxSize}
		if base.GSOIPv4MaxSize != 0 {
			was.ipv4 = min(gsoMaxSize, gsoCeil)
		}
		if err := c.setGSO(link, was); err != nil {
			return err
		}
	}
	if !ours {
		return nil
	}
	if err := c.deleteRoot(dev.Index); err != nil {
		return fmt.Errorf("delete htb: %w", err)
	}
	return nil
}

func gone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
