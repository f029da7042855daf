// Command pairs runs two commands in turn, many times, and compares their wall
// time and, where cgroups are named, the CPU time used in them.
//
//	pairs [flags] -- CANDOR-COMMAND... --- PEER-COMMAND...
//
// {} in an argument becomes the number of the run. Which of the two comes first
// is drawn anew for every pair.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec" //nolint:depguard // running commands is what this is for; nothing of candor imports it
	"slices"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/bench/cputime"
	"candor.dev/candor/bench/result"
)

type options struct {
	part, what, peer    string
	goal, cpuGoal       string
	out                 string
	pairs, warmup       int
	settle              time.Duration
	cgroups             []string
	candorArgs, peerArg []string
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pairs:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("pairs", flag.ExitOnError)
	fs.StringVar(&o.part, "part", "pairs", "the part of the benchmark that this is")
	fs.StringVar(&o.what, "what", "", "what is measured")
	fs.StringVar(&o.peer, "peer", "peer", "the name of the second command")
	fs.StringVar(&o.goal, "goal", "", "what the ratio of wall times is to be")
	fs.StringVar(&o.cpuGoal, "cpu-goal", "", "what the ratio of CPU times is to be")
	fs.StringVar(&o.out, "o", "", "the file for the result")
	fs.IntVar(&o.pairs, "pairs", 100, "how many pairs")
	fs.IntVar(&o.warmup, "warmup", 3, "pairs before the first that counts")
	fs.DurationVar(&o.settle, "settle", 0, "pause after a command, part of its CPU time but not of its wall time")
	fs.Func("cgroup", "directory of a cgroup whose CPU time counts (repeatable)", func(dir string) error {
		o.cgroups = append(o.cgroups, dir)
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	i := slices.Index(fs.Args(), "---")
	if i <= 0 || i == fs.NArg()-1 || o.out == "" || o.what == "" {
		return o, errors.New("usage: pairs -o FILE -what WHAT [flags] -- COMMAND --- COMMAND")
	}
	o.candorArgs, o.peerArg = fs.Args()[:i], fs.Args()[i+1:]
	return o, nil
}

func run(o options) error {
	candor, peer := &side{args: o.candorArgs}, &side{args: o.peerArg}
	for i := range o.warmup + o.pairs {
		order := []*side{candor, peer}
		if rand.IntN(2) == 0 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if err := s.measure(o, i); err != nil {
				return err
			}
		}
		if i < o.warmup {
			candor.forget()
			peer.forget()
		}
	}
	f := result.New(o.part)
	f.Pairs(result.Row{What: o.what + ", wall", PeerName: o.peer, Unit: "ms", Goal: o.goal}, candor.wall, peer.wall)
	if len(o.cgroups) > 0 {
		f.Pairs(result.Row{What: o.what + ", CPU", PeerName: o.peer, Unit: "ms", Goal: o.cpuGoal}, candor.cpu, peer.cpu)
	}
	return f.Write(o.out)
}

// side is one of the two commands with its samples, in milliseconds.
type side struct {
	args      []string
	wall, cpu []float64
}

func (s *side) forget() { s.wall, s.cpu = nil, nil }

func (s *side) measure(o options, n int) error {
	args := make([]string, len(s.args))
	for i, a := range s.args {
		args[i] = strings.ReplaceAll(a, "{}", strconv.Itoa(n))
	}
	before, err := cputime.Of(o.cgroups...)
	if err != nil {
		return err
	}
	var output bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err = cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output.Bytes()))
	}
	time.Sleep(o.settle)
	after, err := cputime.Of(o.cgroups...)
	if err != nil {
		return err
	}
	s.wall = append(s.wall, milliseconds(wall))
	s.cpu = append(s.cpu, milliseconds(after-before))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
