package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/tests/testnode"
)

const vlan = 200

// vfLab is a node with two PFs, on one wire.
type vfLab struct {
	*lab
	pfs []string // PCI addresses
}

// vfsOfEach is how many VFs each PF has when a test begins and when it ends.
const vfsOfEach = 2

// TestVFs has one lab for all: to bring the PFs up takes seconds.
func TestVFs(t *testing.T) {
	l := newVFLab(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *vfLab)
	}{
		{"set up as asked for, and back as it was", vfIsSetUpAsAskedForAndComesBackAsItWas},
		{"left as it is where nothing is asked for", vfThatAsksForNothingIsLeftAsItIs},
		{"what the driver refuses is an error, or put up with", whatTheDriverRefusesIsAnErrorOrPutUpWith},
		{"spread over the PFs, and exhaustion names the holders", vfsAreSpreadAndExhaustionNamesTheHolders},
		{"never one that the host uses", vfThatTheHostUsesIsNeverGiven},
		{"the MAC of another is refused", macOfAnotherIsRefused},
		{"made only from none, and only where the pool says so", vfsAreMadeOnlyFromNoneAndOnlyWhereThePoolSaysSo},
		{"gone while held", vfsThatGoAwayWhileHeld},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, l.in(t)) })
	}
}

// in is the lab in a test of its own.
func (l *vfLab) in(t *testing.T) *vfLab {
	inner := *l.lab
	inner.T = t
	in := &vfLab{lab: &inner, pfs: l.pfs}
	in.policy.Pools["fast"] = policy.Pool{
		Name: "fast", Kind: policy.KindVF, MACs: []string{"02:*"}, Allow: []string{"containerd:*"},
		Permit:  []string{"trust", "spoofchk-off", "promisc", "allmulti"},
		Subnets: []netip.Prefix{netip.MustParsePrefix("198.18.9.0/24")},
		VF:      policy.VFPool{PFs: []policy.PF{{Device: l.pfs[0]}}, VLANs: []policy.Range{{First: 1, Last: 4000}}, MinTxRate: 1e9},
	}
	return in
}

// newVFLab takes the PFs from the machine and gives each its VFs.
func newVFLab(t *testing.T) *vfLab {
	t.Helper()
	l := &vfLab{pfs: testnode.PFs(t), lab: newLab(t)}
	for _, pf := range l.pfs {
		testnode.TakePF(t, pf, vfsOfEach)
	}
	return l
}

// pool changes the pool.
func (l *vfLab) pool(change func(*policy.Pool)) {
	p := l.policy.Pools["fast"]
	change(&p)
	l.policy.Pools["fast"] = p
}

// told is what a PF says of its VFs, and what VFs' interfaces are on the node.
func (l *vfLab) told() string {
	l.Helper()
	var text []string
	for _, link := range testnode.Links(l) {
		if link.Parent != "" {
			text = append(text, fmt.Sprintf("%s %s %s %s", link.Parent, link.Name, link.MAC, link.VFs))
		}
	}
	slices.Sort(text)
	return strings.Join(text, "\n")
}

// settings is what the first PF says of one of its VFs.
func (l *vfLab) settings(index int) string {
	l.Helper()
	for _, link := range testnode.Links(l) {
		if link.Parent == l.pfs[0] {
			var vfs []json.RawMessage
			if err := json.Unmarshal(link.VFs, &vfs); err != nil || index >= len(vfs) {
				l.Fatalf("VFs of %s: %v: %s", link.Name, err, link.VFs)
			}
			return string(vfs[index])
		}
	}
	l.Fatal("no PF")
	return ""
}

func (l *vfLab) wantBack(before string) {
	l.Helper()
	l.wantNoRecords()
	if now := l.told(); now != before {
		l.Errorf("the VFs are not as they were:\n%s\nbefore:\n%s", now, before)
	}
}

// wantFree asks for the number of VFs that a container could be given.
func (l *vfLab) wantFree(want int) {
	l.Helper()
	free, err := l.node.FreeNICs(l.policy)
	if err != nil || free["fast"] != want {
		l.Errorf("%d VFs are free, want %d (%v)", free["fast"], want, err)
	}
}

func (l *vfLab) wantNoRecords() {
	l.Helper()
	if records, err := l.node.Store().List(); err != nil || len(records) != 0 {
		l.Errorf("records left: %v, %v", records, err)
	}
}

func nics(value string) map[string]string { return map[string]string{request.KeyNICs: value} }

func (l *vfLab) record(c *container) *ledger.Record {
	l.Helper()
	r, err := l.node.Store().Read(c.key())
	if err != nil {
		l.Fatal(err)
	}
	return r
}

// peer is a VF of the second PF, in the VLAN, with an address: behind the wire.
func (l *vfLab) peer() {
	l.Helper()
	pf, name := testnode.LinkOf(l, l.pfs[1]), testnode.LinkOf(l, testnode.VF(l, l.pfs[1], 0))
	l.ip("link", "set", pf, "vf", "0", "vlan", strconv.Itoa(vlan))
	l.ip("addr", "add", "198.18.9.1/24", "dev", name)
	l.ip("link", "set", name, "up")
	l.Cleanup(func() {
		l.ip("link", "set", name, "down")
		l.ip("addr", "flush", "dev", name)
		l.ip("link", "set", pf, "vf", "0", "vlan", "0")
	})
}

func vfIsSetUpAsAskedForAndComesBackAsItWas(t *testing.T, l *vfLab) {
	l.peer()
	before := l.told()
	c := l.run("c1", nics(fmt.Sprintf(`[{"pool":"fast","mac":"02:00:00:00:00:aa","ips":["198.18.9.5"],"mtu":1400,
		"vlan":%d,"qos":3,"spoofchk":false,"trust":true,"max-tx-rate":"99500k","promisc":true,"allmulti":true}]`, vlan)))
	l.mustAttach(c)
	told := l.settings(0)
	for _, want := range []string{`"address":"02:00:00:00:00:aa"`, `"vlan":200,"qos":3`, `"spoofchk":false`, `"trust":true`, `"max_tx":100`} {
		if !strings.Contains(told, want) {
			t.Errorf("the PF lacks %s: %s", want, told)
		}
	}
	inside := c.ip("-d", "addr", "show", "net0")
	for _, want := range []string{"02:00:00:00:00:aa", "mtu 1400", "198.18.9.5/24", "PROMISC", "ALLMULTI", testnode.VF(l, l.pfs[0], 0)} {
		if !strings.Contains(inside, want) {
			t.Errorf("the container's NIC lacks %s: %s", want, inside)
		}
	}
	testnode.Within(l, "the peer in the VLAN answers", func() bool {
		return exec.Command("nsenter", "--net=/proc/"+strconv.Itoa(c.PID)+"/ns/net", "ping", "-c", "1", "-W", "1", "198.18.9.1").Run() == nil
	})
	if traffic, err := l.node.Traffic(); err != nil || len(traffic) != 1 || traffic[0].ReceivedPackets == 0 || traffic[0].SentBytes == 0 {
		t.Errorf("counters: %+v, %v", traffic, err)
	}
	if got := l.checked(); got != "" {
		t.Errorf("candor check of a VF as attached: %s", got)
	}
	l.ip("link", "set", testnode.LinkOf(l, l.pfs[0]), "vf", "0", "vlan", "7")
	if got := l.checked(); strings.Count(got, "\n") != 0 || !strings.Contains(got, `with {"mac":"02:00:00:00:00:aa","vlan":{"id":200,`) || !strings.Contains(got, `is with {"mac":"02:00:00:00:00:aa","vlan":{"id":7,`) {
		t.Errorf("candor check of a VF in another VLAN: %q", got)
	}
	// Trusted, it may change its MAC.
	c.ip("link", "set", "net0", "down")
	c.ip("link", "set", "net0", "address", "02:00:00:00:00:bb", "name", "other", "mtu", "1300")
	c.kill()
	l.giveBack(c)
	l.wantBack(before)
}

func vfThatAsksForNothingIsLeftAsItIs(t *testing.T, l *vfLab) {
	before, told := l.told(), l.settings(0)
	c := l.run("c1", nicAnnotation("pool=fast,interface=fast0"))
	l.mustAttach(c)
	if now := l.settings(0); now != told {
		t.Errorf("the PF was told %s, before %s", now, told)
	}
	c.ip("link", "show", "fast0")
	c.kill()
	l.giveBack(c)
	l.wantBack(before)
}

// igb knows neither of these.
func whatTheDriverRefusesIsAnErrorOrPutUpWith(t *testing.T, l *vfLab) {
	before := l.told()
	for _, tt := range []struct{ asked, names string }{
		{`"min-tx-rate":"100M"`, "min-tx-rate"},
		{`"link-state":"disable"`, "link-state"},
		{`"vlan":7,"proto":"802.1ad"`, "vlan"},
	} {
		c := l.run("c1", nics(`[{"pool":"fast","mac":"02:00:00:00:00:aa",`+tt.asked+`}]`))
		err := l.attach(c)
		if err == nil || !strings.Contains(err.Error(), tt.names+": PF "+testnode.LinkOf(l, l.pfs[0])+" (driver igb)") || !strings.Contains(err.Error(), "best-effort") {
			t.Errorf("%s: error %v", tt.asked, err)
		}
		l.wantBack(before)
		c.kill()
		c = l.run("c1", nics(`[{"pool":"fast","mac":"02:00:00:00:00:aa","best-effort":true,`+tt.asked+`}]`))
		l.mustAttach(c)
		if refused := l.record(c).NICs[0].VF.Refused; len(refused) != 1 || !strings.HasPrefix(refused[0], tt.names) {
			t.Errorf("%s: the record says that %q was refused", tt.asked, refused)
		}
		c.kill()
		l.giveBack(c)
		l.wantBack(before)
	}
}

func vfsAreSpreadAndExhaustionNamesTheHolders(t *testing.T, l *vfLab) {
	l.pool(func(p *policy.Pool) {
		p.VF.PFs = []policy.PF{{Device: testnode.LinkOf(l, l.pfs[0]), VFs: []policy.Range{{First: 1, Last: 1}}}, {Device: l.pfs[1]}}
	})
	before := l.told()
	var all []*container
	of := map[string]int{}
	for i := range 3 {
		c := l.run(fmt.Sprintf("c%d", i), nicAnnotation("pool=fast"))
		l.mustAttach(c)
		all = append(all, c)
		of[l.record(c).NICs[0].VF.PF]++
		if i == 1 && (of[l.pfs[0]] != 1 || of[l.pfs[1]] != 1) {
			t.Errorf("the first two are not spread: %v", of)
		}
	}
	if of[l.pfs[0]] != 1 || of[l.pfs[1]] != 2 {
		t.Errorf("VFs by PF: %v", of)
	}
	late := l.run("late", nicAnnotation("pool=fast"))
	err := l.attach(late)
	var exhausted *ExhaustedError
	if !errors.As(err, &exhausted) || exhausted.VFs != 3 || exhausted.Held["c0"] != 1 || exhausted.Held["c2"] != 1 {
		t.Fatalf("error %v", err)
	}
	if want := "pool fast is exhausted: of its 3 VFs 1 held by container c0, 1 held by container c1, 1 held by container c2 (see 'candor list')"; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	l.wantFree(0)
	all[1].kill()
	l.giveBack(all[1])
	l.wantFree(1)
	l.mustAttach(late)
	for _, c := range append(all, late) {
		c.kill()
		l.giveBack(c)
	}
	l.wantBack(before)
}

func vfThatTheHostUsesIsNeverGiven(t *testing.T, l *vfLab) {
	l.pool(func(p *policy.Pool) { p.VF.PFs[0].VFs = []policy.Range{{First: 0, Last: 0}} })
	name := testnode.LinkOf(l, testnode.VF(l, l.pfs[0], 0))
	l.ip("link", "add", "br0", "type", "bridge")
	defer l.ip("link", "del", "br0")
	for _, tt := range []struct {
		why        string
		make, undo []string
	}{
		{name + " has the address 198.18.9.9/24", []string{"addr", "add", "198.18.9.9/24", "dev", name}, []string{"addr", "flush", "dev", name}},
		{"it belongs to br0", []string{"link", "set", name, "master", "br0"}, []string{"link", "set", name, "nomaster"}},
		{"its PF " + testnode.LinkOf(l, l.pfs[0]) + " is down", []string{"link", "set", testnode.LinkOf(l, l.pfs[0]), "down"}, []string{"link", "set", testnode.LinkOf(l, l.pfs[0]), "up"}},
	} {
		l.ip(tt.make...)
		before := l.told()
		c := l.run("c1", nicAnnotation("pool=fast"))
		err := l.attach(c)
		var exhausted *ExhaustedError
		if !errors.As(err, &exhausted) || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("error %v, want one that says: %s", err, tt.why)
		}
		c.kill()
		l.wantBack(before)
		l.ip(tt.undo...)
	}
	// In a container by another pool it is held as well.
	l.policy.Pools["cloud"] = func(p policy.Pool) policy.Pool { p.MACs = []string{"*"}; return p }(l.policy.Pools["cloud"])
	c := l.run("host", nicAnnotation("pool=cloud,mac="+l.macOf(name)))
	l.mustAttach(c)
	other := l.run("c1", nicAnnotation("pool=fast"))
	if err := l.attach(other); err == nil || !strings.Contains(err.Error(), "1 held by container host") {
		t.Errorf("error %v", err)
	}
	c.kill()
	l.giveBack(c)
	l.wantNoRecords()
}

func (l *vfLab) macOf(name string) string {
	l.Helper()
	for _, link := range testnode.Links(l) {
		if link.Name == name {
			return link.MAC
		}
	}
	l.Fatalf("no interface %s", name)
	return ""
}

func macOfAnotherIsRefused(t *testing.T, l *vfLab) {
	before := l.told()
	const mac = "02:00:00:00:00:aa"
	l.ip("link", "add", "v0", "address", "02:00:00:00:00:cc", "type", "veth", "peer", "name", "v1")
	defer l.ip("link", "del", "v0")
	c := l.run("c1", nicAnnotation("pool=fast,mac="+mac))
	l.mustAttach(c)
	for asked, why := range map[string]string{
		mac:                 "mac " + mac + " is that of a nic held by container c1",
		"02:00:00:00:00:cc": "mac 02:00:00:00:00:cc is that of interface v0 already",
	} {
		other := l.run("c2", nicAnnotation("pool=fast,mac="+asked))
		if err := l.attach(other); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("error %v, want one that says: %s", err, why)
		}
	}
	c.kill()
	l.giveBack(c)
	// The VF that has it already is the one to get it.
	own := testnode.VF(l, l.pfs[0], 1)
	l.pool(func(p *policy.Pool) { p.MACs = []string{"*"} })
	c = l.run("c1", nicAnnotation("pool=fast,mac="+l.macOf(testnode.LinkOf(l, own))))
	l.mustAttach(c)
	if got := l.record(c).NICs[0].ParentDevice; got != own {
		t.Errorf("got %s, want %s, whose MAC it is", got, own)
	}
	c.kill()
	l.giveBack(c)
	l.wantBack(before)
}

// The interfaces of new VFs appear in the machine's namespace, from where they have
// to be taken to this test's node.
func vfsAreMadeOnlyFromNoneAndOnlyWhereThePoolSaysSo(t *testing.T, l *vfLab) {
	testnode.SetVFs(l, l.pfs[0], 0)
	defer testnode.SetVFs(l, l.pfs[0], vfsOfEach)
	c := l.run("c1", nicAnnotation("pool=fast"))
	if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "give the pool numvfs") {
		t.Errorf("error %v", err)
	}
	if n := l.numVFs(); n != "0" {
		t.Errorf("%s VFs were made", n)
	}
	l.pool(func(p *policy.Pool) { p.VF.NumVFs = 99 })
	if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "it can have 7") {
		t.Errorf("error %v", err)
	}
	l.pool(func(p *policy.Pool) { p.VF.NumVFs = 2 })
	taken := make(chan struct{})
	go func() { // as udev might
		defer close(taken)
		for end := time.Now().Add(8 * time.Second); l.numVFs() != "2" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
		testnode.TakeVFs(l, l.pfs[0], 2)
	}()
	var wg sync.WaitGroup
	var both []*container
	for i := range 2 {
		other := l.run(fmt.Sprintf("at-once-%d", i), nicAnnotation("pool=fast"))
		both = append(both, other)
		wg.Go(func() {
			if err := l.attach(other); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	<-taken
	if n := l.numVFs(); n != "2" {
		t.Errorf("%s VFs, want 2", n)
	}
	l.pool(func(p *policy.Pool) { p.VF.NumVFs = 4 })
	if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "is exhausted: of its 2 VFs") {
		t.Errorf("error %v", err)
	}
	for _, c := range both {
		c.kill()
		l.giveBack(c)
	}
}

func (l *vfLab) numVFs() string {
	text, err := os.ReadFile(testnode.Sysfs(l.pfs[0], "sriov_numvfs"))
	if err != nil {
		l.Error(err)
	}
	return strings.TrimSpace(string(text))
}

// A VF that goes away while it is held leaves nothing behind, and what its place
// holds by then is not touched.
func vfsThatGoAwayWhileHeld(t *testing.T, l *vfLab) {
	ask := nics(`[{"pool":"fast","mac":"02:00:00:00:00:aa","vlan":200}]`)
	t.Run("sriov_numvfs set to 0", func(t *testing.T) {
		c := l.run("c1", ask)
		l.mustAttach(c)
		testnode.SetVFs(l, l.pfs[0], 0)
		c.kill()
		l.giveBack(c)
		l.wantNoRecords()
	})
	t.Run("and made anew, for somebody else", func(t *testing.T) {
		testnode.SetVFs(l, l.pfs[0], vfsOfEach)
		c := l.run("c1", ask)
		l.mustAttach(c)
		testnode.SetVFs(l, l.pfs[0], vfsOfEach)
		l.ip("link", "set", testnode.LinkOf(l, l.pfs[0]), "vf", "0", "vlan", "7")
		before := l.told()
		c.kill()
		l.giveBack(c)
		l.wantBack(before)
		testnode.SetVFs(l, l.pfs[0], vfsOfEach)
	})
	t.Run("its driver unbound", func(t *testing.T) {
		told := l.settings(0)
		c := l.run("c1", ask)
		l.mustAttach(c)
		address := testnode.VF(l, l.pfs[0], 0)
		driver := testnode.Driver(t, address)
		testnode.Write(l, filepath.Join(driver, "unbind"), address)
		c.kill()
		l.giveBack(c)
		l.wantNoRecords()
		// It is there, without an interface, and still had what it was told.
		if now := l.settings(0); now != told {
			t.Errorf("the PF says %s, before %s", now, told)
		}
		testnode.Write(l, filepath.Join(driver, "bind"), address)
		testnode.SetVFs(l, l.pfs[0], vfsOfEach)
	})
	t.Run("the PF taken down", func(t *testing.T) {
		before, pf := l.told(), testnode.LinkOf(l, l.pfs[0])
		c := l.run("c1", ask)
		l.mustAttach(c)
		l.ip("link", "set", pf, "down")
		c.kill()
		l.giveBack(c)
		l.ip("link", "set", pf, "up")
		l.wantBack(before)
	})
}
