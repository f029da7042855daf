package egress

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// testNS is a network namespace that ends with the test: no name, no mount.
type testNS struct{ file *os.File }

func newNS(t *testing.T) *testNS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and qdiscs")
	}
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: os.NewSyscallError("unshare", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.file.Close() })
	return &testNS{r.file}
}

func (n *testNS) Do(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// handle returns an rtnetlink handle of the namespace.
func (n *testNS) handle(t *testing.T) *conn {
	t.Helper()
	c, err := dial(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// wire is a container's namespace and its peer's, joined by a veth pair that
// is called eth0 on both sides: .1 and ::1 inside, .2 and ::2 outside.
type wire struct {
	inside, outside *testNS
	in, out         *conn
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{inside: newNS(t), outside: newNS(t)}
	w.in, w.out = w.inside.handle(t), w.outside.handle(t)
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "eth0", TxQLen: 1000},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(w.outside.file.Fd()),
	}
	must(t, w.in.LinkAdd(veth))
	for _, side := range []struct {
		c     *conn
		addrs []string
	}{
		{w.in, []string{"10.9.0.1/24", "fd09::1/64"}},
		{w.out, []string{"10.9.0.2/24", "fd09::2/64"}},
	} {
		for _, name := range []string{"lo", "eth0"} {
			link, err := side.c.LinkByName(name)
			must(t, err)
			must(t, side.c.LinkSetUp(link))
			if name == "lo" {
				continue
			}
			for _, s := range side.addrs {
				addr, err := netlink.ParseAddr(s)
				must(t, err)
				addr.Flags = unix.IFA_F_NODAD
				must(t, side.c.AddrAdd(link, addr))
			}
		}
	}
	return w
}

// eth0 is the container's device as it is now.
func (w *wire) eth0(t *testing.T) netlink.Link {
	t.Helper()
	link, err := w.in.LinkByName("eth0")
	must(t, err)
	return link
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
