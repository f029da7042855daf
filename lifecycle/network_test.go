package lifecycle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
)

const (
	mac1 = "52:54:00:00:00:01"
	mac2 = "52:54:00:00:00:02"
)

func TestNICGoesInAndComesBackAsItWas(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24,interface=net0"))
	l.mustAttach(c)
	if got := c.ip("-o", "addr", "show", "dev", "net0"); !strings.Contains(got, "198.18.0.5/24") {
		t.Errorf("in the container: %s", got)
	}
	if strings.Contains(l.ip("-o", "link"), "ens5:") || strings.Contains(l.ip("-o", "link"), "ens5@") {
		t.Error("the nic is still on the host")
	}
	l.mustAttach(c) // the hook called twice finds the work done
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

// A record that cannot be read, or is a newer candor's, holds up the NIC that it
// names and nobody else, neither at the attach nor in the reconciler.
func TestDamagedRecordHoldsUpNobodyElse(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	before := l.state()
	for name, content := range map[string]string{
		"garbage-1.json": "\x00",
		"cut-1.json":     `{"version": 1, "nics": [{"mac": "` + mac2 + `"`,
		"newer-1.json":   `{"version": 99}`,
	} {
		path := filepath.Join(l.node.StateDir, "ledger", name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
	}
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	other := l.run("c2", nicAnnotation("pool=cloud,mac="+mac2+",ip=198.18.0.6/24"))
	if err := l.attach(other); err == nil || !strings.Contains(err.Error(), "cut-1.json") {
		t.Errorf("error %v, want one that names cut-1.json", err)
	}
	c.kill()
	l.giveBack(c)
	if now := l.state(); now != before {
		t.Errorf("the node is not as it was:\n%s\nbefore:\n%s", now, before)
	}
}

// A candor of the release before attached it.
func TestRecordOfThePreviousFormatIsGivenBack(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	l.asBefore(c.key())
	if records, err := l.node.Store().List(); err != nil || len(records) != 1 || records[0].ID != "c1" {
		t.Errorf("listed: %v, %v", records, err)
	}
	if got := l.checked(); got != "" {
		t.Errorf("checked: %s", got)
	}
	c.ip("link", "set", "net0", "down")
	if got := l.checked(); !strings.Contains(got, "expected up, is down") {
		t.Errorf("checked with its NIC down: %q", got)
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

// asBefore makes a record what the release before would have written: of its
// format, and without what came since.
func (l *lab) asBefore(key string) {
	l.Helper()
	path := filepath.Join(l.node.StateDir, "ledger", key+".json")
	text, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		l.Fatal(err)
	}
	record["version"] = ledger.Version - 1
	for _, held := range record["nics"].([]any) {
		delete(held.(map[string]any), "given")
	}
	if text, err = json.Marshal(record); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.Fatal(err)
	}
}

func TestBareMACKeepsAddressesAndGetsThePoolsGateway(t *testing.T) {
	l := newLab(t)
	pool := l.policy.Pools["cloud"]
	pool.Gateways = []netip.Addr{netip.MustParseAddr("198.18.0.1")}
	l.policy.Pools["cloud"] = pool
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1))
	l.mustAttach(c)
	if got := c.ip("-o", "addr", "show", "dev", "net0"); !strings.Contains(got, "198.18.0.2/24") {
		t.Errorf("the address stayed behind: %s", got)
	}
	if got := c.ip("route", "show", "default"); !strings.Contains(got, "via 198.18.0.1 dev net0") || !strings.Contains(got, "metric 4096") {
		t.Errorf("default route: %q", got)
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

func TestNothingIsTakenFromALivingContainer(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	if err := l.node.GiveBack(t.Context(), c.key()); err == nil {
		t.Error("gave back what a living container holds")
	}
	c.ip("link", "show", "net0")
	c.kill()
	l.giveBack(c)
}

// What a late poststop of a killed container meets: a new one under its key.
func TestSameContainerAgainAfterAKill(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	first := l.run("c1", annotations)
	l.mustAttach(first)
	first.kill()
	second := l.runIn("c1", first.Bundle, annotations, syscall.CLONE_NEWNET)
	l.mustAttach(second)
	if err := l.node.GiveBack(t.Context(), first.key()); err == nil {
		t.Error("the late poststop took the new container's nic")
	}
	second.ip("link", "show", "net0")
	second.kill()
	l.giveBack(second)
	l.wantNothingHeld(before)
}

func TestSameIDInTwoBundlesIsTwoContainers(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	before := l.state()
	a := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	b := l.run("c1", nicAnnotation("pool=cloud,mac="+mac2+",ip=198.18.0.6/24"))
	l.mustAttach(a)
	l.mustAttach(b)
	a.kill()
	l.giveBack(a)
	b.ip("link", "show", "net0")
	b.kill()
	l.giveBack(b)
	l.wantNothingHeld(before)
}

// Who had which NIC stands in the journal, at both ends.
func TestJournalSaysWhoHadWhichNIC(t *testing.T) {
	l := newLab(t)
	var journal bytes.Buffer
	l.node.Log = slog.New(slog.NewTextHandler(&journal, nil))
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	annotations[request.KeyEgressLimit] = "50M"
	c := l.run("c1", annotations)
	l.mustAttach(c)
	c.kill()
	l.giveBack(c)
	who := ` container=c1 caller=` + caller + ` nics="ens5(` + mac1 + `)=net0" egress-limit=50M` + "\n"
	for _, what := range []string{"attached", `"gave back"`} {
		if want := " msg=" + what + who; strings.Count(journal.String(), want) != 1 {
			t.Errorf("no line with %q in\n%s", want, &journal)
		}
	}
}

func TestSecondNICFailsAndFirstComesBack(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	before := l.state()
	c := l.run("c1", map[string]string{request.KeyNICs: `[{"pool":"cloud","mac":"` + mac1 + `","ips":["198.18.0.5/24"]},
		{"pool":"cloud","mac":"` + mac2 + `","ips":["198.18.0.6/24"],"interface":"taken"}]`})
	c.ip("link", "add", "taken", "type", "bridge")
	err := l.attach(c)
	if err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("attach = %v, want an error that names the interface", err)
	}
	l.wantNothingHeld(before)
}

// The container has an engine's default route: that is found out at the second
// NIC's turn, when the first is in place.
func TestSecondNICsGatewayFailsAndFirstComesBack(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	before := l.state()
	c := l.run("c1", map[string]string{request.KeyNICs: `[{"pool":"cloud","mac":"` + mac1 + `","ips":["198.18.0.5/24"]},
		{"pool":"cloud","mac":"` + mac2 + `","ips":["198.18.0.6/24"],"gateway":["198.18.0.1"],"default-route":true}]`})
	c.ip("link", "add", "engine0", "type", "bridge")
	c.ip("addr", "add", "203.0.113.2/24", "dev", "engine0")
	c.ip("link", "set", "engine0", "up")
	c.ip("route", "add", "default", "via", "203.0.113.1")
	err := l.attach(c)
	if err == nil || !strings.Contains(err.Error(), "default route already, through engine0") || strings.Contains(err.Error(), "\n") {
		t.Errorf("attach = %v, want one line that names the other default route", err)
	}
	if links := c.ip("-o", "link"); strings.Contains(links, "net0") || strings.Contains(links, "net1") {
		t.Errorf("left in the container: %s", links)
	}
	l.wantNothingHeld(before)
}

// A limit in the annotations of a pod makes the hook look at each container's
// capabilities; the pod's NICs are not theirs to take, whatever engine it is.
func TestMemberOfAPodLeavesTheNetworkToTheSandbox(t *testing.T) {
	for _, engine := range []string{"io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"} {
		l := newLab(t)
		l.addNIC("ens5", mac1, "198.18.0.2/24")
		before := l.state()
		annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
		annotations[request.KeyEgressLimit] = "50M"
		annotations[engine] = "container"
		c := l.run("c1", annotations)
		l.mustAttach(c)
		l.wantNothingHeld(before)
		c.Spec.Process.Capabilities.Bounding = []string{"CAP_NET_ADMIN"}
		if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: attach = %v, want a refusal that names the capability", engine, err)
		}
		l.wantNothingHeld(before)
		l.ip("link", "del", "ens5")
	}
}

// A pid of another boot may be anybody's by now.
func TestRecordOfAnotherBootIsDead(t *testing.T) {
	l := newLab(t)
	c := l.run("c1", nil)
	owner, err := ledger.FindProcess(c.PID)
	if err != nil {
		t.Fatal(err)
	}
	r := &ledger.Record{BootID: l.node.bootID, Owner: owner}
	if !l.node.Alive(r) {
		t.Error("a living container is taken for dead")
	}
	if r.BootID = "another"; l.node.Alive(r) {
		t.Error("a record of another boot is taken for alive")
	}
}

func TestRefusalsAreDifferentAndChangeNothing(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	l.addNIC("ens7", "52:54:00:00:00:07", "198.18.7.2/24")
	l.ip("route", "add", "default", "via", "198.18.7.1", "dev", "ens7")
	l.addNIC("ens8", "52:54:00:00:00:08", "198.18.0.8/24")
	l.ip("link", "add", "br0", "type", "bridge")
	l.Cleanup(func() { l.ip("link", "del", "br0") })
	l.ip("link", "set", "ens8", "master", "br0")
	holder := l.run("holder", nicAnnotation("pool=cloud,mac="+mac2+",ip=198.18.0.6/24"))
	l.mustAttach(holder)
	before := l.state()
	seen := map[string]string{}
	for _, test := range []struct {
		name, nic, caller, want string
		flags                   uintptr
	}{
		{"unknown pool", "pool=nosuch,mac=" + mac1 + ",ip=198.18.0.5/24", caller, "nosuch", syscall.CLONE_NEWNET},
		{"caller not allowed", "pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24", "kubernetes:prod", "kubernetes:prod", syscall.CLONE_NEWNET},
		{"no caller", "pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24", "", "caller", syscall.CLONE_NEWNET},
		{"mac not on this node", "pool=cloud,mac=52:54:00:00:00:99,ip=198.18.0.5/24", caller, "52:54:00:00:00:99", syscall.CLONE_NEWNET},
		{"held by another", "pool=cloud,mac=" + mac2 + ",ip=198.18.0.5/24", caller, "held by container holder", syscall.CLONE_NEWNET},
		{"default route", "pool=cloud,mac=52:54:00:00:00:07,ip=198.18.0.5/24", caller, "default route", syscall.CLONE_NEWNET},
		{"master", "pool=cloud,mac=52:54:00:00:00:08,ip=198.18.0.5/24", caller, "br0", syscall.CLONE_NEWNET},
		{"no selector", "pool=cloud,ip=198.18.0.5/24", caller, "mac", syscall.CLONE_NEWNET},
		{"address outside the subnets", "pool=cloud,mac=" + mac1 + ",ip=10.0.0.5/24", caller, "10.0.0.5", syscall.CLONE_NEWNET},
		{"host's network namespace", "pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24", caller, "host's network namespace", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := l.runIn("c1", t.TempDir(), nicAnnotation(test.nic), test.flags)
			err := l.node.AttachNetwork(t.Context(), c.Container, l.policy, test.caller)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with %q", err, test.want)
			}
			if other, ok := seen[err.Error()]; ok {
				t.Errorf("the same line as for %q: %v", other, err)
			}
			seen[err.Error()] = test.name
			if after := l.state(); after != before {
				t.Errorf("the node changed:\n%s\n%s", before, after)
			}
			if records, _ := l.node.Store().List(); len(records) != 1 {
				t.Errorf("%d records, want the holder's only", len(records))
			}
		})
	}
	holder.kill()
	l.giveBack(holder)
}

func TestLimitWithNetAdminIsRefused(t *testing.T) {
	l := newLab(t)
	c := l.run("c1", map[string]string{request.KeyEgressLimit: "50M"})
	c.Spec.Process.Capabilities.Bounding = []string{"CAP_NET_ADMIN"}
	before := l.state()
	if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("attach = %v, want a refusal that names the capability", err)
	}
	l.wantNothingHeld(before)
}

// With docker run --network container:ID two containers have one namespace: a
// limit of the second would lift that of the first when it ends.
func TestSecondLimitInASharedNamespaceIsRefused(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	annotations[request.KeyEgressLimit] = "50M"
	c := l.run("c1", annotations)
	l.mustAttach(c)

	// Another process of the namespace, with a container of its own.
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", c.PID), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	joined := &container{cmd: cmd, t: l, Container: Container{ID: "c2", Bundle: t.TempDir(), PID: cmd.Process.Pid}}
	t.Cleanup(joined.kill)
	joined.Spec.Annotations = map[string]string{request.KeyEgressLimit: "900M"}
	inside := func() bool {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", joined.PID))
		ours, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.PID))
		return err == nil && theirs == ours
	}
	for end := time.Now().Add(5 * time.Second); !inside(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nsenter is not in the namespace")
		}
	}
	if err := l.attach(joined); err == nil || !strings.Contains(err.Error(), "container c1") {
		t.Errorf("error %v, want one that names c1", err)
	}
	joined.kill()
	l.giveBack(joined)
	if got := c.ip("-d", "link", "show", "net0"); !strings.Contains(got, "qdisc htb") {
		t.Errorf("the first container's limit is gone: %s", got)
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

func TestLimitShapesTheNICInside(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	annotations[request.KeyEgressLimit] = "50M"
	c := l.run("c1", annotations)
	l.mustAttach(c)
	r, err := l.node.Store().Read(c.key())
	if err != nil || r.State != ledger.Attached || r.Egress == nil || len(r.Egress.Devices) != 1 {
		t.Fatalf("record %+v, %v", r, err)
	}
	if got := c.ip("-d", "link", "show", "net0"); !strings.Contains(got, "qdisc htb") {
		t.Errorf("no htb on the nic: %s", got)
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

// ctr run --cni, Docker >= 28 and nerdctl bring the network after create.
func TestLimitOfALateNetworkWaitsForStart(t *testing.T) {
	l := newLab(t)
	before := l.state()
	c := l.run("c1", map[string]string{request.KeyEgressLimit: "50M"})
	// Under hooks.d alone nobody comes back before the start.
	if err := l.attach(c); err == nil || !strings.Contains(err.Error(), "candor-runc") {
		t.Errorf("attach = %v, want a refusal that says what to do", err)
	}
	l.wantNothingHeld(before)
	c.Late = true
	l.mustAttach(c)
	if r, err := l.node.Store().Read(c.key()); err != nil || r.State != ledger.Pending {
		t.Fatalf("record %+v, %v; want pending", r, err)
	}
	if err := l.node.Late(t.Context(), c.ID, c.Bundle); err == nil {
		t.Error("a container without a network was let start without its limit")
	}
	l.ip("link", "add", "late0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(c.PID))
	for range 2 {
		if err := l.node.Late(t.Context(), c.ID, c.Bundle); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.ip("-d", "link", "show", "eth0"); !strings.Contains(got, "qdisc htb") {
		t.Errorf("no htb on the late device: %s", got)
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

func TestLimitHoldsForANetworkThatComesBesideANIC(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	annotations[request.KeyEgressLimit] = "50M"
	c := l.run("c1", annotations)
	c.Late = true
	l.mustAttach(c)
	first, err := l.node.Store().Read(c.key())
	if err != nil || first.State != ledger.Attached {
		t.Fatalf("record %+v, %v; want attached", first, err)
	}
	l.ip("link", "add", "late0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(c.PID))
	for range 2 {
		if err := l.node.Late(t.Context(), c.ID, c.Bundle); err != nil {
			t.Fatal(err)
		}
		for _, device := range []string{"net0", "eth0"} {
			if got := c.ip("-d", "link", "show", device); !strings.Contains(got, "qdisc htb") {
				t.Errorf("no htb on %s: %s", device, got)
			}
		}
		r, err := l.node.Store().Read(c.key())
		if err != nil || len(r.Egress.Devices) != 2 {
			t.Fatalf("record %+v, %v; want two devices", r, err)
		}
		for _, d := range r.Egress.Devices {
			if d.GSOMaxSizeBefore != first.Egress.Devices[0].GSOMaxSizeBefore {
				t.Errorf("%s had gso_max_size %d before, the record says", d.Name, d.GSOMaxSizeBefore)
			}
		}
	}
	c.kill()
	l.giveBack(c)
	l.wantNothingHeld(before)
}

func TestReconcilerGivesBackWithin5Seconds(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	done := make(chan error, 1)
	go func() { done <- l.node.Reconcile(t.Context()) }()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	time.Sleep(300 * time.Millisecond)
	c.ip("link", "show", "net0")
	c.kill()
	end := time.Now().Add(5 * time.Second)
	for {
		records, err := l.node.Store().List()
		if err == nil && len(records) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after 5 s still held: %v, %v", records, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.wantNothingHeld(before)
}

// What a hook leaves that was killed before its record was on disk, or between the
// record and the lock.
func TestTidyTakesWhatNoRecordNames(t *testing.T) {
	l := newLab(t)
	before := l.state()
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := statedir.PinNetns(l.node.StateDir, statedir.Pin{Name: "dead-1", Netns: ns}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(l.node.StateDir, "ledger")
	if err := os.WriteFile(filepath.Join(folder, "dead-1.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.node.Tidy(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left in the ledger: %v, %v", left, err)
		}
		l.wantNothingHeld(before)
	}
}
