package main

import (
	"encoding/json"
	"errors"
	"io"
)

// grouped reads samples, one JSON object after the other, and groups them by their
// kind, in the order in which each kind came first, and by whose they are.
func grouped[Sample any, Kind comparable](r io.Reader, of func(Sample) (Kind, string)) (kinds []Kind, samples map[Kind]map[string][]Sample, err error) {
	samples = map[Kind]map[string][]Sample{}
	for lines := json.NewDecoder(r); ; {
		var s Sample
		err := lines.Decode(&s)
		if errors.Is(err, io.EOF) {
			return kinds, samples, nil
		}
		if err != nil {
			return nil, nil, err
		}
		kind, whose := of(s)
		if samples[kind] == nil {
			kinds, samples[kind] = append(kinds, kind), map[string][]Sample{}
		}
		samples[kind][whose] = append(samples[kind][whose], s)
	}
}
