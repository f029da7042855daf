// Package result is the form in which every part of the benchmark leaves what
// it measured: rows for the table, and the samples behind them.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"candor.dev/candor/bench/stats"
)

// Row is one line of the table: candor beside what it is measured against.
type Row struct {
	What string `json:"what"`
	// Candor and Peer are medians in Unit. Peer is the promised value where
	// a promise is measured.
	Candor float64 `json:"candor"`
	Peer   float64 `json:"peer"`
	// PeerName says what Peer is, such as io.containerd.runc.v2.
	PeerName string `json:"peer_name"`
	Unit     string `json:"unit"`
	// Ratio is candor to peer, the median over pairs.
	Ratio   stats.Interval `json:"ratio"`
	Samples int            `json:"samples"`
	// Goal is what the ratio is to be, as text.
	Goal string `json:"goal,omitempty"`
}

// File is what one part leaves.
type File struct {
	Part string    `json:"part"`
	Time time.Time `json:"time"`
	Rows []Row     `json:"rows"`
	// ByPeer makes rows of the same What one line of table and plot: candor
	// beside several peers.
	ByPeer bool `json:"by_peer,omitempty"`
	// Samples are the raw measurements by row and side.
	Samples map[string][]float64 `json:"samples,omitempty"`
}

// New returns an empty result.
func New(part string) *File {
	return &File{Part: part, Time: time.Now().UTC().Truncate(time.Second), Samples: map[string][]float64{}}
}

// Pairs adds a row from samples that were measured in pairs.
func (f *File) Pairs(row Row, candor, peer []float64) {
	row.Candor, row.Peer = stats.Quantile(candor, 0.5), stats.Quantile(peer, 0.5)
	row.Ratio = stats.Median(stats.Ratios(candor, peer))
	row.Samples = min(len(candor), len(peer))
	f.Rows = append(f.Rows, row)
	f.Samples[row.What+" candor"], f.Samples[row.What+" "+row.PeerName] = candor, peer
}

// Against adds a row from samples that are held against one value.
func (f *File) Against(row Row, candor []float64, value float64) {
	row.Candor, row.Peer = stats.Quantile(candor, 0.5), value
	ratios := make([]float64, len(candor))
	for i := range candor {
		ratios[i] = candor[i] / value
	}
	row.Ratio = stats.Median(ratios)
	row.Samples = len(candor)
	f.Rows = append(f.Rows, row)
	f.Samples[row.What+" candor"] = candor
}

// Write writes the result as JSON to path.
func (f *File) Write(path string) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// Read reads what Write wrote.
func Read(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	f := &File{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("read result %s: %w", path, err)
	}
	return f, nil
}
