package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/nic"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
)

// waits makes the pool wait for its NICs.
func (l *lab) waits(wait time.Duration) {
	pool := l.policy.Pools["cloud"]
	pool.Wait = wait
	l.policy.Pools["cloud"] = pool
}

// attachLater attaches in the background, and fails the test where that ends
// before the time.
func (l *lab) attachLater(c *container, notBefore time.Duration) <-chan error {
	l.Helper()
	done := make(chan error, 1)
	go func() { done <- l.attach(c) }()
	select {
	case err := <-done:
		l.Fatalf("did not wait: %v", err)
	case <-time.After(notBefore):
	}
	return done
}

func TestNICThatAppearsWhileItIsWaitedFor(t *testing.T) {
	l := newLab(t)
	l.waits(time.Minute)
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	done := l.attachLater(c, 300*time.Millisecond)
	// Whoever asks for what is there is not held up, nor does a record stand in
	// anybody's way.
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	other := l.run("c2", nicAnnotation("pool=cloud,mac="+mac2+",ip=198.18.0.6/24"))
	start := time.Now()
	l.mustAttach(other)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("another container waited %s", took)
	}
	if records, err := l.node.Store().List(); err != nil || len(records) != 1 {
		t.Errorf("records %v, %v: want only that of the other container", records, err)
	}
	other.kill()
	l.giveBack(other)
	// Plugged in, and named by udev a little later.
	l.ip("link", "add", "eth9", "address", mac1, "type", "veth", "peer", "name", "ens5p")
	l.Cleanup(func() { l.ip("link", "del", "ens5p") })
	l.ip("link", "set", "ens5p", "up")
	start = time.Now()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the NIC is there, and still waited for")
	}
	t.Logf("attached %s after it came", time.Since(start))
	if got := c.ip("-o", "addr", "show", "dev", "net0"); !strings.Contains(got, "198.18.0.5/24") {
		t.Errorf("in the container: %s", got)
	}
	c.kill()
	l.giveBack(c)
	if got := l.ip("-o", "link", "show", "eth9"); !strings.Contains(got, mac1) {
		t.Errorf("on the host: %s", got)
	}
}

func TestNICThatNeverAppears(t *testing.T) {
	l := newLab(t)
	l.waits(400 * time.Millisecond)
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	start := time.Now()
	err := l.attach(c)
	if want := "pool cloud: nic " + mac1 + " is not on this node, and did not come within 400ms"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	var missing *nic.NotFoundError
	if !errors.As(err, &missing) {
		t.Errorf("no NotFoundError: %#v", err)
	}
	if took := time.Since(start); took < 400*time.Millisecond || took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	l.wantNothingHeld(before)
}

// Only the missing NIC's own pool has a say, and only what is missing is waited for.
func TestNobodyWaitsForWhatCannotBeHad(t *testing.T) {
	l := newLab(t)
	l.waits(time.Minute)
	l.policy.Pools["now"] = policy.Pool{Name: "now", Kind: "hostnic", MACs: []string{"*"}, Allow: []string{"*"}}
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	l.addNIC("ens6", mac2, "198.18.0.3/24")
	holder := l.run("holder", nicAnnotation("pool=cloud,mac="+mac2+",ip=198.18.0.6/24"))
	l.mustAttach(holder)
	for nics, want := range map[string]string{
		"pool=now,mac=52:54:00:00:00:99":                                    "is not on this node",
		"pool=cloud,mac=" + mac2:                                            "is held by container holder",
		"pool=cloud,ip=10.0.0.5/24,mac=" + mac1:                             "outside the pool's subnets",
		"pool=cloud,interface=lo0,mtu=68,mac=" + mac1 + ",ip=fd00:18::5/64": "mtu",
	} {
		start := time.Now()
		err := l.attach(l.run("c1", nicAnnotation(nics)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", nics, err, want)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: it took %s", nics, took)
		}
	}
	holder.kill()
	l.giveBack(holder)
}

func TestWaitEndsWithTheContainersInit(t *testing.T) {
	l := newLab(t)
	l.waits(time.Minute)
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	done := l.attachLater(c, 200*time.Millisecond)
	c.kill()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "died while nic "+mac1+" was waited for") {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a dead container is waited for")
	}
	l.wantNothingHeld(before)
}

// A hook that is told to end leaves nothing behind either.
func TestWaitEndsWithTheContext(t *testing.T) {
	l := newLab(t)
	l.waits(time.Minute)
	before := l.state()
	c := l.run("c1", nicAnnotation("pool=cloud,mac="+mac1+",ip=198.18.0.5/24"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := l.node.AttachNetwork(ctx, c.Container, l.policy, caller)
	if err == nil || !strings.Contains(err.Error(), "wait for nic "+mac1) {
		t.Errorf("error %v", err)
	}
	l.wantNothingHeld(before)
}

// The other of two NICs comes later: the first one is not taken before.
func TestSecondOfTwoNICsAppears(t *testing.T) {
	l := newLab(t)
	l.waits(time.Minute)
	l.addNIC("ens5", mac1, "198.18.0.2/24")
	c := l.run("c1", map[string]string{request.KeyNICs: `[{"pool":"cloud","mac":"` + mac1 + `"},{"pool":"cloud","mac":"` + mac2 + `"}]`})
	done := l.attachLater(c, 200*time.Millisecond)
	if got := l.ip("-o", "link", "show", "ens5"); !strings.Contains(got, mac1) {
		t.Errorf("the first NIC: %s", got)
	}
	l.ip("link", "add", "ens6", "address", mac2, "type", "veth", "peer", "name", "ens6p")
	l.Cleanup(func() { l.ip("link", "del", "ens6p") })
	l.ip("link", "set", "ens6p", "up")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := c.ip("-o", "link"); !strings.Contains(got, "net0") || !strings.Contains(got, "net1") {
		t.Errorf("in the container: %s", got)
	}
	c.kill()
	l.giveBack(c)
}
