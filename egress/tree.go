package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kinds of leaf, as the ledger names them.
const (
	leafFqCodel = "fq_codel"
	leafBfifo   = "bfifo"
)

// ourRoot reports whether the device's root qdisc is candor's. It returns a
// ForeignError for one that is neither that nor the kernel's default.
func (c *conn) ourRoot(base *netlink.LinkAttrs) (bool, error) {
	qdiscs, err := c.qdiscs(base.Index)
	if err != nil {
		return false, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		if q.parent != netlink.HANDLE_ROOT {
			continue
		}
		// The kernel's own have no handle, whichever kind the sysctl
		// net.core.default_qdisc names; any other gets one.
		if q.handle == 0 {
			return false, nil
		}
		if q.kind == "htb" && q.handle == rootHandle && defaultClass(q) == classMinor {
			return true, nil
		}
		return false, &ForeignError{Device: base.Name, Qdisc: fmt.Sprintf("%s %s", q.kind, netlink.HandleStr(q.handle))}
	}
	return false, nil // none is listed while the device has never been up
}

func defaultClass(q object) uint32 {
	b := q.options[nl.TCA_HTB_INIT]
	if len(b) < nl.SizeofTcHtbGlob {
		return 0
	}
	return nl.DeserializeTcHtbGlob(b).Defcls
}

// ourClass returns the class of candor's tree, nil where a Shape that was
// killed has not come to it.
func (c *conn) ourClass(index int) (*htbClass, error) {
	classes, err := c.classes(index)
	if err != nil {
		return nil, fmt.Errorf("list classes: %w", err)
	}
	for _, o := range classes {
		if o.kind == "htb" && o.handle == classID {
			h, err := o.htbClass()
			return &h, err
		}
	}
	return nil, nil
}

func (c *conn) setClass(index int, cl class) error {
	return c.modify(unix.RTM_NEWTCLASS, unix.NLM_F_CREATE, index, classID, rootHandle, "htb", cl.options())
}

// setLeaf makes the leaf, or changes the one that is there, and returns its
// kind.
func (c *conn) setLeaf(index int, p leafPlan) (string, error) {
	qdiscs, err := c.qdiscs(index)
	if err != nil {
		return "", fmt.Errorf("list qdiscs: %w", err)
	}
	set := func(kind string, options any) error {
		return c.modify(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, leafHandle, classID, kind, options)
	}
	// A bfifo stays one, though the kernel may have got its module since: a
	// qdisc changes its kind only by being dropped with its packets.
	if old, ok := find(qdiscs, leafHandle); !ok || old.kind == leafFqCodel {
		err := set(leafFqCodel, fqCodel(p))
		if err == nil {
			return leafFqCodel, nil
		}
		// ENOENT: the kernel has no such qdisc, nor a module for it.
		if !errors.Is(err, unix.ENOENT) {
			return "", fmt.Errorf("%s: %w", leafFqCodel, err)
		}
	}
	if err := set(leafBfifo, bfifo(p)); err != nil {
		return "", fmt.Errorf("%s: %w", leafBfifo, err)
	}
	return leafBfifo, nil
}

func (c *conn) deleteRoot(index int) error {
	err := c.modify(unix.RTM_DELQDISC, 0, index, rootHandle, netlink.HANDLE_ROOT, "", nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// compare reads the device's tree and names all that is not as it was set:
// acceptance proves nothing (tc took "u32 match mark" on a kernel without it).
func (c *conn) compare(index int, want class, leaf string, lp leafPlan, g gso) error {
	link, err := c.LinkByIndex(index)
	if err != nil {
		return err
	}
	qdiscs, err := c.qdiscs(index)
	if err != nil {
		return fmt.Errorf("list qdiscs: %w", err)
	}
	classes, err := c.classes(index)
	if err != nil {
		return fmt.Errorf("list classes: %w", err)
	}

	var d differences
	if have := gsoOf(link.Attrs()); have != g {
		d.add("gso_max_size", have, g)
	}
	if q, ok := find(qdiscs, rootHandle); !ok {
		d.add("root qdisc", "missing", "htb 1:")
	} else {
		d.compareRoot(q)
	}
	if q, ok := find(qdiscs, leafHandle); !ok {
		d.add("leaf qdisc", "missing", leaf)
	} else {
		d.compareLeaf(q, leaf, lp)
	}
	if len(classes) != 1 || classes[0].handle != classID {
		d.add("number of classes", len(classes), 1)
	} else if have, err := classes[0].htbClass(); err != nil {
		return err
	} else if full := (htbClass{want.rate, want.rate, want.buffer, want.buffer, want.quantum}); have != full {
		d.add("htb class", fmt.Sprintf("%+v", have), fmt.Sprintf("%+v", full))
	}
	return errors.Join(d...)
}

func find(objects []object, handle uint32) (object, bool) {
	for _, o := range objects {
		if o.handle == handle {
			return o, true
		}
	}
	return object{}, false
}

// difference is one thing that is not as it was set.
type difference struct {
	what       string
	have, want any
}

func (d difference) Error() string {
	return fmt.Sprintf("%s is %v instead of %v", d.what, d.have, d.want)
}

type differences []error

func (d *differences) add(what string, have, want any) {
	*d = append(*d, difference{what, have, want})
}

func (d *differences) compareRoot(q object) {
	if q.kind != "htb" || q.parent != netlink.HANDLE_ROOT {
		d.add("root qdisc", q.kind, "htb")
		return
	}
	if have := defaultClass(q); have != classMinor {
		d.add("htb default class", have, classMinor)
	}
	if have, ok := q.u32(nl.TCA_HTB_DIRECT_QLEN); !ok || have != 0 {
		d.add("htb direct_qlen", have, 0)
	}
}

func (d *differences) compareLeaf(q object, kind string, p leafPlan) {
	if q.kind != kind || q.parent != classID {
		d.add("leaf qdisc", q.kind, kind)
		return
	}
	if kind == leafBfifo {
		if len(q.rawOptions) < 4 {
			d.add("bfifo limit", "missing", p.limit)
		} else if have := binary.NativeEndian.Uint32(q.rawOptions); have != p.limit {
			d.add("bfifo limit", have, p.limit)
		}
		return
	}
	for _, t := range []struct {
		what string
		id   int
		want time.Duration
	}{
		{"fq_codel target", nl.TCA_FQ_CODEL_TARGET, p.target},
		{"fq_codel interval", nl.TCA_FQ_CODEL_INTERVAL, p.interval},
	} {
		have, _ := q.u32(t.id)
		want := uint32(t.want / time.Microsecond)
		// CoDel keeps times in units of 1024 ns: 5000 us come back as 4999.
		if have > want || have+2 < want {
			d.add(t.what, have, want)
		}
	}
	if have, _ := q.u32(nl.TCA_FQ_CODEL_MEMORY_LIMIT); have != p.memory {
		d.add("fq_codel memory_limit", have, p.memory)
	}
	if have, _ := q.u32(nl.TCA_FQ_CODEL_ECN); have != 1 {
		d.add("fq_codel ecn", have, 1)
	}
}
