package resview

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

func oneContainer(t *testing.T) (client, *fakeContainer, uint64) {
	t.Helper()
	store, f := newStore(t), &fakes{}
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	fake := f.add(5)
	c := client{t, server(t, store, newSlots(t), f, 1)}
	return c, fake, c.file("c1", "stat")
}

func TestContentIsReusedForAShortTime(t *testing.T) {
	c, _, node := oneContainer(t)
	start := time.Now()
	first := c.read(node, c.open(node), 0, 4096)
	second := c.read(node, c.open(node), 0, 4096)
	if first != second && time.Since(start) < contentAge {
		t.Errorf("%q, then %q", first, second)
	}
	time.Sleep(contentAge + time.Millisecond)
	if third := c.read(node, c.open(node), 0, 4096); third == first {
		t.Errorf("%q for longer than %v", third, contentAge)
	}
}

func TestAClockIsReusedForNoLongerThanItsStep(t *testing.T) {
	c, _, _ := oneContainer(t)
	node := c.file("c1", "uptime")
	fh := c.open(node)
	last := c.read(node, fh, 0, 4096)
	for range 3 {
		time.Sleep(11 * time.Millisecond)
		if got := c.read(node, c.open(node), 0, 4096); got == last {
			t.Errorf("%q is given again", got)
		}
		time.Sleep(11 * time.Millisecond)
		got := c.read(node, fh, 0, 4096) // top keeps it open
		if got == last {
			t.Errorf("%q is given again to who keeps it open", got)
		}
		last = got
	}
}

func TestAnOpenFileIsReadOfOnePiece(t *testing.T) {
	c, _, node := oneContainer(t)
	fh := c.open(node)
	var got strings.Builder
	for {
		part := c.read(node, fh, uint64(got.Len()), 3)
		if part == "" {
			break
		}
		got.WriteString(part)
		time.Sleep(contentAge / 3)
	}
	if got.String() != "view 5 stat 1\n" {
		t.Errorf("%q", got.String())
	}
	if again := c.read(node, fh, 0, 4096); again == got.String() {
		t.Errorf("read again from its start: %q", again)
	}
}

func TestASuccessorGoesOnWithTheSameContent(t *testing.T) {
	store, f, slots := newStore(t), &fakes{}, newSlots(t)
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	one := client{t, server(t, store, slots, f, 1)}
	node := one.file("c1", "stat")
	fh := one.open(node)
	got := one.read(node, fh, 0, 6)
	two := client{t, server(t, store, slots, f, 2)}
	other := two.open(node)
	two.read(node, other, 0, 4096)
	if other == fh {
		t.Error("the successor gave the same handle again")
	}
	// The answer to this may be the one that the reader got already.
	replayed := two.s.handle(makeRequest(opRead, node, readBody(fh, 0, 6)), nil, work{alive: func() {}, replay: true})
	if string(replayed.data) != got {
		t.Errorf("answered again with %q, before with %q", replayed.data, got)
	}
	three := client{t, server(t, store, slots, f, 3)}
	got += three.read(node, fh, 6, 4096)
	if got != "view 5 stat 1\n" {
		t.Errorf("%q", got)
	}
	if end := three.read(node, fh, uint64(len(got)), 4096); end != "" {
		t.Errorf("at the end: %q", end)
	}
}

func TestLastGoodContentWhenReadingsFail(t *testing.T) {
	c, fake, node := oneContainer(t)
	first := c.read(node, c.open(node), 0, 4096)
	fake.fail.Store(true)
	time.Sleep(contentAge + time.Millisecond)
	if got := c.read(node, c.open(node), 0, 4096); got != first {
		t.Errorf("%q, want the last good content %q", got, first)
	}
	other := c.file("c1", "meminfo")
	if r := c.ask(opRead, other, readBody(c.open(other), 0, 10)); r.errno != unix.EIO {
		t.Errorf("without any good content: %v", r.errno)
	}
}

func TestARendererThatHangsIsNotWaitedFor(t *testing.T) {
	c, fake, node := oneContainer(t)
	first := c.read(node, c.open(node), 0, 4096)
	time.Sleep(contentAge + time.Millisecond)
	fake.hang = make(chan struct{})
	defer close(fake.hang)
	start := time.Now()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if got := c.read(node, c.open(node), 0, 4096); got != first {
				t.Errorf("%q, want the last good content", got)
			}
		})
	}
	group.Wait()
	if took := time.Since(start); took > 10*renderWait {
		t.Errorf("20 readers waited for %v", took)
	}
	// The rendering is what may take so long, not each that asks for it.
	start = time.Now()
	for range 40 {
		if got := c.read(node, c.open(node), 0, 4096); got != first {
			t.Fatalf("%q, want the last good content", got)
		}
	}
	if took := time.Since(start); took > 10*renderWait {
		t.Errorf("40 later readers, one after the other, waited for %v", took)
	}
	start = time.Now()
	other := c.file("c1", "meminfo")
	for range 20 {
		group.Go(func() {
			if r := c.ask(opRead, other, readBody(c.open(other), 0, 10)); r.errno != unix.EIO {
				t.Errorf("without any good content: %v", r.errno)
			}
		})
	}
	group.Wait()
	if took := time.Since(start); took > 3*firstWait {
		t.Errorf("20 first readers waited for %v", took)
	}
}

// Readers in a number above the container's share of the threads do not wait for
// new content, but what was true long ago is no answer.
func TestACrowdGetsNoOldContent(t *testing.T) {
	c, fake, node := oneContainer(t)
	known, err := c.s.tree.byID(5, func() {})
	if err != nil {
		t.Fatal(err)
	}
	fake.takes = 5 * time.Millisecond
	p, _ := c.s.tree.location(node)
	f := c.s.tree.content(known, p)
	first := c.read(node, c.open(node), 0, 4096)
	f.good.Store(&version{data: f.good.Load().data, at: time.Now().Add(-time.Hour)})
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			if got := c.read(node, c.open(node), 0, 4096); got == first {
				t.Errorf("%q, of an hour ago", got)
			}
		})
	}
	group.Wait()
}

// Whoever reads all that is in a directory while it hangs, again and again, costs
// a bounded number of threads, and the container's other files nothing.
func TestFilesThatHangAreBounded(t *testing.T) {
	c, fake, node := oneContainer(t)
	fake.hang = make(chan struct{})
	fake.hangs = func(file string) bool { return strings.HasPrefix(file, "cpu/") }
	known, err := c.s.tree.byID(5, func() {})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 3 * maxBelow {
		group.Go(func() {
			for range 2 {
				if _, err := known.read(known.below(fmt.Sprintf("cpu/cpu%d/online", i)), contentAge, func() {}); err == nil {
					t.Error("what hangs was read")
				}
			}
		})
	}
	group.Wait()
	// One may be driven out between its making and its rendering.
	if n := fake.rendering.Load(); n < maxBelow || n > 2*maxBelow {
		t.Errorf("%d renderings hang, want about %d", n, maxBelow)
	}
	if got := c.read(node, c.open(node), 0, 4096); !strings.HasPrefix(got, "view 5 stat ") {
		t.Errorf("another file: %q", got)
	}
	close(fake.hang)
	for end := time.Now().Add(10 * time.Second); fake.rendering.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the renderings do not end")
		}
	}
	for i := range 3 * maxBelow {
		name := fmt.Sprintf("cpu/cpu%d/online", i)
		if _, err := known.read(known.below(name), contentAge, func() {}); err != nil {
			t.Errorf("%s, once nothing hangs: %v", name, err)
		}
	}
}

// Of a container without any content even its first readers are answered at once
// when its rendering is lost.
func TestALostRenderingIsNotWaitedFor(t *testing.T) {
	c, _, node := oneContainer(t)
	known, err := c.s.tree.byID(5, func() {})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.s.tree.location(node)
	f := c.s.tree.content(known, p)
	f.flight = &flight{began: time.Now().Add(-lostAfter), done: make(chan struct{})}
	asked := 0
	for range 5 {
		if _, err := known.read(f, contentAge, func() { asked++ }); err == nil {
			t.Fatal("what hangs was read")
		}
	}
	if asked > 0 {
		t.Errorf("waited %d times %v", asked, waitStep)
	}
}

func TestAPanicIsAnError(t *testing.T) {
	store := newStore(t)
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	s := NewServer(Config{FD: -1, Slots: newSlots(t), Generation: 1, Store: store, Open: func(ledger.View) (Container, error) { panic("odd cgroup") }})
	c := client{t, s}
	node := c.file("c1", "stat")
	if r := c.ask(opRead, node, readBody(c.open(node), 0, 10)); r.errno != unix.EIO {
		t.Errorf("read: %v", r.errno)
	}
}

func TestSweepForgetsTheDead(t *testing.T) {
	c, fake, node := oneContainer(t)
	c.read(node, c.open(node), 0, 4096)
	eraseRecord(t, c.s.tree.store.(*ledger.Store), "c1")
	c.s.tree.sweep()
	if c.s.Containers() != 1 {
		t.Error("forgotten while it is still read")
	}
	c.s.tree.containers[5].used.Store(-int64(2 * idleAge))
	c.s.tree.sweep()
	for range 100 {
		if fake.closed.Load() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if c.s.Containers() != 0 || !fake.closed.Load() {
		t.Errorf("%d containers, closed: %v", c.s.Containers(), fake.closed.Load())
	}
}

func TestKeptContents(t *testing.T) {
	slots := newSlots(t)
	k := newKept(slots, 1)
	content := func(i int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "content %d ", i), 1+i%500)
	}
	fh := map[int]uint64{}
	const count = 2000 // several times what the ring holds
	for i := range count {
		v := &version{data: content(i), at: time.Now()}
		k.put(v)
		fh[i] = k.handle()
		k.open(fh[i], v)
	}
	later := newKept(slots, 2)
	found := 0
	for i := range count {
		v := later.find(fh[i])
		if v == nil {
			continue
		}
		found++
		if !bytes.Equal(v.data, content(i)) {
			t.Fatalf("content %d is %q", i, v.data)
		}
	}
	if found < 100 || later.find(fh[count-1]) == nil {
		t.Errorf("%d found", found)
	}
	// A worker that died while it wrote.
	v := &version{data: content(7), at: time.Now()}
	k.put(v)
	k.open(fh[0], v)
	slots.mem[v.keptAt+keptHeader+3] ^= 1
	if got := later.find(fh[0]); got != nil {
		t.Errorf("damaged content %q is believed", got.data)
	}
	large := &version{data: make([]byte, maxKept), at: time.Now()}
	k.put(large)
	if large.number != 0 {
		t.Error("a content that drives out all others is kept")
	}
	for at := handlesAt; at < ringEnd; at += 8 {
		slots.word64(at).Store(^uint64(0))
	}
	slots.word64(headerRing).Store(^uint64(0))
	if got := later.find(^uint64(0)); got != nil {
		t.Errorf("garbage is believed: %v", got)
	}
	k.put(v)
}
