package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"candor.dev/candor/daemon"
	"candor.dev/candor/journal"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// socketName is that of the socket in the state directory.
	socketName = "metrics.sock"
	// policyInterval is how often the policy is asked whether, and where, to
	// listen on TCP.
	policyInterval = 5 * time.Second
	// maxScrapes is the number of scrapes at a time; further ones get 503.
	maxScrapes = 2
	// maxConnections is that of TCP connections at a time; further ones wait.
	maxConnections = 16
	// scrapeTimeout bounds one scrape.
	scrapeTimeout = 10 * time.Second
)

// Task returns the worker's task that answers HTTP at /metrics: on the state
// directory's metrics.sock, for root alone, and on TCP where the policy's
// metrics.listen says so. It opens nothing before it runs.
func Task(stateDir, configPath string, log *slog.Logger) func(ctx context.Context, status func() daemon.Status) error {
	return func(ctx context.Context, status func() daemon.Status) error {
		node, err := lifecycle.OpenNode(stateDir, log)
		if err != nil {
			return err
		}
		return serve(ctx, source{node: node, configPath: configPath, status: status, log: log})
	}
}

func serve(ctx context.Context, from source) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(newCollector(from)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout}))
	server := &http.Server{
		Handler: mux, ReadTimeout: scrapeTimeout, WriteTimeout: 2 * scrapeTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(from.log.Handler(), slog.LevelWarn),
	}
	socket, err := listenSocket(from.node.StateDir)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(socket) }()
	tcp := tcpListener{source: from, server: server}
	for {
		tcp.follow()
		select {
		case <-ctx.Done():
			return errors.Join(server.Close(), tcp.close())
		case err := <-failed:
			return errors.Join(fmt.Errorf("serve metrics: %w", err), server.Close(), tcp.close())
		case <-time.After(policyInterval):
		}
	}
}

// listenSocket makes the socket in the place of one that a killed worker left, or
// one that is killed and not dead yet.
func listenSocket(stateDir string) (net.Listener, error) {
	path := filepath.Join(stateDir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stale socket: %w", err)
	}
	// By descriptor: a socket's address holds 107 bytes.
	dir, err := os.Open(stateDir)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// By the time that we end it may be our successor's.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil { // the folder is root's alone already
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// tcpListener listens where the policy says, as it is now.
type tcpListener struct {
	source source
	server *http.Server

	at       netip.AddrPort
	listener net.Listener
	told     string
}

// follow brings the listener into line with the policy. A broken policy changes
// nothing; an address that cannot be had is tried again.
func (t *tcpListener) follow() {
	p, err := policy.Load(t.source.configPath)
	if err != nil {
		return // the collector tells it
	}
	if p.Metrics.Listen == t.at {
		return
	}
	err = t.close()
	if p.Metrics.Listen.IsValid() {
		err = errors.Join(err, t.listen(p.Metrics.Listen))
	}
	text := ""
	if err != nil {
		text = journal.OneLine(err)
	}
	if text != "" && text != t.told {
		t.source.log.Error("metrics.listen: cannot listen", "address", p.Metrics.Listen.String(), "policy", p.Path, "error", text)
	}
	t.told = text
}

func (t *tcpListener) listen(at netip.AddrPort) error {
	all, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	// Whoever opens connections and says nothing shall have the metrics to
	// themselves, and not the worker's descriptors.
	l := netutil.LimitListener(all, maxConnections)
	t.at, t.listener = at, l
	// Its error is that of the listener's end, which is ours.
	go func() { _ = t.server.Serve(l) }()
	return nil
}

func (t *tcpListener) close() error {
	if t.listener == nil {
		return nil
	}
	err := t.listener.Close()
	t.at, t.listener = netip.AddrPort{}, nil
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
