//go:build amd64

package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/statedir"
)

const caller = "containerd:default"

// stand is a node with NICs and a state directory, made once for many cells: each
// leaves it as it was, or is a failure, after which it is made anew.
type stand struct {
	*testing.T
	programs
	kind kind

	dir, stateDir, config string
	nics                  []hostNIC
	serial                int
	random                *rand.Rand

	// What has to be so again after each container.
	network []string
	left    []string
	// pulled says at which call the first NIC was pulled, "" if it was not.
	pulled string
}

type hostNIC struct{ name, mac string }

func newStand(t *testing.T, p programs, k kind, count int) *stand {
	t.Helper()
	// Short: a state directory's path has a limit, sockets lie in it.
	dir, err := os.MkdirTemp("", "candor-crash-")
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{
		T: t, programs: p, kind: k, random: rand.New(rand.NewPCG(seed(t), 0)),
		dir: dir, stateDir: filepath.Join(dir, "run", "candor"), config: filepath.Join(dir, "config.toml"),
	}
	t.Cleanup(s.close)
	// What systemd makes of /run, and everything below it inherits.
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "run"), 0o700),
		unix.Mount("tmpfs", filepath.Join(dir, "run"), "tmpfs", 0, "mode=0700"),
		unix.Mount("", filepath.Join(dir, "run"), "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	policy := fmt.Sprintf("state_dir = %q\n[pools.wire]\n%s\nallow = [%q]\nsubnets = [%s]\n", s.stateDir, k.pool, caller,
		`"198.18.0.0/24", "198.18.1.0/24", "198.18.2.0/24", "fd00:18::/64", "fd00:19::/64"`)
	if err := os.WriteFile(s.config, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	if k.prepare != nil {
		k.prepare(s, count)
	}
	s.furnish(count)
	return s
}

// seed is that of the places where two programs of one container are killed.
func seed(t *testing.T) uint64 {
	t.Helper()
	given := os.Getenv("CANDOR_CRASH_SEED")
	if given == "" {
		given = fmt.Sprint(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("CANDOR_CRASH_SEED: %v", err)
	}
	t.Logf("CANDOR_CRASH_SEED=%d", n)
	return n
}

// lend has failures be another test's until that ends.
func (s *stand) lend(to *testing.T) {
	owner := s.T
	s.T = to
	to.Cleanup(func() { s.T = owner })
}

func (s *stand) close() {
	for _, n := range s.nics {
		s.remove(n.name) // hardware cannot be removed
	}
	s.remove("low0")
	if err := errors.Join(statedir.Remove(s.stateDir), unix.Unmount(filepath.Join(s.dir, "run"), unix.MNT_DETACH), os.RemoveAll(s.dir)); err != nil {
		s.Error(err)
	}
}

// furnish makes NICs and state directory anew and takes down how the node looks.
func (s *stand) furnish(count int) {
	s.Helper()
	if err := statedir.Remove(s.stateDir); err != nil {
		s.Fatal(err)
	}
	// Addresses that are tentative "before" are not "after"; what neighbours a
	// new interface asks for comes at random moments.
	s.sysctl("ipv6/conf/default/accept_dad", "0")
	s.sysctl("ipv6/conf/default/router_solicitations", "0")
	s.nics, s.pulled = nil, ""
	for i, name := range s.kind.make(s, count) {
		s.dress(i, name)
		address, err := exec.Command("ip", "-br", "link", "show", "dev", name).Output()
		fields := strings.Fields(string(address))
		if err != nil || len(fields) < 3 {
			s.Fatalf("mac of %s: %q, %v", name, address, err)
		}
		s.nics = append(s.nics, hostNIC{name: name, mac: fields[2]})
	}
	s.settle()
	s.network = s.lookAtNetwork()
	// With a first container the state directory comes to life.
	if err := s.take(); err != nil {
		s.Fatal(err)
	}
	s.left = s.lookAtState()
	if d := s.difference(); d != "" {
		s.Fatalf("without any kill the node is not as before:\n%s", d)
	}
}

// settle waits until the kernel has done its part of what the NICs were given.
func (s *stand) settle() {
	s.Helper()
	last := time.Now()
	now := s.lookAtNetwork()
	for end := time.Now().Add(10 * time.Second); time.Since(last) < 100*time.Millisecond; time.Sleep(5 * time.Millisecond) {
		if next := s.lookAtNetwork(); !slices.Equal(next, now) {
			now, last = next, time.Now()
		}
		if time.Now().After(end) {
			s.Fatal("the node's network does not come to rest")
		}
	}
}

func (s *stand) ip(format string, args ...any) {
	s.Helper()
	line := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		s.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// remove removes a link if it is there, with its peer and what sits on it.
func (s *stand) remove(link string) {
	exec.Command("ip", "link", "del", link).Run()
}

func (s *stand) sysctl(path, value string) {
	s.Helper()
	if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
		s.Fatal(err)
	}
}

// lookAtNetwork is the node's network as ip and sysctl show it, in lines whose
// order means nothing: which of two equal routes is listed first depends on which
// came first.
func (s *stand) lookAtNetwork() []string {
	s.Helper()
	cmd := exec.Command("ip", "-details", "-oneline", "-batch", "-")
	cmd.Stdin = strings.NewReader("link show\naddr show\nroute show table all\nrule show\n")
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("ip -batch: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range lines {
		lines[i] = downIsDown(line)
	}
	for i, n := range s.nics {
		if s.pulled != "" && i == 0 {
			continue
		}
		for _, folder := range []string{"ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh"} {
			lines = append(lines, sysctls(filepath.Join("/proc/sys/net", folder, n.name))...)
		}
	}
	slices.Sort(lines)
	return lines
}

// noQdisc is the queue of a link that is down, which nothing can use.
var noQdisc = regexp.MustCompile(`qdisc (noop|noqueue|mq|fq_codel|pfifo_fast) state DOWN`)

// downIsDown takes out of a link's line what says how it came to be down.
func downIsDown(line string) string {
	line = strings.Replace(line, "state LOWERLAYERDOWN", "state DOWN", 1)
	return noQdisc.ReplaceAllString(line, "state DOWN")
}

// sysctls are the settings of a folder. What cannot be read is not set.
func sysctls(folder string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", folder, err)}
	}
	var lines []string
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if value, err := os.ReadFile(path); err == nil {
			lines = append(lines, path+" = "+strings.TrimSpace(string(value)))
		}
	}
	return lines
}

// lookAtState is what lies in the state directory, is mounted there, and is in
// candor's own mount namespace. The allocator's lock, the log and the counts
// come with the first container and stay.
func (s *stand) lookAtState() []string {
	s.Helper()
	var lines []string
	walk := func(root string) error {
		return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && path != s.stateDir+"/lock" && path != s.stateDir+"/candor.log" && !strings.HasPrefix(path, s.stateDir+"/counters.") {
				lines = append(lines, path)
			}
			return err
		})
	}
	if err := walk(s.stateDir); err != nil {
		s.Fatal(err)
	}
	if err := statedir.InMounts(s.stateDir, func() error { return walk("/") }); err != nil {
		s.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// Mount point, options and propagation (proc_pid_mountinfo(5)).
		fields := strings.Fields(line)
		if strings.HasPrefix(fields[4], s.stateDir) {
			end := slices.Index(fields, "-")
			propagation := regexp.MustCompile(`:\d+`).ReplaceAllString(strings.Join(fields[6:end], " "), "")
			lines = append(lines, "mount "+fields[4]+" "+fields[5]+" "+propagation)
		}
	}
	return lines
}

// difference says how the node differs from what it was, "" if it does not. The
// kernel's own part, carriers and link-local addresses, takes a moment.
func (s *stand) difference() string {
	s.Helper()
	var now []string
	before := s.network
	if s.pulled != "" {
		of := regexp.MustCompile(`\b` + regexp.QuoteMeta(s.nics[0].name) + `p?\b`)
		before = slices.DeleteFunc(slices.Clone(before), of.MatchString)
	}
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(3 * time.Millisecond) {
		if now = s.lookAtNetwork(); slices.Equal(now, before) || time.Now().After(end) {
			break
		}
	}
	return compare(before, now) + compare(s.left, s.lookAtState())
}

// pullAt takes the first NIC away, wherever it is by then.
func (s *stand) pullAt(c call) {
	s.Helper()
	s.kind.pull(s)
	s.pulled = fmt.Sprintf(", the NIC pulled at call %s", c)
}

// maxDifference bounds what is printed of a NIC that is lost with all its settings.
const maxDifference = 20

func compare(before, now []string) string {
	var lines []string
	for _, line := range before {
		if !slices.Contains(now, line) {
			lines = append(lines, "  before: "+line+"\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			lines = append(lines, "  now:    "+line+"\n")
		}
	}
	if more := len(lines) - maxDifference; more > 0 {
		lines = append(lines[:maxDifference], fmt.Sprintf("  and %d lines more\n", more))
	}
	return strings.Join(lines, "")
}
