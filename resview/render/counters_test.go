package render

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// worker gives the container as a process sees it that keeps its counters in dir.
func worker(t *testing.T, root, dir string) *Container {
	t.Helper()
	host, err := NewHost(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.KeepCounters(dir); err != nil {
		t.Fatal(err)
	}
	c, err := Open(fixtures()["v2"], host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); host.Close() })
	return c
}

func TestASuccessorGoesOnWithWhatWasCounted(t *testing.T) {
	_, group := copied(t, "v2", v2Group)
	root, dir := filepath.Join(group, "../../../../../.."), filepath.Join(t.TempDir(), "counters")
	now := time.Unix(1800000000, 0)
	old := worker(t, root, dir)
	if got := mustRender(t, old, "loadavg", now); got != "2.00 2.00 2.00 2/4 44\n" {
		t.Fatalf("first read: %q", got)
	}
	mustRender(t, old, "stat", now)
	write(t, group+"/cgroup.threads", "")
	write(t, group+"/init.scope/cgroup.threads", "")
	// Other CPUs are shown then, and what was used is dealt out otherwise.
	write(t, group+"/cpu.max", "100000 100000\n")
	now = now.Add(time.Minute)
	if err := old.host.Sample(now); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"stat", "loadavg"} {
		want := mustRender(t, old, file, now)
		if got := mustRender(t, worker(t, root, dir), file, now); got != want {
			t.Errorf("%s: the next worker shows\n%snot\n%s", file, got, want)
		}
		if got := mustRender(t, worker(t, root, dir+"-other"), file, now); got == want {
			t.Errorf("%s: one that knows nothing shows the same: this test shows nothing", file)
		}
	}
	if got := mustRender(t, worker(t, root, dir), "loadavg", now.Add(idleAfter+time.Second)); got != "0.00 0.00 0.00 1/1 44\n" {
		t.Errorf("a load that nobody asked for lately: %q", got)
	}
}

func TestCountersThatAreDamaged(t *testing.T) {
	host := &Host{}
	dir := t.TempDir()
	if err := host.KeepCounters(dir); err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	words := func() []uint64 { return host.countersOf(7).get(counterLoad) }
	if got := words(); got != nil {
		t.Errorf("none were kept: %v", got)
	}
	c := host.countersOf(7)
	for _, w := range [][]uint64{{1, 2, 3, 4}, {5, 6}} {
		if err := c.put(counterLoad, w...); err != nil {
			t.Fatal(err)
		}
	}
	if got := words(); !slices.Equal(got, []uint64{5, 6}) {
		t.Fatalf("got %v", got)
	}
	if got := host.countersOf(7).get(counterStat); got != nil {
		t.Errorf("another part has %v", got)
	}
	path := filepath.Join(dir, "7")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := int(halfAt(counterLoad, 2)) // of the second put
	for i := range counterHeader + 2*wordSize {
		broken := slices.Clone(whole)
		broken[at+i] ^= 0x41
		write(t, path, string(broken))
		if got := words(); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
			t.Fatalf("byte %d is wrong: got %v", i, got)
		}
	}
	// The end of a file that a write did not reach.
	write(t, path, string(whole[:at+counterHeader]))
	if got := words(); got != nil {
		t.Errorf("half a half: %v", got)
	}
	// What follows goes on from what is whole.
	write(t, path, string(whole))
	next := host.countersOf(7)
	next.get(counterLoad)
	if err := next.put(counterLoad, 9); err != nil {
		t.Fatal(err)
	}
	if got := words(); !slices.Equal(got, []uint64{9}) {
		t.Errorf("after the next worker's: %v", got)
	}
}

func TestStatsWordsAreNotBelieved(t *testing.T) {
	st := statState{shown: []int{1, 3}, quota: 5, period: 6, cpus: map[int]*cpuState{
		1: {user: 7, system: 8, base: [columns]int64{-9, 10}, last: [columns]int64{11}}, 3: {},
	}}
	words := slices.Clone(st.save())
	var again statState
	again.restore(words)
	if again.quota != 5 || again.period != 6 || !slices.Equal(again.shown, st.shown) || len(again.cpus) != 2 ||
		*again.cpus[1] != *st.cpus[1] || *again.cpus[3] != *st.cpus[3] {
		t.Errorf("came back as %+v", again)
	}
	for length := range words {
		again = statState{}
		again.restore(words[:length])
		if len(again.cpus) == 2 {
			t.Errorf("%d of %d words were taken for all", length, len(words))
		}
	}
	words[2] = 1 << 63
	again = statState{}
	again.restore(words)
	if again.cpus != nil {
		t.Error("more CPUs than there are words")
	}
}

func TestCountersOfTheDeadAreSwept(t *testing.T) {
	host := &Host{}
	dir := filepath.Join(t.TempDir(), "counters")
	if err := host.KeepCounters(dir); err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	sweep := func(err error, ids ...uint64) error {
		return host.SweepCounters(func() (map[uint64]bool, error) {
			alive := map[uint64]bool{}
			for _, id := range ids {
				alive[id] = true
			}
			return alive, err
		})
	}
	for id := range uint64(3) {
		if err := host.countersOf(id).put(counterTasks, 1); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/not-a-number", "")
	unreadable := errors.New("a record cannot be read")
	if err := sweep(unreadable); !errors.Is(err, unreadable) {
		t.Errorf("error %v", err)
	}
	for range 2 { // the directory is read from its beginning each time
		if err := sweep(nil, 1); err != nil {
			t.Fatal(err)
		}
		var names []string
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, []string{"1", "not-a-number"}) {
			t.Errorf("left: %v", names)
		}
		if err := host.countersOf(2).put(counterTasks, 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCountersThatCannotBeKept(t *testing.T) {
	c, _ := copied(t, "v2", v2Group)
	dir := filepath.Join(t.TempDir(), "counters")
	if err := c.host.KeepCounters(dir); err != nil {
		t.Fatal(err)
	}
	c, err := Open(fixtures()["v2"], c.host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1800000000, 0)
	mustRender(t, c, "stat", now) // its reader does not suffer from it
	if err := c.host.Sample(now); !errors.Is(err, ErrCounters) {
		t.Errorf("error %v", err)
	}
	if err := c.host.Sample(now.Add(time.Millisecond)); err != nil {
		t.Errorf("told again: %v", err)
	}
}
