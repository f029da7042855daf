package lifecycle

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
	"candor.dev/candor/tests/testnode"
)

func TestMain(m *testing.M) { testnode.Main(m) }

// lab is a node with one or two host NICs on wires to nobody.
type lab struct {
	*testing.T
	node   *Node
	policy *policy.Policy
}

const caller = "containerd:default"

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	// A link-local address that is still tentative "before" is not "after".
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	node, err := OpenNode(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := statedir.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return &lab{T: t, node: node, policy: &policy.Policy{
		Path: "test.toml", StateDir: dir,
		Pools: map[string]policy.Pool{"cloud": {
			Name: "cloud", Kind: "hostnic", MACs: []string{"52:54:*"}, Allow: []string{"containerd:*"},
			Subnets: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/24"), netip.MustParsePrefix("fd00:18::/64")},
		}},
	}}
}

// addNIC makes a host NIC: one end of a veth, with an address and an altname.
func (l *lab) addNIC(name, mac, address string) {
	l.Helper()
	l.ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", name+"p")
	l.Cleanup(func() { exec.Command("ip", "link", "del", name+"p").Run() })
	l.ip("link", "property", "add", "dev", name, "altname", name+"-alt")
	l.ip("link", "set", name+"p", "up")
	l.ip("link", "set", name, "mtu", "1400", "up")
	l.ip("addr", "add", address, "dev", name)
	// The kernel works out operational state and link-local address a little later.
	for _, end := range []string{name, name + "p"} {
		for {
			is := l.ip("addr", "show", end)
			if strings.Contains(is, "state UP") && strings.Contains(is, "inet6") && !strings.Contains(is, "tentative") {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (l *lab) ip(args ...string) string {
	l.Helper()
	return testnode.IP(l, args...)
}

// state is the node's network as ip shows it. The lines are sorted: which of two
// equal routes is listed first depends on which came first.
func (l *lab) state() string {
	l.Helper()
	var lines []string
	for _, args := range [][]string{{"-d", "addr"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}, {"rule"}} {
		lines = append(lines, strings.Split(l.ip(args...), "\n")...)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// container is a process with a network namespace of its own and a bundle.
type container struct {
	Container
	cmd *exec.Cmd
	t   *lab
}

func (l *lab) run(id string, annotations map[string]string) *container {
	l.Helper()
	return l.runIn(id, l.TempDir(), annotations, syscall.CLONE_NEWNET)
}

func (l *lab) runIn(id, bundle string, annotations map[string]string, flags uintptr) *container {
	l.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	c := &container{cmd: cmd, t: l, Container: Container{ID: id, Bundle: bundle, PID: cmd.Process.Pid}}
	c.Spec.Annotations = annotations
	l.Cleanup(c.kill)
	return c
}

func (c *container) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *container) key() string { return ledger.Key(c.ID, c.Bundle) }

func (c *container) ip(args ...string) string {
	c.t.Helper()
	return c.inside(append([]string{"ip"}, args...)...)
}

// inside runs a command of the host's in the container's network namespace.
func (c *container) inside(args ...string) string {
	c.t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=/proc/" + fmt.Sprint(c.PID) + "/ns/net"}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s in %s: %v: %s", strings.Join(args, " "), c.ID, err, out)
	}
	return string(out)
}

func (l *lab) attach(c *container) error {
	l.Helper()
	return l.node.AttachNetwork(l.Context(), c.Container, l.policy, caller)
}

func (l *lab) mustAttach(c *container) {
	l.Helper()
	if err := l.attach(c); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) giveBack(c *container) {
	l.Helper()
	for range 2 { // the second finds nothing to do
		if err := l.node.GiveBack(l.Context(), c.key()); err != nil {
			l.Fatal(err)
		}
	}
}

// wantNothingHeld fails unless ledger and pins are empty and the node's network
// is as it was.
func (l *lab) wantNothingHeld(before string) {
	l.Helper()
	records, err := l.node.Store().List()
	if err != nil || len(records) != 0 {
		l.Errorf("records left: %v, %v", records, err)
	}
	pins, err := statedir.Pins(l.node.StateDir)
	if err != nil || len(pins) != 0 {
		l.Errorf("pins left: %v, %v", pins, err)
	}
	var after string
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if after = l.state(); after == before {
			return
		}
	}
	l.Errorf("the node changed:\n--- before\n%s--- after\n%s", before, after)
}

func nicAnnotation(value string) map[string]string {
	return map[string]string{request.KeyNIC: value}
}
