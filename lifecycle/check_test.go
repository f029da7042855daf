package lifecycle

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
)

// checked is one look of Check at the whole node, one difference a line.
func (l *lab) checked() string {
	l.Helper()
	looking, err := LookAt(l.node.StateDir)
	if err != nil {
		l.Fatal(err)
	}
	found, err := looking.check(nil)
	if err != nil {
		l.Fatal(err)
	}
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

// limited is a container with ens5 as net0, and a limit.
func (l *lab) limited(id string) *container {
	l.Helper()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	annotations[request.KeyEgressLimit] = "50M"
	c := l.run(id, annotations)
	l.mustAttach(c)
	return c
}

// rewrite changes the record of a container behind candor's back.
func (l *lab) rewrite(key string, change func(*ledger.Record)) {
	l.Helper()
	lock, err := l.node.Store().Lock(l.Context(), key)
	if err != nil {
		l.Fatal(err)
	}
	defer lock.Unlock()
	r, err := lock.Read()
	if err != nil {
		l.Fatal(err)
	}
	change(r)
	if err := lock.Write(r); err != nil {
		l.Fatal(err)
	}
}

// pinAgain gives a living container's namespace its pin back: without it a veth
// dies with the container.
func (l *lab) pinAgain(c *container) {
	l.Helper()
	ns, err := nic.Open(fmt.Sprintf("/proc/%d/ns/net", c.PID))
	if err != nil {
		return // it is dead, and was pinned
	}
	defer ns.Close()
	if err := statedir.PinNetns(l.node.StateDir, statedir.Pin{Name: c.key(), Netns: ns.File()}); err != nil {
		l.Fatal(err)
	}
}

// files are the names, times and contents of what lies in the state directory.
func (l *lab) files() string {
	l.Helper()
	var lines []string
	err := filepath.WalkDir(l.node.StateDir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime().UnixNano()))
		return nil
	})
	pins, pinErr := statedir.Pins(l.node.StateDir)
	if err != nil || pinErr != nil {
		l.Fatal(err, pinErr)
	}
	return strings.Join(append(lines, pins...), "\n")
}

func TestCheckFindsNothingAndChangesNothingWhereAllIsAsRecorded(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	if got := l.checked(); got != "" {
		t.Errorf("a node on which nothing is held: %s", got)
	}
	c := l.limited("c1")
	node, files, inside := l.state(), l.files(), c.ip("-d", "addr")
	if got := l.checked(); got != "" {
		t.Errorf("a container as it was attached: %s", got)
	}
	if found, err := l.node.Check(t.Context(), c.key()); err != nil || len(found) != 0 {
		t.Errorf("Check = %v, %v", found, err)
	}
	if l.state() != node || l.files() != files || c.ip("-d", "addr") != inside {
		t.Error("check changed something")
	}
}

func TestCheckNamesEachDifference(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct {
		do   func(c *container)
		want string
	}{
		"nic is down":       {func(c *container) { c.ip("link", "set", "net0", "down") }, "c1: nic " + mac1 + " (ens5): expected up, is down"},
		"nic on the host":   {func(c *container) { c.ip("link", "set", "net0", "netns", fmt.Sprint(os.Getpid())) }, "is on the host as net0"},
		"limit is off":      {func(c *container) { c.inside("tc", "qdisc", "del", "dev", "net0", "root") }, "c1: egress limit of net0: expected 50000000 bit/s, is none"},
		"device came later": {func(c *container) { c.ip("link", "add", "late0", "type", "bridge") }, "egress limit of late0: expected 50Mbit/s, as on each device, is none"},
		"pin is gone": {func(c *container) {
			if err := statedir.Unpin(l.node.StateDir, c.key()); err != nil {
				t.Fatal(err)
			}
		}, "c1: pin of the container's network namespace: expected inode "},
		"pin of another": {func(c *container) {
			host, err := nic.Current()
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			if err := statedir.PinNetns(l.node.StateDir, statedir.Pin{Name: c.key(), Netns: host.File()}); err != nil {
				t.Fatal(err)
			}
		}, "c1: pin of the container's network namespace: expected inode "},
		"host's pin is gone": {func(c *container) {
			if err := statedir.Unpin(l.node.StateDir, hostPin(c.key())); err != nil {
				t.Fatal(err)
			}
		}, "c1: pin of the host's network namespace: expected inode "},
		"dead": {func(c *container) { c.kill() }, "still there (nic ens5 (" + mac1 + "), egress limit): not given back yet: candor gc"},
		"of another boot": {func(c *container) {
			l.rewrite(c.key(), func(r *ledger.Record) { r.BootID = "another" })
		}, "expected erased, since it is of another boot, is still there: candor gc"},
		"cut short": {func(c *container) {
			l.rewrite(c.key(), func(r *ledger.Record) { r.State, r.Created = ledger.Intent, time.Now().Add(-time.Minute) })
		}, "c1: attach: expected done or undone, is cut short"},
		"view that was never bound": {func(c *container) {
			l.rewrite(c.key(), func(r *ledger.Record) { r.View, r.Created = &ledger.View{ID: 1}, time.Now().Add(-time.Minute) })
		}, "c1: resource view: expected bound, is not bound"},
	} {
		t.Run(name, func(t *testing.T) {
			l.T = t
			l.addNIC("ens5", mac1, "198.18.0.2/24")
			before := l.state()
			c := l.limited("c1")
			test.do(c)
			got := l.checked()
			// Where the NIC is gone, so is its limit.
			lines := 1 + strings.Count(got, "\n") - strings.Count(got, "is gone with the device")
			if !strings.Contains(got, test.want) || lines != 1 {
				t.Errorf("%q, want one line with %q", got, test.want)
			}
			l.pinAgain(c)
			c.kill()
			if name == "of another boot" {
				l.rewrite(c.key(), func(r *ledger.Record) { r.BootID = l.node.bootID })
			}
			l.giveBack(c)
			l.wantNothingHeld(before)
			l.ip("link", "del", "ens5")
		})
	}
}

func TestCheckNamesWhatHasNoRecord(t *testing.T) {
	l := newLab(t)
	host, err := nic.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := statedir.PinNetns(l.node.StateDir, statedir.Pin{Name: "gone-0123456789", Netns: host.File()}); err != nil {
		t.Fatal(err)
	}
	l.ip("link", "add", "cdr0123456789", "type", "veth", "peer", "name", "stray0")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "stray0").Run() })
	// Of this one the record is there, and cannot be read.
	l.ip("link", "add", "cdrabcdefabcd", "type", "veth", "peer", "name", "stray1")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "stray1").Run() })
	for name, content := range map[string]string{"cut-1.json": `{"version": 1, "nics": [{"transient_name": "cdrabcdefabcd"`, "newer-1.json": `{"version": 99}`} {
		if err := os.WriteFile(filepath.Join(l.node.StateDir, "ledger", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := statedir.PinNetns(l.node.StateDir, statedir.Pin{Name: "cut-1", Netns: host.File()}); err != nil {
		t.Fatal(err)
	}
	found, err := l.node.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String())
	}
	got := strings.Join(lines, "\n")
	for _, want := range []string{
		"cut-1.json: expected one that can be read, is damaged", "newer-1.json: expected one that can be read, is of format 99",
		"node: pin gone-0123456789: expected named by a record, is without one",
		"node: interface cdr0123456789 (", "is stranded there under the name of a nic on its way (cdr0123456789)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if len(found) != 4 {
		t.Errorf("%d differences, want 4:\n%s", len(found), got)
	}
}

// A container that comes or goes while the node is looked at is no difference.
func TestCheckLooksTwice(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	c := l.limited("c1")
	c.kill()
	gaveBack := make(chan error, 1)
	go func() {
		time.Sleep(poststopGrace / 4)
		gaveBack <- l.node.GiveBack(t.Context(), c.key())
	}()
	if found, err := l.node.Check(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("Check = %v, %v; want nothing: poststop came in its time", found, err)
	}
	if err := <-gaveBack; err != nil {
		t.Error(err)
	}
}

func TestCheckOfANodeWithoutAStateDirectoryMakesNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	n, err := LookAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if found, err := n.Check(t.Context()); err != nil || len(found) != 0 {
			t.Errorf("Check = %v, %v", found, err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want that it is not there", dir, err)
	}
}
