package result

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Verdict says what a row's interval says of its goal.
type Verdict string

// The verdicts; the empty one is that of a row without a goal.
const (
	Met    Verdict = "met"     // the whole interval keeps to the goal
	Open   Verdict = "open"    // a part of it does: this run does not say
	Missed Verdict = "not met" // none of it does
)

// Verdict compares the goal with the interval and not with the median, which
// another run would have elsewhere.
func (r Row) Verdict() Verdict {
	low, high, ok := r.bounds()
	switch {
	case !ok:
		return ""
	case low <= r.Ratio.Low && r.Ratio.High <= high:
		return Met
	case r.Ratio.High < low || high < r.Ratio.Low:
		return Missed
	}
	return Open
}

// Bound is the number of a goal that has one, such as "<= 1.03".
func (r Row) Bound() (float64, bool) {
	low, high, ok := r.bounds()
	switch {
	case !ok || !math.IsInf(low, 0) && !math.IsInf(high, 0):
		return 0, false
	case math.IsInf(low, 0):
		return high, true
	}
	return low, true
}

// bounds are those between which the goal wants the ratio: "<= 1.03", ">= 0.98",
// "0.98 to 1.02".
func (r Row) bounds() (low, high float64, ok bool) {
	low, high = math.Inf(-1), math.Inf(1)
	var err error
	if text, found := strings.CutPrefix(r.Goal, "<= "); found {
		high, err = strconv.ParseFloat(text, 64)
	} else if text, found := strings.CutPrefix(r.Goal, ">= "); found {
		low, err = strconv.ParseFloat(text, 64)
	} else {
		_, err = fmt.Sscanf(r.Goal, "%g to %g", &low, &high)
	}
	return low, high, err == nil
}

// Goals writes how many goals are met, and by name those that are not.
func Goals(w io.Writer, files []*File) error {
	counts := map[Verdict]int{}
	var b strings.Builder
	for _, f := range files {
		for _, r := range f.Rows {
			v := r.Verdict()
			counts[v]++
			if v == Open || v == Missed {
				fmt.Fprintf(&b, "- %s: %s (%s): %s, goal %s\n", v, r.What, r.PeerName, ratio(r), r.Goal)
			}
		}
	}
	if counts[Met]+counts[Open]+counts[Missed] == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nGoals: %d met by the whole interval, %d by a part of it (open), %d not met.\n\n%s",
		counts[Met], counts[Open], counts[Missed], b.String())
	return err
}
