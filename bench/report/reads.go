package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"candor.dev/candor/bench/result"
)

// readsSample is what bench/reader prints.
type readsSample struct {
	File     string
	Readers  int
	Server   string
	P50, P99 float64
	Rate     float64
	CPU      *float64
}

// servers are those that candor's is held against.
var servers = []string{"lxcfs", "static", "kernel"}

// serverNames say what they are.
var serverNames = map[string]string{"lxcfs": "lxcfs", "static": "C, static file", "kernel": "the kernel's own"}

// byKernel is the file that candor leaves to the kernel, in a time namespace.
const byKernel = "uptime"

// metric is one figure of a sample; of a paced read there is but one, and neither a
// p99 nor a rate.
type metric struct {
	name, unit string
	paced      bool
	of         func(readsSample) float64
}

var metrics = []metric{
	{"p50", "us", true, func(s readsSample) float64 { return s.P50 }},
	{"p99", "us", false, func(s readsSample) float64 { return s.P99 }},
	{"reads", "per s", false, func(s readsSample) float64 { return s.Rate }},
	{serverCPU, "us", true, func(s readsSample) float64 { return *s.CPU }},
}

const serverCPU = "server CPU"

// readsGoal is what the ratio to the server is to be: of the files that lxcfs renders
// a quarter of its cost, and of a server that renders nothing at all half as much
// again, for one reader in a loop.
func readsGoal(m metric, server, file string, readers int, paced bool) string {
	latency := m.unit == "us" && m.name != serverCPU
	switch {
	case server == "lxcfs" && (latency || m.name == serverCPU) && slices.Contains([]string{"meminfo", "stat", "cpuinfo"}, file):
		return "<= 0.25"
	case server == "static" && latency && readers == 1 && !paced && file != byKernel:
		return "<= 1.5"
	}
	return ""
}

// reads takes the samples of reader: the n-th of each server belong together.
func reads(args []string) error {
	fs := flag.NewFlagSet("reads", flag.ExitOnError)
	how := fs.String("how", "loop", "how the files were read: loop, or paced: each sample is one read, with a pause before it")
	out := fs.String("o", "", "the file for the result")
	if err := fs.Parse(args); err != nil {
		return err
	}
	type kind struct {
		readers int
		file    string
	}
	kinds, samples, err := grouped(os.Stdin, func(s readsSample) (kind, string) { return kind{s.Readers, s.File}, s.Server })
	if err != nil {
		return fmt.Errorf("read the output of reader: %w", err)
	}
	f := result.New("view")
	f.ByPeer = true
	for _, k := range kinds {
		addReads(f, k.file, k.readers, *how == "paced", samples[k])
	}
	if len(f.Rows) == 0 {
		return errors.New("there are no samples of candor beside others")
	}
	return f.Write(*out)
}

func addReads(f *result.File, file string, readers int, paced bool, of map[string][]readsSample) {
	what := file
	if file == byKernel {
		what += " (time namespace)"
	}
	switch {
	case paced:
		what += ", paced"
	case readers == 1:
		what += ", 1 reader"
	default:
		what += fmt.Sprintf(", %d readers", readers)
	}
	for _, m := range metrics {
		if paced && !m.paced || m.name == serverCPU && file == byKernel {
			continue
		}
		for _, server := range servers {
			candor, peer := values(of["candor"], m), values(of[server], m)
			if len(candor) == 0 || len(peer) == 0 {
				continue
			}
			f.Pairs(result.Row{
				What: what + ", " + m.name, PeerName: serverNames[server], Unit: m.unit,
				Goal: readsGoal(m, server, file, readers, paced),
			}, candor, peer)
		}
	}
}

// values are none of a CPU time that nobody measured, as the kernel's.
func values(samples []readsSample, m metric) (values []float64) {
	for _, s := range samples {
		if m.name == serverCPU && s.CPU == nil {
			continue
		}
		values = append(values, m.of(s))
	}
	return values
}
