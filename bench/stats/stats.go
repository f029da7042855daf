// Package stats holds the little statistics that the benchmark needs: medians,
// and what they are worth.
package stats

import (
	"math/rand/v2"
	"slices"
)

// resamples of a bootstrap: the ends of a 95 % interval move by less than a
// tenth of its width between two seeds.
const resamples = 4000

// Interval is a median with the interval in which it lies with 95 %
// confidence.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Quantile returns the q-quantile (0 to 1) of the samples, interpolated between
// the two nearest; 0 for none.
func Quantile(samples []float64, q float64) float64 {
	return quantileOfSorted(slices.Sorted(slices.Values(samples)), q)
}

func quantileOfSorted(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	position := q * float64(len(sorted)-1)
	i := int(position)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (position-float64(i))*(sorted[i+1]-sorted[i])
}

// Median returns the median and its 95 % interval by the bootstrap (Efron,
// percentile method). The same samples give the same interval.
func Median(samples []float64) Interval {
	if len(samples) == 0 {
		return Interval{}
	}
	random := rand.New(rand.NewPCG(1, uint64(len(samples))))
	medians := make([]float64, resamples)
	draw := make([]float64, len(samples))
	for i := range medians {
		for j := range draw {
			draw[j] = samples[random.IntN(len(samples))]
		}
		slices.Sort(draw)
		medians[i] = quantileOfSorted(draw, 0.5)
	}
	slices.Sort(medians)
	return Interval{
		Median: Quantile(samples, 0.5),
		Low:    quantileOfSorted(medians, 0.025),
		High:   quantileOfSorted(medians, 0.975),
	}
}

// Ratios returns a[i]/b[i]. Measured in pairs, close together, what disturbs
// the machine disturbs both, and the ratio stands.
func Ratios(a, b []float64) []float64 {
	ratios := make([]float64, 0, min(len(a), len(b)))
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return ratios
}
