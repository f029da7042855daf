package result

import (
	"strings"
	"testing"

	"candor.dev/candor/bench/stats"
)

func TestVerdictIsTheIntervals(t *testing.T) {
	for _, tt := range []struct {
		goal      string
		low, high float64
		want      Verdict
	}{
		{"", 1, 2, ""},
		{"<= 0.25", 0.2, 0.25, Met},
		{"<= 0.25", 0.2, 0.26, Open},
		{"<= 0.25", 0.26, 0.3, Missed},
		{">= 0.98", 0.98, 1.1, Met},
		{">= 0.98", 0.9, 1.1, Open},
		{">= 0.98", 0.9, 0.97, Missed},
		{"0.98 to 1.02", 0.99, 1.01, Met},
		{"0.98 to 1.02", 0.9, 1.1, Open},
		{"0.98 to 1.02", 1.03, 1.1, Missed},
	} {
		r := Row{Goal: tt.goal, Ratio: stats.Interval{Low: tt.low, High: tt.high}}
		if got := r.Verdict(); got != tt.want {
			t.Errorf("goal %q, interval %v to %v: %q, want %q", tt.goal, tt.low, tt.high, got, tt.want)
		}
	}
}

func TestBoundIsTheOneNumberOfAGoal(t *testing.T) {
	for goal, want := range map[string]float64{"<= 0.25": 0.25, ">= 0.98": 0.98} {
		if got, ok := (Row{Goal: goal}).Bound(); !ok || got != want {
			t.Errorf("%q: %v, %v", goal, got, ok)
		}
	}
	for _, goal := range []string{"", "0.98 to 1.02", "soon"} {
		if got, ok := (Row{Goal: goal}).Bound(); ok {
			t.Errorf("%q: %v", goal, got)
		}
	}
}

func TestMarkdownOfRowsByPeer(t *testing.T) {
	f := New("view")
	f.ByPeer = true
	f.Pairs(Row{What: "stat, p50", PeerName: "lxcfs", Unit: "us", Goal: "<= 0.25"}, []float64{1, 1}, []float64{10, 10})
	f.Pairs(Row{What: "stat, p50", PeerName: "C", Unit: "us"}, []float64{1, 1}, []float64{2, 2})
	f.Pairs(Row{What: "stat, CPU", PeerName: "C", Unit: "us", Goal: "<= 0.1"}, []float64{1, 1}, []float64{2, 2})
	plain := New("hooks")
	plain.Against(Row{What: "start", PeerName: "hello", Unit: "ms"}, []float64{3}, 2)

	var b strings.Builder
	if err := Markdown(&b, []*File{plain, f}); err != nil {
		t.Fatal(err)
	}
	const want = `| what | candor | beside | ratio (95 %) | goal | n |
| --- | --- | --- | --- | --- | --- |
| start | 3.00 ms | 2.00 ms (hello) | **1.500** (1.500 to 1.500) |  | 1 |

| what | candor | lxcfs | C | n |
| --- | --- | --- | --- | --- |
| stat, p50 | 1.00 us | 10.00 us: **0.100** (0.100 to 0.100), <= 0.25 met | 2.00 us: **0.500** (0.500 to 0.500) | 2 |
| stat, CPU | 1.00 us |  | 2.00 us: **0.500** (0.500 to 0.500), <= 0.1 not met | 2 |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}

	b.Reset()
	if err := Goals(&b, []*File{plain, f}); err != nil {
		t.Fatal(err)
	}
	const goals = `
Goals: 1 met by the whole interval, 0 by a part of it (open), 1 not met.

- not met: stat, CPU (C): **0.500** (0.500 to 0.500), goal <= 0.1
`
	if b.String() != goals {
		t.Errorf("got\n%s\nwant\n%s", b.String(), goals)
	}
}
