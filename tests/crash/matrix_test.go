//go:build amd64

package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"candor.dev/candor/statedir"
)

// operation is what is killed at each of its calls.
type operation struct {
	name string
	// begin brings a container to where the operation begins.
	begin func(*stand) *container
	// program is what does it.
	program func(*stand, *container) program
	// status is what it exits with when nobody kills it.
	status int
	// says is in what it says on standard error then.
	says string
	// takes says that it begins with a container that takes the NICs.
	takes bool
	// once leaves it out for other kinds and counts: NICs make no difference.
	once bool
	// pulled has nobody killed: instead the first NIC is pulled at each call.
	pulled bool
	// random begins at another place each time, so that there is no list of the
	// calls that it makes.
	random bool
}

func operations() []operation {
	return []operation{
		{
			name:    "attach",
			begin:   func(s *stand) *container { return s.start(s.asked(false)) },
			program: (*stand).attachOf,
		},
		{
			name:    "attach, undone",
			begin:   func(s *stand) *container { return s.start(s.asked(true)) },
			program: (*stand).attachOf,
			status:  1,
			says:    "file exists",
		},
		{
			name:    "poststop",
			begin:   (*stand).attached,
			takes:   true,
			program: (*stand).poststopOf,
		},
		{
			name:    "attach, NIC pulled",
			begin:   func(s *stand) *container { return s.start(s.asked(false)) },
			program: (*stand).attachOf,
			pulled:  true,
		},
		{
			name:    "poststop, NIC pulled",
			begin:   (*stand).attached,
			program: (*stand).poststopOf,
			pulled:  true,
		},
		{
			name:    "gc",
			begin:   (*stand).attached,
			takes:   true,
			program: func(s *stand, _ *container) program { return s.gc() },
		},
		{
			name:    "gc, attach cut",
			begin:   (*stand).cutAttach,
			program: func(s *stand, _ *container) program { return s.gc() },
			random:  true,
		},
		{
			name:    "gc, poststop cut",
			begin:   (*stand).cutPoststop,
			takes:   true,
			program: func(s *stand, _ *container) program { return s.gc() },
			random:  true,
		},
		{
			name:    "first gc",
			begin:   (*stand).newBoot,
			program: func(s *stand, _ *container) program { return s.gc() },
			once:    true,
		},
	}
}

// newBoot leaves no state directory, as before candor's first work on a node, and
// a container that wants nothing.
func (s *stand) newBoot() *container {
	s.Helper()
	if err := statedir.Remove(s.stateDir); err != nil {
		s.Fatal(err)
	}
	return s.start("[]")
}

// row is one line of the table.
type row struct {
	operation
	kind  kind
	count int
	// stride: of so many calls one is chosen for a kill, the others only where
	// a kind of call would stay without.
	stride int

	calls, kills, failures int
	took                   time.Duration
}

func (r *row) String() string { return fmt.Sprintf("%s, %d x %s", r.name, r.count, r.kind.name) }

// covered says at which moments a kind of call has been cut off.
type covered map[string]*[3]bool

func (c covered) note(what string, m moment) {
	if c[what] == nil {
		c[what] = &[3]bool{}
	}
	c[what][m] = true
}

func TestCrashMatrix(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces and kills what works in them")
	}
	p := buildPrograms(t)
	all := os.Getenv("CANDOR_CRASH") == "all"
	sample := "all kills of attach and poststop for a veth, a sample of the rest"
	switch {
	case all:
		sample = "all kills"
	case testing.Short():
		sample = "a sample of the kills, and all those at calls by which a PF is told something"
	}
	var rows []*row
	seen := covered{}
	for _, k := range kinds() {
		for _, count := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s_x_%d", k.name, count), func(t *testing.T) {
				if k.most != 0 && count > k.most {
					t.Skipf("a machine has %d such NIC", k.most)
				}
				s := newStand(t, p, k, count)
				for _, op := range operations() {
					if op.once && (k.name != "veth" || count > 1) || op.pulled && k.pull == nil || op.random && testing.Short() {
						continue
					}
					if all {
						seen = covered{}
					}
					r := &row{operation: op, kind: k, count: count, stride: stride(all, op, k, count)}
					passed := t.Run(op.name, func(t *testing.T) {
						s.lend(t)
						rows = append(rows, r)
						r.run(s, seen)
					})
					if !passed {
						s.furnish(count)
					}
				}
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return strings.Compare(a.name, b.name) })
	t.Logf("the crash matrix (%s):\n%s", sample, tableOf(rows))
}

// stride is 1 for every kill there is. Emulated machines, which run the tests with
// -short, take ten times as long.
func stride(all bool, op operation, k kind, count int) int {
	switch {
	case all:
		return 1
	case testing.Short():
		return 40
	case k.name != "veth" || count > 1 || op.random:
		return 20 * count
	case op.name == "attach", op.name == "poststop", op.once:
		return 1
	}
	return 4 // the kinds of calls that only this operation makes are not left out
}

func tableOf(rows []*row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tNICs\tkind\tchanging calls\tkilled or pulled at\tfailures\ttook\t")
	kills, failures := 0, 0
	for _, r := range rows {
		kills, failures = kills+r.kills, failures+r.failures
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%.1fs\t\n", r.name, r.count, r.kind.name, r.calls, r.kills, r.failures, r.took.Seconds())
	}
	fmt.Fprintf(w, "all\t\t\t\t%d\t%d\t\t\n", kills, failures)
	w.Flush()
	return b.String()
}

func (r *row) run(s *stand, seen covered) {
	start := time.Now()
	defer func() { r.took = time.Since(start) }()

	// Once without a kill. Every system call is looked at, unless other rows make
	// the same: in an emulated machine a hook may run out of its time by that.
	whole := r.cell(s, r.count == 1 && !r.pulled, func(call) moment { return never })
	r.calls = len(whole.calls)
	for _, strange := range slices.Compact(slices.Sorted(slices.Values(whole.strange))) {
		s.Errorf("%s makes %s, which no table of syscalls_test.go names", r.name, strange)
	}
	if whole.status.ExitStatus() != r.status || !strings.Contains(whole.stderr, r.says) {
		s.Fatalf("%s ends with status %d and %q, want %d and %q", r.name, whole.status.ExitStatus(), whole.stderr, r.status, r.says)
	}
	if r.pulled {
		r.pullAtEach(s)
		return
	}
	kinds := map[string]bool{}
	kill := func(m moment, choose func(call) bool) run {
		done := r.cell(s, false, func(c call) moment {
			if choose(c) {
				return m
			}
			return never
		})
		for _, c := range done.calls {
			kinds[c.what] = true
		}
		if done.killed != nil {
			r.kills++
			seen.note(done.killed.what, m)
		}
		return done
	}
	for _, c := range whole.calls {
		kinds[c.what] = true
	}
	// Runs differ a little: the first one that ends before its n-th call, and
	// not before the whole one did, is past the end.
	for _, m := range []moment{atEntry, atExit} {
		for n := 1 + s.random.IntN(r.stride); ; n += r.stride {
			if done := kill(m, func(c call) bool { return c.number == n }); done.killed == nil && n > r.calls {
				break
			}
		}
	}
	if r.random {
		return
	}
	for what := range kinds {
		if testing.Short() && (r.kind.own == "" || !strings.HasPrefix(what, r.kind.own)) {
			continue
		}
		for _, m := range []moment{atEntry, atExit} {
			for range 5 {
				if seen[what] != nil && seen[what][m] {
					break
				}
				kill(m, func(c call) bool { return c.what == what })
			}
			if seen[what] == nil || !seen[what][m] {
				s.Errorf("no run was killed at %s of %q", m, what)
			}
		}
	}
}

// pullAtEach pulls the first NIC at the calls of the operation, before the kernel does
// what it was asked to.
func (r *row) pullAtEach(s *stand) {
	s.Helper()
	stride := min(r.stride, r.calls)
	if testing.Short() {
		stride = r.calls * 3 / 4 // once or twice: to plug it in again takes seconds
	}
	for n := 1 + s.random.IntN(stride); n <= r.calls; n += stride {
		r.cell(s, false, func(c call) moment {
			if c.number == n {
				s.pullAt(c)
				r.kills++
			}
			return never
		})
		s.furnish(r.count)
	}
}

// cell runs the operation, killed where cut says, then does what happens on a
// node, and looks at what is left.
func (r *row) cell(s *stand, full bool, cut func(call) moment) run {
	s.Helper()
	c := r.begin(s)
	defer c.die()
	done, err := trace(r.program(s, c), full, s.plain(c), cut)
	if err != nil {
		s.Fatal(err)
	}
	// A container whose hook was killed does not live on.
	c.die()
	complaint := ""
	if err := s.gc().do(); err != nil {
		complaint = fmt.Sprintf("  %v\n", err)
	}
	complaint += s.difference()
	if complaint == "" && !r.takes && s.pulled == "" && s.serial%4 == 0 {
		if err := s.take(); err != nil {
			complaint = fmt.Sprintf("  another container cannot take the NICs: %v\n", err)
		}
	}
	if complaint != "" {
		r.failures++
		s.Errorf("%s %s%s%s: the node is not as before\n%s", r, done.where(), c.history, s.pulled, complaint)
		s.furnish(r.count)
	}
	return done
}
