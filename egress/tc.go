package egress

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// object is a qdisc or a class as the kernel describes it.
type object struct {
	kind           string
	handle, parent uint32
	options        map[uint16][]byte // nil where the options are no attributes
	rawOptions     []byte
	stats          Stats
}

// attr is an rtnetlink attribute that an object's options are made of.
type attr struct {
	id   int
	data []byte
}

// modify sends one RTM_{NEW,DEL}{QDISC,TCLASS}. options may be []attr or, for
// the kinds that take a bare structure, []byte.
func (c *conn) modify(cmd, flags, index int, handle, parent uint32, kind string, options any) error {
	req := c.request(cmd, flags|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(index), Handle: handle, Parent: parent})
	if kind != "" {
		req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)))
	}
	switch options := options.(type) {
	case nil:
	case []byte:
		req.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, options))
	case []attr:
		nest := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
		for _, a := range options {
			nest.AddRtAttr(a.id, a.data)
		}
		req.AddData(nest)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// qdiscs returns the qdiscs of a device; those that the kernel made for itself
// below a class are not among them.
func (c *conn) qdiscs(index int) ([]object, error) {
	return c.objects(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, index)
}

// classes returns the classes of a device's root qdisc. Those of the qdiscs below
// are not among them: fq_codel shows each flow that has packets as a class.
func (c *conn) classes(index int) ([]object, error) {
	all, err := c.objects(unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, index)
	return slices.DeleteFunc(all, func(o object) bool { return o.handle&0xffff0000 != rootHandle }), err
}

func (c *conn) objects(get int, answer uint16, index int) ([]object, error) {
	messages, err := dump(func() ([][]byte, error) {
		req := c.request(get, unix.NLM_F_DUMP)
		req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(index)})
		return req.Execute(unix.NETLINK_ROUTE, answer)
	})
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, m := range messages {
		if len(m) < nl.SizeofTcMsg {
			return nil, fmt.Errorf("message of %d bytes", len(m))
		}
		head := nl.DeserializeTcMsg(m)
		// Kernels dump the qdiscs of all devices whatever was asked.
		if int(head.Ifindex) != index {
			continue
		}
		o, err := parseObject(m[nl.SizeofTcMsg:])
		if err != nil {
			return nil, err
		}
		o.handle, o.parent = head.Handle, head.Parent
		objects = append(objects, o)
	}
	return objects, nil
}

func parseObject(b []byte) (object, error) {
	var o object
	attrs, err := nl.ParseRouteAttrAsMap(b)
	if err != nil {
		return o, err
	}
	o.kind = nl.BytesToString(attrs[nl.TCA_KIND].Value)
	o.rawOptions = attrs[nl.TCA_OPTIONS].Value
	if o.stats, err = parseStats(attrs[nl.TCA_STATS2].Value); err != nil {
		return o, err
	}
	switch o.kind {
	case "htb", "fq_codel":
		if o.options, err = values(o.rawOptions); err != nil {
			return o, err
		}
	}
	return o, nil
}

func values(b []byte) (map[uint16][]byte, error) {
	attrs, err := nl.ParseRouteAttrAsMap(b)
	if err != nil {
		return nil, err
	}
	m := make(map[uint16][]byte, len(attrs))
	for id, a := range attrs {
		m[id&nlaTypeMask] = a.Value
	}
	return m, nil
}

// nlaTypeMask takes the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER off.
const nlaTypeMask = 1<<14 - 1

// u32 returns a number among the options, and whether it is there.
func (o object) u32(id int) (uint32, bool) {
	b := o.options[uint16(id)]
	if len(b) < 4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(b), true
}

func (o object) u64(id int) (uint64, bool) {
	b := o.options[uint16(id)]
	if len(b) < 8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(b), true
}

// htbRoot is the options of the root qdisc. A packet without a class would
// pass unshaped through HTB's direct queue. The default class leaves one way
// there: a socket priority equal to the qdisc's handle, which CAP_NET_RAW is
// enough to set (sk_set_prio_allowed). So the direct queue holds nothing.
func htbRoot() []attr {
	glob := nl.TcHtbGlob{Version: 3, Rate2Quantum: 10, Defcls: classMinor}
	return []attr{
		{nl.TCA_HTB_INIT, glob.Serialize()},
		{nl.TCA_HTB_DIRECT_QLEN, nl.Uint32Attr(0)},
	}
}

// class is what candor sets of an HTB class, rate for rate and ceil.
type class struct {
	rate            uint64 // bytes per second
	buffer, quantum uint32
}

func (c class) options() []attr {
	spec := nl.TcRateSpec{Linklayer: nl.LINKLAYER_ETHERNET, Rate: uint32(min(c.rate, 1<<32-1))}
	opt := nl.TcHtbCopt{Rate: spec, Ceil: spec, Buffer: c.buffer, Cbuffer: c.buffer, Quantum: c.quantum}
	// With the link layer named the kernel wants no rate tables (3.11).
	attrs := []attr{{nl.TCA_HTB_PARMS, opt.Serialize()}}
	if c.rate >= 1<<32 {
		attrs = append(attrs,
			attr{nl.TCA_HTB_RATE64, nl.Uint64Attr(c.rate)},
			attr{nl.TCA_HTB_CEIL64, nl.Uint64Attr(c.rate)})
	}
	return attrs
}

// htbClass is a class read back.
type htbClass struct {
	rate, ceil               uint64 // bytes per second
	buffer, cbuffer, quantum uint32
}

func (o object) htbClass() (htbClass, error) {
	b := o.options[nl.TCA_HTB_PARMS]
	if len(b) < nl.SizeofTcHtbCopt {
		return htbClass{}, fmt.Errorf("class %s has no parameters", netlink.HandleStr(o.handle))
	}
	opt := nl.DeserializeTcHtbCopt(b)
	h := htbClass{
		rate: uint64(opt.Rate.Rate), ceil: uint64(opt.Ceil.Rate),
		buffer: opt.Buffer, cbuffer: opt.Cbuffer, quantum: opt.Quantum,
	}
	if v, ok := o.u64(nl.TCA_HTB_RATE64); ok {
		h.rate = v
	}
	if v, ok := o.u64(nl.TCA_HTB_CEIL64); ok {
		h.ceil = v
	}
	return h, nil
}

// fqCodel is the options of an fq_codel leaf.
func fqCodel(p leafPlan) []attr {
	return []attr{
		{nl.TCA_FQ_CODEL_ECN, nl.Uint32Attr(1)},
		{nl.TCA_FQ_CODEL_TARGET, nl.Uint32Attr(uint32(p.target / time.Microsecond))},
		{nl.TCA_FQ_CODEL_INTERVAL, nl.Uint32Attr(uint32(p.interval / time.Microsecond))},
		{nl.TCA_FQ_CODEL_MEMORY_LIMIT, nl.Uint32Attr(p.memory)},
	}
}

// bfifo is the options of a bfifo leaf (struct tc_fifo_qopt).
func bfifo(p leafPlan) []byte { return nl.Uint32Attr(p.limit) }
