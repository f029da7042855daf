// Command report turns the results of the benchmark's parts into one table, and
// what other programs printed into results:
//
//	report table FILE...                      markdown on stdout, and which goals are met
//	report plot   -o FILE.svg FILE...         the table's ratios, drawn
//	report reads  -how loop|paced -o FILE     <the output of reader
//	report value  -what W -peer P -unit U -o FILE CANDOR PEER
//	report pings  -what W -limit MS -o FILE   <the output of ping
//	report paths  -o FILE                     <the output of packets, round by round
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"candor.dev/candor/bench/result"
	"candor.dev/candor/bench/stats"
)

func main() {
	err := errors.New("usage: report table|plot|reads|value|pings|paths")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "table":
			err = table(os.Args[2:])
		case "plot":
			err = drawing(os.Args[2:])
		case "reads":
			err = reads(os.Args[2:])
		case "value":
			err = value(os.Args[2:])
		case "pings":
			err = pings(os.Args[2:])
		case "paths":
			err = paths(os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func table(paths []string) error {
	files, err := readAll(paths)
	if err != nil {
		return err
	}
	return errors.Join(result.Markdown(os.Stdout, files), result.Goals(os.Stdout, files))
}

func readAll(paths []string) (files []*result.File, err error) {
	for _, path := range paths {
		f, err := result.Read(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// value takes one number of each side.
func value(args []string) error {
	fs := flag.NewFlagSet("value", flag.ExitOnError)
	part := fs.String("part", "", "the part of the benchmark that this is")
	what := fs.String("what", "", "what was measured")
	peer := fs.String("peer", "peer", "the name of the peer")
	unit := fs.String("unit", "", "the unit of both numbers")
	goal := fs.String("goal", "", "what the ratio is to be")
	out := fs.String("o", "", "the file for the result")
	if err := fs.Parse(args); err != nil {
		return err
	}
	candor, err := strconv.ParseFloat(fs.Arg(0), 64)
	if err != nil {
		return fmt.Errorf("candor's value: %w", err)
	}
	theirs, err := strconv.ParseFloat(fs.Arg(1), 64)
	if err != nil {
		return fmt.Errorf("the peer's value: %w", err)
	}
	f := result.New(*part)
	f.Against(result.Row{What: *what, PeerName: *peer, Unit: *unit, Goal: *goal}, []float64{candor}, theirs)
	return f.Write(*out)
}

// pings takes the round trips that ping printed and holds their 99th percentile
// against a bound in milliseconds.
func pings(args []string) error {
	fs := flag.NewFlagSet("pings", flag.ExitOnError)
	what := fs.String("what", "", "what was measured")
	limit := fs.Float64("limit", 0, "the bound of the 99th percentile, ms")
	out := fs.String("o", "", "the file for the result")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var times []float64
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		_, rest, ok := strings.Cut(lines.Text(), "time=")
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return fmt.Errorf("read ping's output: %w", err)
		}
		times = append(times, v)
	}
	if len(times) == 0 {
		return errors.New("ping had no answer")
	}
	p50, p99 := stats.Quantile(times, 0.5), stats.Quantile(times, 0.99)
	f := result.New("limit")
	f.Against(result.Row{What: fmt.Sprintf("%s: p99 (p50 %.1f ms)", *what, p50), PeerName: "the bound", Unit: "ms", Goal: "<= 1"}, []float64{p99}, *limit)
	f.Rows[0].Samples = len(times)
	f.Samples = map[string][]float64{*what: times}
	return f.Write(*out)
}
