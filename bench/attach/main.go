// Command attach moves a NIC into a network namespace and back, many times, in turn
// with candor's hooks and with a CNI plugin, called as a runtime calls them. It runs
// in the host's network namespace and reads a plan as JSON (see plan).
//
// Every command has its wall time taken, and the CPU time of itself and of what it
// ran. Nothing else is on the clock: neither the container's process, nor putting the
// NIC back as it was for whichever comes next.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec" //nolint:depguard // running commands is what this is for; nothing of candor imports it
	"slices"
	"strings"
	"time"

	"candor.dev/candor/bench/result"
)

// plan says what is measured.
type plan struct {
	Part string `json:"part"`
	What string `json:"what"` // as in "attach of WHAT"
	Peer string `json:"peer"`
	Goal string `json:"goal"`
	Out  string `json:"out"`

	Pairs  int `json:"pairs"`
	Warmup int `json:"warmup"`
	// Settle, in ms, is a pause before every command: the kernel ends a namespace
	// in a queue of its own, and who made it shall not leave that to the next.
	Settle int `json:"settle"`

	// Inside is the file of the container's network namespace.
	Inside string `json:"inside"`
	// Before is a command that makes the NIC what the host has; none where both
	// sides leave it so.
	Before []string `json:"before"`

	// Attach and GiveBack are candor's hooks with their arguments. They get the
	// state of a container with this bundle.
	Attach   []string `json:"attach"`
	GiveBack []string `json:"give_back"`
	Bundle   string   `json:"bundle"`

	// Plugin is the CNI plugin, Plugins the folder with its IPAM plugin, Config
	// what it reads.
	Plugin  string          `json:"plugin"`
	Plugins string          `json:"plugins"`
	Config  json.RawMessage `json:"config"`
}

func main() {
	var p plan
	err := json.NewDecoder(os.Stdin).Decode(&p)
	if err == nil {
		err = p.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "attach:", err)
		os.Exit(1)
	}
}

func (p *plan) run() error {
	candor, peer := &side{turn: p.candor}, &side{turn: p.peer}
	for i := range p.Warmup + p.Pairs {
		order := []*side{candor, peer}
		if rand.IntN(2) == 0 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if len(p.Before) > 0 {
				if err := p.command(p.Before, nil, nil, nil); err != nil {
					return err
				}
			}
			if err := s.turn(&s.times, fmt.Sprintf("bench-%d", i)); err != nil {
				return err
			}
		}
		if i < p.Warmup {
			candor.times, peer.times = times{}, times{}
		}
	}
	f := result.New(p.Part)
	for _, r := range []struct {
		what        string
		mine, other *measured
	}{
		{"attach of " + p.What, &candor.attach, &peer.attach},
		{"give-back of " + p.What, &candor.giveBack, &peer.giveBack},
	} {
		f.Pairs(result.Row{What: r.what + ", wall", PeerName: p.Peer, Unit: "ms", Goal: p.Goal}, r.mine.wall, r.other.wall)
		f.Pairs(result.Row{What: r.what + ", CPU", PeerName: p.Peer, Unit: "ms", Goal: p.Goal}, r.mine.cpu, r.other.cpu)
	}
	return f.Write(p.Out)
}

// side is one of the two.
type side struct {
	turn func(*times, string) error
	times
}

type times struct{ attach, giveBack measured }

// measured are the samples of one command, in ms.
type measured struct{ wall, cpu []float64 }

// candor lets the hooks do it, for a container that lives in between.
func (p *plan) candor(t *times, id string) (err error) {
	process, err := p.start()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end(process))
		}
	}()
	state := func(status string, pid int) ([]byte, error) {
		return json.Marshal(map[string]any{"ociVersion": "1.2.0", "id": id, "status": status, "pid": pid, "bundle": p.Bundle})
	}
	creating, err := state("creating", process.Process.Pid)
	if err != nil {
		return err
	}
	if err := p.command(p.Attach, nil, creating, &t.attach); err != nil {
		return err
	}
	if err := end(process); err != nil {
		return err
	}
	stopped, err := state("stopped", 0)
	if err != nil {
		return err
	}
	return p.command(p.GiveBack, nil, stopped, &t.giveBack)
}

// start starts a container's process.
func (p *plan) start() (*exec.Cmd, error) {
	cmd := exec.Command("nsenter", "--net="+p.Inside, "--", "sleep", "600")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	want, err := os.Stat(p.Inside)
	if err != nil {
		return nil, errors.Join(err, end(cmd))
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		is, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		if err == nil && os.SameFile(is, want) {
			return cmd, nil
		}
		if time.Now().After(until) {
			return nil, errors.Join(errors.New("the container's process does not enter its network namespace"), end(cmd))
		}
	}
}

// end kills a container's process. That it had to be is no error.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	var killed *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &killed) {
		return err
	}
	return nil
}

// peer lets the plugin do it (CNI specification 1.1, section 2).
func (p *plan) peer(t *times, id string) error {
	env := []string{"CNI_CONTAINERID=" + id, "CNI_NETNS=" + p.Inside, "CNI_IFNAME=net0", "CNI_PATH=" + p.Plugins}
	if err := p.command([]string{p.Plugin}, append(env, "CNI_COMMAND=ADD"), p.Config, &t.attach); err != nil {
		return err
	}
	return p.command([]string{p.Plugin}, append(env, "CNI_COMMAND=DEL"), p.Config, &t.giveBack)
}

// command runs a command, and takes its times where there is something to keep them.
func (p *plan) command(args, env []string, stdin []byte, m *measured) error {
	var output bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &output, &output
	if m != nil {
		time.Sleep(time.Duration(p.Settle) * time.Millisecond)
	}
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", strings.Join(args, " "), strings.Join(env, " "), err, bytes.TrimSpace(output.Bytes()))
	}
	if m != nil {
		// wait4 adds the children that the process has waited for.
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		m.wall, m.cpu = append(m.wall, milliseconds(wall)), append(m.cpu, milliseconds(cpu))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
