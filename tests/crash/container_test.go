//go:build amd64

package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"candor.dev/candor/ledger"
)

// container is an init with a network namespace of its own, and a bundle: what
// the hooks need of one.
type container struct {
	id, bundle string
	init       *exec.Cmd
	// history is what was killed on the container's way before the cell began.
	history string
}

// start starts the next container. Each has an id of its own, so that what one
// leaves behind is not cleared away by the next.
func (s *stand) start(nics string) *container {
	s.Helper()
	s.serial++
	c := &container{id: fmt.Sprintf("c%d", s.serial), bundle: filepath.Join(s.dir, "bundle")}
	spec, err := json.Marshal(map[string]any{"annotations": map[string]string{
		"candor.dev/nics": nics, "candor.dev/egress-limit": "50M",
	}})
	if err != nil {
		s.Fatal(err)
	}
	if err := os.MkdirAll(c.bundle, 0o700); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), spec, 0o600); err != nil {
		s.Fatal(err)
	}
	c.init = exec.Command("sleep", "600")
	c.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.init.Start(); err != nil {
		s.Fatal(err)
	}
	return c
}

// die kills the container's init. Its namespace dies with it unless it is pinned.
func (c *container) die() {
	c.init.Process.Kill()
	c.init.Wait() // that it was killed is its error
}

// state is the state JSON that a runtime writes.
func (c *container) state(pid int) string {
	return fmt.Sprintf(`{"ociVersion":"1.2.0","id":%q,"status":"stopped","bundle":%q,"pid":%d}`, c.id, c.bundle, pid)
}

func (s *stand) attachOf(c *container) program {
	return program{args: []string{s.attach, "--config", s.config, "--caller", caller}, stdin: c.state(c.init.Process.Pid)}
}

func (s *stand) poststopOf(c *container) program {
	return program{args: []string{s.poststop, "--config", s.config}, stdin: c.state(0)}
}

func (s *stand) gc() program {
	return program{args: []string{s.candor, "--config", s.config, "gc"}}
}

// do runs a program that nobody kills.
func (p program) do() error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdin = strings.NewReader(p.stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(p.args[0]), err, out)
	}
	return nil
}

// take has another container take the NICs and give them back.
func (s *stand) take() error {
	s.Helper()
	c := s.start(s.asked(false))
	defer c.die()
	if err := s.attachOf(c).do(); err != nil {
		return err
	}
	c.die()
	return s.poststopOf(c).do()
}

// attached starts a container that has its NICs and has done with the first what
// a container with CAP_NET_ADMIN can do, and dies.
func (s *stand) attached() *container {
	s.Helper()
	c := s.start(s.asked(false))
	defer c.die()
	if err := s.attachOf(c).do(); err != nil {
		s.Fatal(err)
	}
	ip := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", c.init.Process.Pid), "ip", "-batch", "-")
	ip.Stdin = strings.NewReader(`
		link set wire0 down
		link set wire0 name mine alias mine ` + s.kind.mac + ` mtu 1290 txqueuelen 5 gso_max_size 16384 arp off promisc on group 7
		link property add dev mine altname theirs
		link set mine up
		addr add 203.0.113.1/24 dev mine
	` + s.kind.upper + "\n")
	if out, err := ip.CombinedOutput(); err != nil {
		s.Fatalf("ip in the container: %v: %s", err, out)
	}
	return c
}

// cutAttach starts a container whose attach was killed at some call, and dies.
func (s *stand) cutAttach() *container {
	s.Helper()
	c := s.start(s.asked(false))
	defer c.die()
	s.cutSomewhere(c, s.attachOf(c))
	return c
}

// cutPoststop has the poststop of a container that had its NICs killed at some call.
func (s *stand) cutPoststop() *container {
	s.Helper()
	c := s.attached()
	s.cutSomewhere(c, s.poststopOf(c))
	return c
}

func (s *stand) cutSomewhere(c *container, p program) {
	s.Helper()
	at, m := 1+s.random.IntN(60*len(s.nics)), atEntry+moment(s.random.IntN(2))
	done, err := trace(p, false, s.plain(c), func(c call) moment {
		if c.number == at {
			return m
		}
		return never
	})
	if err != nil {
		s.Fatal(err)
	}
	c.history = fmt.Sprintf(" after %s %s", filepath.Base(p.args[0]), done.where())
}

var (
	transient = regexp.MustCompile(`cdr[0-9a-f]{10}`)
	temporary = regexp.MustCompile(`\.tmp-\d+`)
	numbered  = regexp.MustCompile(`(/proc/|/task/|:\[)\d+`)
	inside    = regexp.MustCompile(`\bwire\d\b`)
)

// plain takes out of a call's object what differs from run to run, and from NIC
// to NIC.
func (s *stand) plain(c *container) func(string) string {
	key := ledger.Key(c.id, c.bundle)
	return func(what string) string {
		what = strings.NewReplacer(s.stateDir, "STATE", key, "KEY").Replace(what)
		what = transient.ReplaceAllString(what, "TRANSIENT")
		what = temporary.ReplaceAllString(what, ".tmp-N")
		what = numbered.ReplaceAllString(what, "${1}N")
		what = inside.ReplaceAllString(what, "INTERFACE")
		for _, n := range s.nics {
			what = regexp.MustCompile(`\b`+regexp.QuoteMeta(n.name)+`\b`).ReplaceAllString(what, "NIC")
		}
		return what
	}
}
