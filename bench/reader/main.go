// Command reader reads files inside a container from several servers in turn, by one
// process or by several at once, and prints a line of JSON for each turn: how long an
// open, read to the end and close took, reads per second, CPU time of the server:
//
//	reader -rounds 20 -burst 50ms -readers 1,2,8 \
//	       -server candor=/proc,/account/candor -server kernel=/kernel meminfo stat
//
// A server is the directory of its files and, where its CPU time is asked for, its
// cgroup. Which comes first is drawn anew for each file of a round. Without -burst
// each turn is one read, and with -pause nobody asks before it for so long that no
// server can reuse an answer.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/bench/cputime"
	"candor.dev/candor/bench/stats"
)

// Sample is one turn.
type Sample struct {
	File    string `json:"file"`
	Readers int    `json:"readers"`
	Server  string `json:"server"`
	// P50 and P99 are latencies in us.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	// Rate is in reads per second.
	Rate float64 `json:"rate"`
	// CPU is the server's CPU time per read, in us; nil where it has no cgroup.
	CPU *float64 `json:"cpu,omitempty"`
}

// settle is how long a server is left to end what the last close(2), for which
// nobody waits, has it do.
const settle = 3 * time.Millisecond

type server struct{ name, dir, cgroup string }

type options struct {
	rounds       int
	burst, pause time.Duration
	readers      []int
	servers      []server
	files        []string
}

func main() {
	var err error
	if len(os.Args) == 2 && os.Args[1] == childCommand {
		err = child()
	} else {
		err = measure(parse())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func parse() options {
	o := options{readers: []int{1}}
	flag.IntVar(&o.rounds, "rounds", 20, "how often each server has its turn with each file")
	flag.DurationVar(&o.burst, "burst", 0, "how long a turn takes; 0 is one read")
	flag.DurationVar(&o.pause, "pause", 0, "pause before each turn")
	flag.Func("readers", "how many read at once, such as 1,2,8", func(text string) error {
		o.readers = nil
		for field := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(field)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number of readers", field)
			}
			o.readers = append(o.readers, n)
		}
		return nil
	})
	flag.Func("server", "NAME=DIRECTORY[,CGROUP] (repeatable)", func(text string) error {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("not NAME=DIRECTORY[,CGROUP]")
		}
		dir, cgroup, _ := strings.Cut(rest, ",")
		o.servers = append(o.servers, server{name, dir, cgroup})
		return nil
	})
	flag.Parse()
	o.files = flag.Args()
	return o
}

// measure has all turns, and one round before that is not printed.
func measure(o options) error {
	children, err := start(maximum(o.readers))
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for round := range o.rounds + 1 {
		for _, readers := range o.readers {
			for _, file := range o.files {
				for _, i := range rand.Perm(len(o.servers)) {
					time.Sleep(o.pause)
					sample, err := turn(children[:readers], o.servers[i], file, o.burst)
					if err != nil {
						return err
					}
					if round == 0 {
						continue
					}
					if err := out.Encode(sample); err != nil {
						return fmt.Errorf("print a sample: %w", err)
					}
				}
			}
		}
	}
	return stop(children)
}

func maximum(numbers []int) (most int) {
	for _, n := range numbers {
		most = max(most, n)
	}
	return most
}

// turn has the children read one file at the same time.
func turn(children []*process, s server, file string, burst time.Duration) (Sample, error) {
	before, err := s.cpuTime()
	if err != nil {
		return Sample{}, err
	}
	o := order{Path: filepath.Join(s.dir, file), Start: time.Now().Add(startIn), Burst: burst}
	for _, c := range children {
		if err := c.orders.Encode(o); err != nil {
			return Sample{}, fmt.Errorf("tell a reader: %w", err)
		}
	}
	sample := Sample{File: file, Readers: len(children), Server: s.name}
	var latencies []float64
	for _, c := range children {
		var a answer
		if err := c.answers.Decode(&a); err != nil {
			return Sample{}, fmt.Errorf("ask a reader: %w", err)
		}
		if a.Error != "" {
			return Sample{}, errors.New(a.Error)
		}
		sample.Rate += float64(len(a.Microseconds)) / a.Took.Seconds()
		latencies = append(latencies, a.Microseconds...)
	}
	time.Sleep(settle)
	after, err := s.cpuTime()
	if err != nil {
		return Sample{}, err
	}
	sample.P50, sample.P99 = stats.Quantile(latencies, 0.5), stats.Quantile(latencies, 0.99)
	if s.cgroup != "" {
		us := float64(after-before) / float64(time.Microsecond) / float64(len(latencies))
		sample.CPU = &us
	}
	return sample, nil
}

func (s server) cpuTime() (time.Duration, error) {
	if s.cgroup == "" {
		return 0, nil
	}
	return cputime.Of(s.cgroup)
}
