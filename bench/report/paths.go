package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"candor.dev/candor/bench/result"
)

// packetsSample is what bench/packets prints.
type packetsSample struct {
	Path    string
	Senders int
	Payload string
	Rate    float64
	CPU     float64
}

// ways are the packets' ways that candor's is held against, and what is to come of
// it. Of several containers each has a macvlan of the NIC: that is the same NIC as on
// the host, and the NIC itself is not.
var ways = []struct {
	path, name    string
	senders       int // 0 is any number
	rate, cpuGoal string
}{
	{path: "host", name: "the NIC on the host", senders: 1, rate: ">= 0.98", cpuGoal: "<= 1.02"},
	{path: "macvlan", name: "the macvlans on the host", rate: ">= 0.98", cpuGoal: "<= 1.02"},
	{path: "host", name: "the NIC on the host"},
	{path: "nat", name: "bridge + NAT", rate: ">= 1", cpuGoal: "<= 1"},
	{path: "vxlan", name: "VXLAN", rate: ">= 1", cpuGoal: "<= 1"},
}

// paths takes the samples of packets: the n-th of each path belong together.
func paths(args []string) error {
	fs := flag.NewFlagSet("paths", flag.ExitOnError)
	out := fs.String("o", "", "the file for the result")
	if err := fs.Parse(args); err != nil {
		return err
	}
	type kind struct {
		senders int
		payload string
	}
	kinds, samples, err := grouped(os.Stdin, func(s packetsSample) (kind, string) { return kind{s.Senders, s.Payload}, s.Path })
	if err != nil {
		return fmt.Errorf("read the output of packets: %w", err)
	}
	slices.SortStableFunc(kinds, func(a, b kind) int { return a.senders - b.senders })
	f := result.New("rate")
	for _, k := range kinds {
		addPaths(f, k.senders, k.payload, samples[k])
	}
	if len(f.Rows) == 0 {
		return errors.New("there are no samples of candor beside others")
	}
	return f.Write(*out)
}

func addPaths(f *result.File, senders int, payload string, of map[string][]packetsSample) {
	what, unit, cpuUnit, scale := payload+" byte packets", "kpps", "ns per packet", 1e-3
	if payload == "bulk" {
		what, unit, cpuUnit, scale = "TCP", "Gbit/s", "ms per Gbit", 1
	}
	containers := "1 container"
	if senders > 1 {
		containers = fmt.Sprintf("%d containers", senders)
	}
	what = containers + ", " + what
	field := func(path string, get func(packetsSample) float64) (values []float64) {
		for _, s := range of[path] {
			values = append(values, get(s))
		}
		return values
	}
	rate := func(s packetsSample) float64 { return s.Rate * scale }
	cpu := func(s packetsSample) float64 { return s.CPU }
	seen := map[string]bool{"candor": true}
	for _, w := range ways {
		if seen[w.path] || w.senders != 0 && w.senders != senders || len(of[w.path]) == 0 {
			continue
		}
		seen[w.path] = true
		f.Pairs(result.Row{What: what + ", rate", PeerName: w.name, Unit: unit, Goal: w.rate}, field("candor", rate), field(w.path, rate))
		f.Pairs(result.Row{What: what + ", CPU", PeerName: w.name, Unit: cpuUnit, Goal: w.cpuGoal}, field("candor", cpu), field(w.path, cpu))
	}
}
