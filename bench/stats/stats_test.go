package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		samples []float64
		q, want float64
	}{
		{nil, 0.5, 0},
		{[]float64{3}, 0.99, 3},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{5, 1, 3}, 0.5, 3},
		{[]float64{0, 10}, 0.99, 9.9},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := Quantile(tt.samples, tt.q); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("Quantile(%v, %v) = %v, want %v", tt.samples, tt.q, got, tt.want)
		}
	}
}

func TestMedianIntervalHoldsTheTruthAndShrinks(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	width := math.Inf(1)
	for _, n := range []int{10, 100, 1000} {
		samples := make([]float64, n)
		for i := range samples {
			samples[i] = 100 + 10*random.NormFloat64()
		}
		m := Median(samples)
		if m.Low > m.Median || m.Median > m.High || m.Low > 101 || m.High < 99 {
			t.Errorf("%d samples around 100: %+v", n, m)
		}
		if m.High-m.Low >= width {
			t.Errorf("%d samples: the interval is no narrower than with fewer: %+v", n, m)
		}
		width = m.High - m.Low
		if again := Median(samples); again != m {
			t.Errorf("the same samples gave %+v and %+v", m, again)
		}
	}
}

func TestRatiosLeaveOutWhatCannotBeDivided(t *testing.T) {
	got := Ratios([]float64{2, 3, 4}, []float64{1, 0})
	if len(got) != 1 || got[0] != 2 {
		t.Errorf("got %v", got)
	}
}
