package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
)

// What docker restart does, with poststops that come in time, late, or never.
func TestSameIDFiftyTimes(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	annotations := nicAnnotation("pool=cloud,mac=" + mac1 + ",ip=198.18.0.5/24")
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	bundle := t.TempDir()
	var last *container
	for i := range rounds {
		c := l.runIn("c1", bundle, annotations, syscall.CLONE_NEWNET)
		l.mustAttach(c)
		if last != nil && i%3 == 2 {
			if err := l.node.GiveBack(t.Context(), last.key()); !errors.Is(err, ErrAlive) {
				t.Fatalf("round %d: the late poststop: %v", i, err)
			}
		}
		if got := c.ip("-o", "addr", "show", "dev", "net0"); !strings.Contains(got, "198.18.0.5/24") {
			t.Fatalf("round %d: %s", i, got)
		}
		c.kill()
		if i%3 == 0 {
			l.giveBack(c)
		}
		last = c
	}
	l.giveBack(last)
	l.wantNothingHeld(before)
}

// sriov-cni#219: the release of a container that is gone, while and after another
// gets its NIC.
func TestLateReleaseTouchesNothingOfTheNextOwners(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	owner := l.run("owner0", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.100/24"))
	l.mustAttach(owner)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for i := 1; i <= rounds; i++ {
		old := owner
		old.kill()
		address := fmt.Sprintf("198.18.0.%d/24", 100+i)
		owner = l.run(fmt.Sprint("owner", i), nicAnnotation("pool=cloud,mac="+mac1+",ip="+address))
		var releases sync.WaitGroup
		for range 3 {
			releases.Go(func() {
				for range 5 {
					if err := l.node.GiveBack(context.Background(), old.key()); err != nil {
						t.Errorf("release: %v", err)
					}
				}
			})
		}
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			err := l.attach(owner)
			if err == nil {
				break
			}
			if !strings.Contains(err.Error(), "is held by container "+old.ID) || time.Now().After(end) {
				t.Fatal(err)
			}
		}
		releases.Wait()
		if got := owner.ip("-o", "addr", "show", "dev", "net0"); !strings.Contains(got, address) {
			t.Fatalf("round %d: %s", i, got)
		}
		if r, err := l.node.Store().Read(owner.key()); err != nil || r.State != ledger.Attached {
			t.Fatalf("round %d: record %+v, %v", i, r, err)
		}
	}
	owner.kill()
	l.giveBack(owner)
	l.wantNothingHeld(before)
}

// The NIC is back under another name, and still on the books: whoever asks for it is
// told so, and the reconciler puts it right once the name is free.
func TestNameTakenOnTheHostAtReturn(t *testing.T) {
	for name, take := range map[string][]string{
		"name":    {"link", "add", "ens5", "type", "bridge"},
		"altname": {"link", "property", "add", "dev", "lo", "altname", "ens5-alt"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.addNIC("ens5", mac1, "198.18.0.2/24")
			before := l.state()
			c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
			l.mustAttach(c)
			l.ip(take...)
			c.kill()
			for range 2 {
				if err := l.node.GiveBack(t.Context(), c.key()); err == nil || !strings.Contains(err.Error(), "nic "+mac1+" (ens5)") {
					t.Errorf("error %v, want one that names the NIC", err)
				}
			}
			next := l.run("c2", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.6/24"))
			if err := l.attach(next); err == nil || !strings.Contains(err.Error(), "is held by container c1") {
				t.Errorf("the next one: %v", err)
			}
			// It serves the host meanwhile.
			if got := l.ip("-o", "addr"); !strings.Contains(got, "198.18.0.2/24") {
				t.Errorf("on the host: %s", got)
			}
			if name == "name" {
				l.ip("link", "del", "ens5")
			} else {
				l.ip("link", "property", "del", "dev", "lo", "altname", "ens5-alt")
			}
			l.giveBack(c)
			l.wantNothingHeld(before)
		})
	}
}

// joined is a container in a namespace that others made and named (ctr --with-ns,
// podman --network ns:PATH).
func (l *lab) joined(id string, annotations map[string]string) (c *container, netns string) {
	l.Helper()
	netns = fmt.Sprintf("candor-test-%d-%s", os.Getpid(), id)
	l.ip("netns", "add", netns)
	l.Cleanup(func() { exec.Command("ip", "netns", "del", netns).Run() })
	c = l.runIn(id, l.TempDir(), annotations, 0)
	c.kill()
	c.cmd = exec.Command("nsenter", "--net=/run/netns/"+netns, "sleep", "600")
	if err := c.cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(c.kill)
	c.PID = c.cmd.Process.Pid
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.PID))
		if err == nil && string(comm) == "sleep\n" {
			return c, netns
		}
		if time.Now().After(end) {
			l.Fatal("nsenter does not come to its end")
		}
	}
}

func TestNamespaceIsDeletedWhileANICIsInIt(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	before := l.state()
	c, netns := l.joined("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	l.ip("netns", "del", netns)
	c.ip("link", "show", "net0")
	c.kill() // the pin alone keeps the namespace now
	l.giveBack(c)
	l.wantNothingHeld(before)
}

// Without the pin too, a virtual NIC dies with the namespace: the record closes.
func TestNamespaceAndPinAreGone(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	c, netns := l.joined("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	l.mustAttach(c)
	if err := statedir.Unpin(l.node.StateDir, c.key()); err != nil {
		t.Fatal(err)
	}
	l.ip("netns", "del", netns)
	c.kill()
	for end := time.Now().Add(30 * time.Second); strings.Contains(l.ip("-o", "link"), "ens5p"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the kernel keeps the namespace")
		}
	}
	l.giveBack(c)
	if records, err := l.node.Store().List(); err != nil || len(records) != 0 {
		t.Errorf("records left: %v, %v", records, err)
	}
	if pins, err := statedir.Pins(l.node.StateDir); err != nil || len(pins) != 0 {
		t.Errorf("pins left: %v, %v", pins, err)
	}
}

// candord's and a `candor gc`, or those of two candords while one takes over.
func TestTwoReconcilersAtOnce(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	before := l.state()
	ctx, cancel := context.WithCancel(t.Context())
	var reconcilers sync.WaitGroup
	for range 2 {
		reconcilers.Go(func() {
			if err := l.node.Reconcile(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer reconcilers.Wait()
	defer cancel()
	for range 2 {
		var containers []*container
		for i, mac := range []string{mac1, mac2} {
			c := l.run(fmt.Sprint("c", i), nicAnnotation(fmt.Sprintf("pool=cloud,mac=%s,ip=198.18.0.%d/24", mac, 5+i)))
			l.mustAttach(c)
			containers = append(containers, c)
		}
		for _, c := range containers {
			c.kill()
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			records, err := l.node.Store().List()
			if err == nil && len(records) == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("still held: %v, %v", records, err)
			}
		}
		l.wantNothingHeld(before)
	}
}

// After a reboot the NICs are the host's by themselves, whatever the records say; a
// pid that they name is somebody else's.
func TestRecordsOfAnotherBootTouchNoNIC(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	annotations := map[string]string{request.KeyNICs: `[{"pool":"cloud","mac":"` + mac1 + `","ips":["198.18.0.5/24"]},
		{"pool":"cloud","mac":"` + mac2 + `","ips":["198.18.0.6/24"]}]`}
	c := l.run("c1", annotations)
	l.mustAttach(c)
	r, err := l.node.Store().Read(c.key())
	if err != nil {
		t.Fatal(err)
	}
	c.kill()
	l.giveBack(c)
	// The host has another idea of its NICs since.
	l.ip("link", "set", "ens5", "mtu", "1300", "alias", "rack-7")
	l.ip("addr", "add", "198.18.0.77/24", "dev", "ens6")
	before := l.state()
	stranger := l.run("stranger", nil)
	if r.Owner, err = ledger.FindProcess(stranger.PID); err != nil {
		t.Fatal(err)
	}
	r.BootID = "00000000-0000-0000-0000-000000000000"
	write := func(key string) {
		lock, err := l.node.Store().Lock(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		r.Key = key
		if err := errors.Join(lock.Write(r), lock.Unlock()); err != nil {
			t.Fatal(err)
		}
	}
	write("old-0123456789")
	write(c.key())
	// It holds up nobody, neither the same container nor another one.
	again := l.runIn("c1", c.Bundle, annotations, syscall.CLONE_NEWNET)
	l.mustAttach(again)
	again.kill()
	l.giveBack(again)
	if err := l.node.GiveBack(t.Context(), "old-0123456789"); err != nil {
		t.Error(err)
	}
	l.wantNothingHeld(before)
}
