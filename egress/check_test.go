package egress

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"candor.dev/candor/ledger"
)

func (w *wire) check(t *testing.T, dev ledger.ShapedDevice, limit uint64) string {
	t.Helper()
	found, err := Check(w.inside, dev, limit)
	must(t, err)
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

func TestCheckAgreesWithEveryRateThatShapeSet(t *testing.T) {
	w := newWire(t)
	for _, limit := range []uint64{MinLimit, 10_000_000, 249_999_999, 250_000_000, 1 << 35, MaxLimit} {
		dev, err := Shape(w.inside, w.eth0(t), limit)
		must(t, err)
		if got := w.check(t, dev, limit); got != "" {
			t.Errorf("%d bit/s: %s", limit, got)
		}
	}
}

func TestCheckNamesWhatDiffers(t *testing.T) {
	const limit = 10_000_000
	for name, test := range map[string]struct {
		do   func(t *testing.T, w *wire, dev ledger.ShapedDevice)
		want string
	}{
		"lifted": {func(t *testing.T, w *wire, dev ledger.ShapedDevice) {
			must(t, w.in.deleteRoot(dev.Index))
		}, "egress limit of eth0: expected 10000000 bit/s, is none: the root qdisc is the kernel's default"},
		"another's qdisc": {func(t *testing.T, w *wire, dev ledger.ShapedDevice) {
			must(t, w.in.deleteRoot(dev.Index))
			must(t, w.in.QdiscAdd(&netlink.GenericQdisc{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: dev.Index, Handle: netlink.MakeHandle(7, 0), Parent: netlink.HANDLE_ROOT}, QdiscType: "pfifo",
			}))
		}, "is none: the root qdisc is pfifo 7:0"},
		"another rate": {func(t *testing.T, w *wire, _ ledger.ShapedDevice) {
			_, err := Shape(w.inside, w.eth0(t), 2*limit)
			must(t, err)
		}, "expected 10000000 bit/s, is 20000000 bit/s"},
		"another size of packets": {func(t *testing.T, w *wire, _ ledger.ShapedDevice) {
			must(t, w.in.LinkSetGSOMaxSize(w.eth0(t), 65536))
		}, "gso_max_size of eth0: expected "},
		"gone": {func(t *testing.T, w *wire, _ ledger.ShapedDevice) {
			must(t, w.in.LinkDel(w.eth0(t)))
		}, "expected 10000000 bit/s, is gone with the device"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			dev, err := Shape(w.inside, w.eth0(t), limit)
			must(t, err)
			test.do(t, w, dev)
			if got := w.check(t, dev, limit); !strings.Contains(got, test.want) {
				t.Errorf("%q, want one with %q", got, test.want)
			}
		})
	}
}
