package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
	"candor.dev/candor/tests/testnode"
	"golang.org/x/sys/unix"
)

// The test binary is candord when it is called so. Else it runs in a network
// namespace of its own, which is "the node".
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "candord" {
		os.Exit(daemon.Main(os.Args[1:], candord(), os.Stdout, os.Stderr))
	}
	testnode.Main(m)
}

func candord() daemon.Parts {
	return daemon.Parts{
		StateDir: func(string) (string, error) { return "", errors.New("the tests give --state-dir") },
		Log:      func(string, string) *slog.Logger { return slog.New(slog.DiscardHandler) },
		Worker: func(stateDir, _ string, log *slog.Logger) (resview.OpenFunc, []func(context.Context) error, error) {
			node, err := lifecycle.OpenNode(stateDir, log)
			if err != nil {
				return nil, nil, err
			}
			open := func(ledger.View) (resview.Container, error) { return nil, errors.New("the tests have no contents") }
			return open, []func(context.Context) error{node.Reconcile}, nil
		},
		Metrics: Task,
	}
}

// lab is a node with a policy that others may write.
type lab struct {
	*testing.T
	dir, config string
	node        *lifecycle.Node
}

const (
	mac1 = "52:54:00:00:00:01"
	mac2 = "52:54:00:00:00:02"
)

const pools = `[pools.cloud]
kind    = "hostnic"
macs    = ["52:54:*"]
subnets = ["198.18.0.0/24"]
allow   = ["containerd:*"]
[pools.fast]
kind = "vf"
pfs  = ["ens1f0"]
`

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts need root")
	}
	top := t.TempDir()
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, dir: filepath.Join(top, "state"), config: filepath.Join(top, "config.toml")}
	l.write(pools)
	node, err := lifecycle.OpenNode(l.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.node = node
	t.Cleanup(func() {
		if err := statedir.Remove(l.dir); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) write(config string) {
	l.Helper()
	if err := os.WriteFile(l.config, []byte(config), 0o644); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) policy() *policy.Policy {
	l.Helper()
	p, err := policy.Load(l.config)
	if err != nil {
		l.Fatal(err)
	}
	return p
}

func (l *lab) addNIC(name, mac string) {
	l.Helper()
	for _, args := range []string{"link add " + name + " address " + mac + " type veth peer name " + name + "p address 02:00:00:00:00:01", "link set " + name + "p up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			l.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	l.Cleanup(func() { exec.Command("ip", "link", "del", name+"p").Run() })
}

// run starts a container that asks for a NIC and a limit, and has it attached.
func (l *lab) run(id, nic string) (c lifecycle.Container, kill func(), err error) {
	l.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	l.Cleanup(kill)
	c = lifecycle.Container{ID: id, Bundle: l.TempDir(), PID: cmd.Process.Pid}
	c.Spec.Annotations = map[string]string{request.KeyNIC: nic, request.KeyEgressLimit: "50M"}
	return c, kill, l.node.AttachNetwork(l.Context(), c, l.policy(), "containerd:default")
}

// get asks over the socket, like curl --unix-socket.
func (l *lab) get(path string) (int, string, error) {
	l.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			dir, err := os.Open(l.dir) // whose path may be too long for a socket's address
			if err != nil {
				return nil, err
			}
			defer dir.Close()
			return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName))
		},
	}}
	answer, err := client.Get("http://candor" + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b), err
}

// scrape waits until somebody answers.
func (l *lab) scrape() string {
	l.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		code, text, err := l.get("/metrics")
		if err == nil && code == http.StatusOK {
			return text
		}
		if time.Now().After(end) {
			l.Fatalf("scrape: %d, %v: %s", code, err, text)
		}
	}
}

func (l *lab) want(text string, lines ...string) {
	l.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			l.Errorf("no line %q in\n%s", line, text)
		}
	}
}

// serve serves in this process until the test ends.
func (l *lab) serve() {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	status := func() daemon.Status {
		return daemon.Status{Generation: 3, Requests: 70, Replayed: 2, FuseMounted: true}
	}
	go func() { done <- Task(l.dir, l.config, slog.New(slog.DiscardHandler))(ctx, status) }()
	l.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.Error(err)
		}
	})
}

func TestScrapeShowsWhatTheNodeHoldsAndCounted(t *testing.T) {
	l := newLab(t)
	l.addNIC("ens5", mac1)
	l.addNIC("ens6", mac2)
	l.serve()
	l.want(l.scrape(), "candor_containers 0", `candor_nics_free{pool="cloud"} 2`, `candor_nics_attached{kind="hostnic",pool="cloud"} 0`,
		`candor_nics_attached{kind="vf",pool="fast"} 0`, "candor_give_back_seconds_count 0", "candor_policy_usable 1",
		"candor_worker_generation 3", "candor_view_requests_total 70", "candor_view_requests_replayed_total 2", "candor_view_served 1")

	c, kill, err := l.run("c1", "pool=cloud,mac="+mac1+",ip=198.18.0.5/24")
	if err != nil {
		t.Fatal(err)
	}
	// Refused: held, not there, not granted, not understood.
	for _, nic := range []string{"pool=cloud,mac=" + mac1 + ",ip=198.18.0.6/24", "pool=cloud,mac=52:54:00:00:00:99,ip=198.18.0.6/24", "pool=fast,mac=" + mac2, "pool=cloud,mac=x"} {
		if _, _, err := l.run("c2", nic); err == nil {
			t.Errorf("%s was attached", nic)
		}
	}
	text := l.scrape()
	l.want(text, "candor_containers 1", `candor_nics_free{pool="cloud"} 1`, `candor_nics_attached{kind="hostnic",pool="cloud"} 1`,
		`candor_failures_total{operation="attach",reason="held"} 1`, `candor_failures_total{operation="attach",reason="not_found"} 1`,
		`candor_failures_total{operation="attach",reason="denied"} 1`, `candor_failures_total{operation="attach",reason="request"} 1`)
	l.want(text, `candor_nics_free{pool="fast"} 0`, `candor_nic_dropped_packets_total{device="ens5",pool="cloud"} 0`)
	if !strings.Contains(text, `candor_nic_bytes_total{device="ens5",direction="out",pool="cloud"} `) {
		t.Errorf("no bytes of ens5 in\n%s", text)
	}
	limit := fmt.Sprintf(`{container="c1",device="net0",key=%q}`, ledger.Key(c.ID, c.Bundle))
	l.want(text, "candor_egress_limit_bits"+limit+" 5e+07", "candor_egress_dropped_packets_total"+limit+" 0", "candor_egress_backlog_bytes"+limit+" 0")
	if !strings.Contains(text, "candor_egress_bytes_total"+limit) || !strings.Contains(text, "candor_egress_packets_total"+limit) {
		t.Errorf("no bytes of the limit in\n%s", text)
	}
	kill()
	if err := l.node.GiveBack(t.Context(), ledger.Key(c.ID, c.Bundle)); err != nil {
		t.Fatal(err)
	}
	l.want(l.scrape(), "candor_containers 0", `candor_nics_free{pool="cloud"} 2`, "candor_give_back_seconds_count 1", `candor_give_back_seconds_bucket{le="+Inf"} 1`)

	// Nothing else is served.
	if code, _, err := l.get("/"); err != nil || code != http.StatusNotFound {
		t.Errorf("/: %d, %v", code, err)
	}
	if st, err := os.Stat(filepath.Join(l.dir, socketName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", st.Mode(), err)
	}
}

func TestWhatIsBrokenIsShown(t *testing.T) {
	l := newLab(t)
	for name, content := range map[string]string{"cut-1.json": "{", "newer-1.json": `{"version": 99}`} {
		if err := os.WriteFile(filepath.Join(l.dir, "ledger", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.write("nonsense")
	l.serve()
	text := l.scrape()
	l.want(text, "candor_policy_usable 0", "candor_records_unreadable 2", "candor_containers 0")
	if strings.Contains(text, "candor_nics_free{") {
		t.Error("a broken policy has free NICs")
	}
}

func TestTCPFollowsThePolicy(t *testing.T) {
	l := newLab(t)
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	tcp := tcpListener{source: source{node: l.node, configPath: l.config, log: slog.New(slog.DiscardHandler)}, server: server}
	answers := func(at string) bool {
		answer, err := http.Get("http://" + at + "/")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return true
	}
	for _, step := range []struct {
		what, config         string
		at9464, at9465, told bool
	}{
		{"says nothing", pools, false, false, false},
		{"says where", pools + "[metrics]\nlisten = '127.0.0.1:9464'\n", true, false, false},
		{"is broken", "nonsense", true, false, false},
		{"says another port", "[metrics]\nlisten = '127.0.0.1:9465'\n", false, true, false},
		{"says an address that is not ours", "[metrics]\nlisten = '198.51.100.1:9464'\n", false, false, true},
		{"says where again", "[metrics]\nlisten = '127.0.0.1:9464'\n", true, false, false},
		{"says nothing again", "", false, false, false},
	} {
		l.write(step.config)
		tcp.follow()
		if answers("127.0.0.1:9464") != step.at9464 || answers("127.0.0.1:9465") != step.at9465 || (tcp.told != "") != step.told {
			t.Errorf("where the policy %s: 9464 %v, 9465 %v, %q", step.what, answers("127.0.0.1:9464"), answers("127.0.0.1:9465"), tcp.told)
		}
	}
	if err := errors.Join(tcp.close(), server.Close()); err != nil {
		t.Error(err)
	}
}

// A worker that is killed loses no count, and its successor answers.
func TestCountsOutliveTheWorker(t *testing.T) {
	l := newLab(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	cmd := exec.Command("/proc/self/exe", "--state-dir", l.dir, "--config", l.config)
	cmd.Args[0] = "candord"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	l.addNIC("ens5", mac1)
	_, kill, err := l.run("c1", "pool=cloud,mac="+mac1+",ip=198.18.0.5/24")
	if err != nil {
		t.Fatal(err)
	}
	kill() // and nobody calls poststop: the reconciler gives back, and counts
	for end := time.Now().Add(10 * time.Second); !strings.Contains(l.scrape(), "candor_give_back_seconds_count 1\n"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the reconciler has not counted:\n%s", l.scrape())
		}
	}
	if err := counters.Failed(l.dir, counters.View, counters.Daemon); err != nil {
		t.Fatal(err)
	}
	for generation := 2; generation <= 3; generation++ {
		status, err := daemon.Ping(t.Context(), l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(status.WorkerPID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next := fmt.Sprintf("candor_worker_generation %d\n", generation)
		for end := time.Now().Add(10 * time.Second); !strings.Contains(l.scrape(), next); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no worker of generation %d answers", generation)
			}
		}
		l.want(l.scrape(), "candor_give_back_seconds_count 1", `candor_failures_total{operation="view",reason="daemon"} 1`)
	}
}
