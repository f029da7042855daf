package egress

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// roots lists the root qdisc of eth0, as "htb 1:0".
func (w *wire) roots(t *testing.T) string {
	t.Helper()
	qdiscs, err := w.in.qdiscs(w.eth0(t).Attrs().Index)
	must(t, err)
	var roots []string
	for _, q := range qdiscs {
		if q.parent == netlink.HANDLE_ROOT {
			roots = append(roots, fmt.Sprintf("%s %x:0", q.kind, q.handle>>16))
		}
	}
	return strings.Join(roots, ", ")
}

func (w *wire) class(t *testing.T) htbClass {
	t.Helper()
	h, err := w.in.ourClass(w.eth0(t).Attrs().Index)
	must(t, err)
	if h == nil {
		t.Fatal("eth0 has no class")
	}
	return *h
}

func TestEveryRateIsSetAndReadBack(t *testing.T) {
	w := newWire(t)
	for _, limit := range []uint64{
		MinLimit, 10_000, 1_000_000, 10_000_000, 100_000_000, 249_999_999, 250_000_000, 1_000_000_000, 10_000_000_000,
		1 << 35, // 2^32 bytes per second: 0 in a 32-bit field
		1<<35 - 8, 40_000_000_000, 1_000_000_000_000, MaxLimit,
	} {
		dev, err := Shape(w.inside, w.eth0(t), limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.class(t); got.rate != limit/8 || got.ceil != limit/8 || got.buffer == 0 || got.quantum == 0 {
			t.Errorf("%d bit/s: class %+v", limit, got)
		}
		if dev.Name != "eth0" || dev.Index != w.eth0(t).Attrs().Index || (dev.Leaf != leafBfifo && dev.Leaf != leafFqCodel) {
			t.Errorf("%d bit/s: device %+v", limit, dev)
		}
		if lowered := dev.GSOMaxSize != 0; lowered != (limit < gsoUntouched) {
			t.Errorf("%d bit/s: gso_max_size %d", limit, dev.GSOMaxSize)
		}
	}
}

func TestShapeTwiceIsShapeOnce(t *testing.T) {
	w := newWire(t)
	first, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	class := w.class(t)
	second, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	if second != first {
		t.Errorf("second %+v, first %+v", second, first)
	}
	if got := w.class(t); got != class {
		t.Errorf("class %+v, was %+v", got, class)
	}
	if got := gsoOf(w.eth0(t).Attrs()); got.size != 4096 || got.ipv4 != 4096 && got.ipv4 != 0 {
		t.Errorf("gso_max_size %v", got)
	}
}

// The counters of a qdisc begin anew when it is dropped.
func TestAChangedLimitKeepsTheQueue(t *testing.T) {
	w := newWire(t)
	var counted uint32
	for _, tt := range []struct {
		limit uint64
		gso   uint32
	}{
		{10_000_000, 4096}, {100_000_000, 25_000}, {1_000_000_000, 65_536}, {1_000_000, 4096},
	} {
		_, err := Shape(w.inside, w.eth0(t), tt.limit)
		must(t, err)
		if got := w.eth0(t).Attrs().GSOMaxSize; got != tt.gso {
			t.Errorf("%d bit/s: gso_max_size %d, want %d", tt.limit, got, tt.gso)
		}
		if got := w.sent(t).packets; got < counted {
			t.Errorf("%d bit/s: the class has counted %d packets, it was %d before", tt.limit, got, counted)
		}
		must(t, w.sendUDP("10.9.0.2", 10, 100))
		counted = w.sent(t).packets
		if counted == 0 {
			t.Fatal("no packet is in the class")
		}
	}
}

func TestForeignRootQdiscIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		qdisc netlink.Qdisc
		want  string
	}{
		{"tbf", &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{Parent: netlink.HANDLE_ROOT}, Rate: 1 << 20, Limit: 1 << 20, Buffer: 1 << 20}, "tbf"},
		{"htb at the same handle", netlink.NewHtb(netlink.QdiscAttrs{Parent: netlink.HANDLE_ROOT, Handle: rootHandle}), "htb 1:0"},
		{"a chosen fifo", &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{Parent: netlink.HANDLE_ROOT}, QdiscType: "pfifo"}, "pfifo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t)
			tt.qdisc.Attrs().LinkIndex = w.eth0(t).Attrs().Index
			must(t, w.in.QdiscAdd(tt.qdisc))
			root, gso := w.roots(t), gsoOf(w.eth0(t).Attrs())

			_, err := Shape(w.inside, w.eth0(t), 10_000_000)
			var foreign *ForeignError
			if !errors.As(err, &foreign) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v", err)
			}
			must(t, Unshape(w.inside, ledger.ShapedDevice{Name: "eth0", Index: tt.qdisc.Attrs().LinkIndex}, 0))
			if got := w.roots(t); got != root {
				t.Errorf("root is %s, was %s", got, root)
			}
			if got := gsoOf(w.eth0(t).Attrs()); got != gso {
				t.Errorf("gso_max_size is %v, was %v", got, gso)
			}
		})
	}
}

func TestUnshapeRestoresTheDefault(t *testing.T) {
	w := newWire(t)
	root, gso := w.roots(t), gsoOf(w.eth0(t).Attrs())
	dev, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	if got := w.roots(t); got != "htb 1:0" {
		t.Fatalf("root is %s", got)
	}
	for range 2 {
		must(t, Unshape(w.inside, dev, gso.size))
		if got := w.roots(t); got != root {
			t.Errorf("root is %s, was %s", got, root)
		}
		if got := gsoOf(w.eth0(t).Attrs()); got != gso {
			t.Errorf("gso_max_size is %v, was %v", got, gso)
		}
	}
	must(t, w.in.LinkDel(w.eth0(t)))
	if err := Unshape(w.inside, dev, gso.size); err != nil {
		t.Errorf("device gone: %v", err)
	}
}

func TestUnshapeOfARecordThatWasNotFinished(t *testing.T) {
	w := newWire(t)
	before := gsoOf(w.eth0(t).Attrs())
	dev, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	must(t, Unshape(w.inside, ledger.ShapedDevice{Name: dev.Name, Index: dev.Index}, before.size))
	if got := gsoOf(w.eth0(t).Attrs()); got != before {
		t.Errorf("gso_max_size is %v, was %v", got, before)
	}
}

func TestUnshapeLeavesAGSOSizeThatAnotherSet(t *testing.T) {
	w := newWire(t)
	dev, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	must(t, w.in.LinkSetGSOMaxSize(w.eth0(t), 20_000))
	must(t, Unshape(w.inside, dev, 65_536))
	if got := w.eth0(t).Attrs().GSOMaxSize; got != 20_000 {
		t.Errorf("gso_max_size is %d", got)
	}
}

func TestAnExistingSmallGSOSizeIsKept(t *testing.T) {
	w := newWire(t)
	must(t, w.in.LinkSetGSOMaxSize(w.eth0(t), 16_000))
	dev, err := Shape(w.inside, w.eth0(t), 100_000_000)
	must(t, err)
	if got := w.eth0(t).Attrs().GSOMaxSize; got != 16_000 || dev.GSOMaxSize != 0 {
		t.Errorf("gso_max_size is %d, recorded %d", got, dev.GSOMaxSize)
	}
}

// A Shape that was killed may leave any of these.
func TestAHalfMadeTreeIsFinished(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(w *wire, index int) error
	}{
		{"root only", func(w *wire, index int) error {
			return w.in.modify(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, index, rootHandle, netlink.HANDLE_ROOT, "htb", htbRoot())
		}},
		{"root and class", func(w *wire, index int) error {
			return errors.Join(
				w.in.modify(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, index, rootHandle, netlink.HANDLE_ROOT, "htb", htbRoot()),
				w.in.setClass(index, class{rate: 125, buffer: 1, quantum: 1514}))
		}},
		{"the GSO size only", func(w *wire, index int) error {
			link, err := w.in.LinkByIndex(index)
			return errors.Join(err, w.in.LinkSetGSOMaxSize(link, 4096))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t)
			must(t, tt.make(w, w.eth0(t).Attrs().Index))
			_, err := Shape(w.inside, w.eth0(t), 10_000_000)
			must(t, err)
			if got := w.class(t).rate; got != 1_250_000 {
				t.Errorf("rate is %d", got)
			}
		})
	}
}

func TestAFailedShapeLeavesTheDeviceAsItWas(t *testing.T) {
	w := newWire(t)
	root, gso := w.roots(t), gsoOf(w.eth0(t).Attrs())
	_, err := Shape(w.inside, w.eth0(t), 999)
	if err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("error is %v", err)
	}
	if got := w.roots(t); got != root || gsoOf(w.eth0(t).Attrs()) != gso {
		t.Errorf("root is %s, gso_max_size %v", got, gsoOf(w.eth0(t).Attrs()))
	}
	must(t, w.in.LinkDel(w.eth0(t)))
	if _, err := Shape(w.inside, &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 4711}}, 1_000_000); err == nil {
		t.Error("no error for a device that is gone")
	}
}

func TestADeviceThatIsDownIsShapedToo(t *testing.T) {
	w := newWire(t)
	must(t, w.in.LinkSetDown(w.eth0(t)))
	_, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	must(t, w.in.LinkSetUp(w.eth0(t)))
	if got := w.roots(t); got != "htb 1:0" {
		t.Errorf("root is %s after it went up", got)
	}
	if got := w.class(t).rate; got != 1_250_000 {
		t.Errorf("rate is %d", got)
	}
}

func TestCompareNamesWhatDiffers(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	index := w.eth0(t).Attrs().Index
	p, err := newPlan(10_000_000, 1500, 65_536)
	must(t, err)
	want := class{rate: p.rate, buffer: p.buffer, quantum: p.quantum}
	leaf := leafOf(t, w)
	must(t, w.in.compare(index, want, leaf, p.leaf, gsoOf(w.eth0(t).Attrs())))

	wrong := want
	wrong.rate++
	wrongLeaf := p.leaf
	wrongLeaf.limit, wrongLeaf.memory = wrongLeaf.limit+1, wrongLeaf.memory+1
	err = w.in.compare(index, wrong, leaf, wrongLeaf, gso{size: 1})
	for _, what := range []string{"gso_max_size", "htb class", leaf} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("error does not name %s: %v", what, err)
		}
	}
}

func leafOf(t *testing.T, w *wire) string {
	t.Helper()
	qdiscs, err := w.in.qdiscs(w.eth0(t).Attrs().Index)
	must(t, err)
	i := slices.IndexFunc(qdiscs, func(o object) bool { return o.handle == leafHandle })
	if i < 0 {
		t.Fatal("no leaf")
	}
	return qdiscs[i].kind
}

// Nothing can keep a qdisc on a device that changes its namespace: a device
// is shaped where it has arrived.
func TestTheQdiscGoesWhenTheDeviceMoves(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	other := newNS(t)
	must(t, w.in.LinkSetNsFd(w.eth0(t), int(other.file.Fd())))
	c := other.handle(t)
	link, err := c.LinkByName("eth0")
	must(t, err)
	qdiscs, err := c.qdiscs(link.Attrs().Index)
	must(t, err)
	for _, q := range qdiscs {
		if q.handle != 0 {
			t.Errorf("qdisc %s %s came along", q.kind, netlink.HandleStr(q.handle))
		}
	}
	if got := link.Attrs().GSOMaxSize; got != 4096 {
		t.Errorf("gso_max_size is %d: it was seen to stay with the device", got)
	}
	_, err = Shape(other, link, 10_000_000)
	must(t, err)
}

func TestDirectPacketsAreNone(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	qdiscs, err := w.in.qdiscs(w.eth0(t).Attrs().Index)
	must(t, err)
	root, _ := find(qdiscs, rootHandle)
	if have, ok := root.u32(nl.TCA_HTB_DIRECT_QLEN); !ok || have != 0 {
		t.Errorf("direct_qlen is %d, %v", have, ok)
	}
}

// fq_codel shows each flow that has packets as a class of the device: with
// traffic on it, e.g. the kernel's own router solicitation, a limit that was set
// did not compare (Debian's 6.12; the kernel that had no fq_codel never showed it).
func TestClassesOfTheLeafAreNotCandors(t *testing.T) {
	w := newWire(t)
	_, err := Shape(w.inside, w.eth0(t), 10_000_000)
	must(t, err)
	index := w.eth0(t).Attrs().Index
	const leaf = 2 << 16
	must(t, w.in.modify(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, leaf, classID, "htb", htbRoot()))
	must(t, w.in.modify(unix.RTM_NEWTCLASS, unix.NLM_F_CREATE, index, leaf|1, leaf, "htb", class{rate: 1000, buffer: 1000, quantum: 1000}.options()))
	classes, err := w.in.classes(index)
	must(t, err)
	if len(classes) != 1 || classes[0].handle != classID {
		t.Errorf("classes %+v", classes)
	}
}
