package lifecycle

import (
	"fmt"
	"strings"
	"testing"
)

func TestNetworkStatusReadsTheContainersKernel(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	c := l.run("c1", map[string]string{"candor.dev/nics": `[{"pool":"cloud","mac":"` + mac1 + `","ips":["198.18.0.5/24"],"gateway":["198.18.0.1"]},
		{"pool":"cloud","mac":"` + mac2 + `","ips":["198.18.0.6/24","fd00:18::6/64"]}]`})
	l.mustAttach(c)
	c.ip("link", "set", "net1", "mtu", "1280")
	r, err := l.node.Store().Read(c.key())
	if err != nil {
		t.Fatal(err)
	}
	status := func() string {
		t.Helper()
		list, err := l.node.NetworkStatus(r)
		return fmt.Sprint(list, err)
	}
	want := "[{cloud {net0 " + mac1 + " 1400 true [198.18.0.5/24] [198.18.0.1] true }} {cloud {net1 " + mac2 + " 1280 true [198.18.0.6/24 fd00:18::6/64] [] false }}]<nil>"
	if got := status(); strings.ReplaceAll(got, " <nil>", "<nil>") != want {
		t.Errorf("status %s\nwant   %s", got, want)
	}
	c.ip("link", "del", "net0")
	if got := status(); !strings.HasPrefix(got, "[{cloud {net1 ") || !strings.Contains(got, "container c1: nic "+mac1+" (ens5) is lost") {
		t.Errorf("one of two is gone: %s", got)
	}
	c.kill()
	if got := status(); !strings.Contains(got, "container c1 does not run") {
		t.Errorf("of a dead container: %s", got)
	}
	l.giveBack(c)
}
