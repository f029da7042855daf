// Package metrics shows a node to Prometheus: what containers hold, what is free,
// what failed, and how candord fares. candord's worker serves it; what links the
// client library starts too slowly for a hook, which leaves its counts in a file
// ([counters]).
package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/journal"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/policy"
	"candor.dev/candor/version"
	"github.com/prometheus/client_golang/prometheus"
)

// source is where the metrics come from.
type source struct {
	node *lifecycle.Node
	// configPath is the policy's, which is read at every scrape.
	configPath string
	// status is what the worker says of itself.
	status func() daemon.Status
	log    *slog.Logger
}

// collector reads all of it anew at every scrape: nothing is kept that a worker
// which is killed could lose.
type collector struct {
	source source

	mu   sync.Mutex
	told string

	buildInfo, containers, unreadable *prometheus.Desc
	attached, free, policyUsable      *prometheus.Desc
	bytes, packets, dropped           *prometheus.Desc
	limit, limitBacklog               *prometheus.Desc
	sent, sentPackets, limitDropped   *prometheus.Desc
	failures, giveBack                *prometheus.Desc
	generation, requests, replayed    *prometheus.Desc
	viewServed                        *prometheus.Desc
}

func newCollector(from source) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("candor_"+name, help, labels, nil)
	}
	return &collector{
		source:       from,
		buildInfo:    desc("build_info", "1, with the version of the candord that answers.", "version", "goversion"),
		containers:   desc("containers", "Containers that have a record: with NICs, a limit or the resource view."),
		unreadable:   desc("records_unreadable", "Records that cannot be read; what they name is held up (candor check)."),
		attached:     desc("nics_attached", "NICs that containers hold.", "pool", "kind"),
		free:         desc("nics_free", "NICs of the pool that a container could be given now.", "pool"),
		bytes:        desc("nic_bytes_total", "Bytes through a NIC that a container holds, as its driver counts them.", "pool", "device", "direction"),
		packets:      desc("nic_packets_total", "Packets through a NIC that a container holds.", "pool", "device", "direction"),
		dropped:      desc("nic_dropped_packets_total", "Packets that a NIC which a container holds has dropped.", "pool", "device"),
		limit:        desc("egress_limit_bits", "A container's egress limit, in bits per second.", "container", "key", "device"),
		sent:         desc("egress_bytes_total", "Bytes through a container's egress limit.", "container", "key", "device"),
		sentPackets:  desc("egress_packets_total", "Packets through a container's egress limit.", "container", "key", "device"),
		limitDropped: desc("egress_dropped_packets_total", "Packets that the queue of a container's egress limit has dropped.", "container", "key", "device"),
		limitBacklog: desc("egress_backlog_bytes", "Bytes that wait for a container's egress limit.", "container", "key", "device"),
		policyUsable: desc("policy_usable", "1 when the policy's files can be used, 0 when they are broken and grant nothing."),
		failures:     desc("failures_total", "Operations that failed since the node's boot.", "operation", "reason"),
		giveBack:     desc("give_back_seconds", "How long it took to give back what a dead container held, for those with NICs or a limit."),
		generation:   desc("worker_generation", "Number of the worker since the view was mounted: how often one was started anew."),
		requests:     desc("view_requests_total", "Requests of the kernel for the resource view since it was mounted."),
		replayed:     desc("view_requests_replayed_total", "Those of them that a worker's successor answered."),
		viewServed:   desc("view_served", "1 when the resource view is mounted and served."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.buildInfo, c.containers, c.unreadable, c.attached, c.free, c.bytes, c.packets, c.dropped, c.policyUsable,
		c.limit, c.sent, c.sentPackets, c.limitDropped, c.limitBacklog,
		c.failures, c.giveBack, c.generation, c.requests, c.replayed, c.viewServed,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. What cannot be found out is missing,
// and told in the journal.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	// A worker that dies of a scrape takes the view with it for some milliseconds.
	defer func() {
		if p := recover(); p != nil {
			c.tell(fmt.Errorf("panic: %v", p))
		}
	}()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.buildInfo, 1, version.String(), runtime.Version())
	p, policyErr := policy.Load(c.source.configPath)
	gauge(c.policyUsable, number(policyErr == nil))
	c.tell(errors.Join(policyErr, c.collectHoldings(gauge, p), c.collectTraffic(out), c.collectLimits(out), c.collectCounts(out)))
	c.collectWorker(out, gauge)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// tell logs what stands in the way, once: it is met again at every scrape.
func (c *collector) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := ""
	if err != nil {
		text = journal.OneLine(err)
	}
	if text != "" && text != c.told {
		c.source.log.Warn("metrics are incomplete", "error", text)
	}
	c.told = text
}

// collectHoldings shows what containers hold and what is free. p is nil where the
// policy is broken.
func (c *collector) collectHoldings(gauge func(*prometheus.Desc, float64, ...string), p *policy.Policy) error {
	type pool struct{ name, kind string }
	attached := map[pool]int{}
	var free map[string]int
	var freeErr error
	if p != nil {
		for _, of := range p.Pools {
			attached[pool{of.Name, of.Kind}] = 0 // one that nobody uses is shown, too
		}
		free, freeErr = c.source.node.FreeNICs(p)
	}
	records, err := c.source.node.Store().List()
	unreadable := 0
	if err != nil {
		unreadable = 1
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			unreadable = len(joined.Unwrap())
		}
	}
	for _, r := range records {
		for _, nic := range r.NICs {
			if r.State != ledger.Intent {
				attached[pool{nic.Pool, nic.Kind}]++
			}
		}
	}
	gauge(c.containers, float64(len(records)))
	gauge(c.unreadable, float64(unreadable))
	for of, n := range attached {
		gauge(c.attached, float64(n), of.name, of.kind)
	}
	for name, n := range free {
		gauge(c.free, float64(n), name)
	}
	return errors.Join(err, freeErr)
}

// collectTraffic shows what went through the NICs that containers hold.
func (c *collector) collectTraffic(out chan<- prometheus.Metric) error {
	traffic, err := c.source.node.Traffic()
	for _, t := range traffic {
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{t.Pool, t.Device}, labels...)...)
		}
		count(c.bytes, t.ReceivedBytes, "in")
		count(c.bytes, t.SentBytes, "out")
		count(c.packets, t.ReceivedPackets, "in")
		count(c.packets, t.SentPackets, "out")
		count(c.dropped, t.Dropped)
	}
	return err
}

// collectLimits shows what containers sent against their limits.
func (c *collector) collectLimits(out chan<- prometheus.Metric) error {
	limits, err := c.source.node.Limits()
	for _, l := range limits {
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, v uint64) {
			out <- prometheus.MustNewConstMetric(d, kind, float64(v), l.Container, l.Key, l.Device)
		}
		tell(c.limit, prometheus.GaugeValue, l.LimitBits)
		tell(c.sent, prometheus.CounterValue, l.Bytes)
		tell(c.sentPackets, prometheus.CounterValue, l.Packets)
		tell(c.limitDropped, prometheus.CounterValue, uint64(l.Drops))
		tell(c.limitBacklog, prometheus.GaugeValue, uint64(l.BacklogBytes))
	}
	return err
}

// collectCounts shows what hooks, front doors and reconciler counted.
func (c *collector) collectCounts(out chan<- prometheus.Metric) error {
	counts, err := counters.Read(c.source.node.StateDir)
	if err != nil {
		return err
	}
	for operation, reasons := range counts.Failures {
		for reason, n := range reasons {
			out <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(n), string(operation), string(reason))
		}
	}
	h := counts.GiveBack
	upTo, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range counters.Bounds() {
		if i < len(h.Buckets) {
			sum += h.Buckets[i]
		}
		upTo[bound] = sum
	}
	out <- prometheus.MustNewConstHistogram(c.giveBack, h.Count, h.Sum, upTo)
	return nil
}

func (c *collector) collectWorker(out chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	status := c.source.status()
	gauge(c.generation, float64(status.Generation))
	gauge(c.viewServed, number(status.FuseMounted))
	for d, n := range map[*prometheus.Desc]uint64{c.requests: status.Requests, c.replayed: status.Replayed} {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}
