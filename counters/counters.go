// Package counters keeps what candor's processes count in one small file of the
// state directory: hooks live for milliseconds, and a worker may be killed at any
// moment, but what they counted has to be there when metrics are asked for.
//
// A count may be lost with the machine (nothing is synced), or with a file that
// is broken, which is started anew. Counting never stands in the way of what is
// counted.
package counters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// format is the version of the file. One of another is started anew.
const format = 1

const (
	// lockWait bounds how long a hook waits to count.
	lockWait = 200 * time.Millisecond
	// maxBytes bounds the file that is read.
	maxBytes = 64 << 10
)

// Operation is what was tried.
type Operation string

// The operations.
const (
	Attach   Operation = "attach"
	GiveBack Operation = "give_back"
	View     Operation = "view"
	Limit    Operation = "limit"
)

// Reason is why it failed: one of a few, since each is a time series for good.
type Reason string

// The reasons.
const (
	Request      Reason = "request"       // the annotations cannot be understood
	Policy       Reason = "policy"        // the policy's files cannot be used
	Denied       Reason = "denied"        // the policy does not grant it
	NotFound     Reason = "not_found"     // no NIC of the node is meant
	Ambiguous    Reason = "ambiguous"     // several are
	Refused      Reason = "refused"       // the host cannot spare the NIC, or the container is not fit for it
	Held         Reason = "held"          // another container has it
	Exhausted    Reason = "exhausted"     // all VFs of the pool are held, or cannot be used
	Driver       Reason = "driver"        // the PF's driver does not take a setting
	Lost         Reason = "lost"          // the NIC is gone
	ForeignQdisc Reason = "foreign_qdisc" // somebody else shapes the device
	Record       Reason = "record"        // a record of the ledger cannot be read
	Daemon       Reason = "daemon"        // candord does not serve the view
	Died         Reason = "died"          // the container's init died meanwhile
	NoSpace      Reason = "no_space"      // the state directory is full
	Timeout      Reason = "timeout"
	Other        Reason = "other"
)

// Bounds returns the upper bounds of the histogram's buckets, in seconds.
func Bounds() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// Histogram counts durations by their size.
type Histogram struct {
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum_seconds"`
	// Buckets are for each of [Bounds] the durations up to it and above the one
	// before. What is longer than the last is in Count alone.
	Buckets []uint64 `json:"buckets"`
}

// add counts one duration.
func (h *Histogram) add(d time.Duration) {
	if len(h.Buckets) != len(Bounds()) {
		*h = Histogram{Buckets: make([]uint64, len(Bounds()))}
	}
	h.Count++
	h.Sum += d.Seconds()
	if i, _ := slices.BinarySearch(Bounds(), d.Seconds()); i < len(h.Buckets) {
		h.Buckets[i]++
	}
}

// Counts are what was counted since the state directory was made, which is at
// most since the node's boot.
type Counts struct {
	Format int `json:"format"`
	// Failures are by operation and reason.
	Failures map[Operation]map[Reason]uint64 `json:"failures,omitempty"`
	// GiveBack is how long it took to give back what containers held.
	GiveBack Histogram `json:"give_back"`
}

// Failed counts an operation that failed.
func Failed(stateDir string, operation Operation, reason Reason) error {
	err := change(stateDir, func(c *Counts) {
		if c.Failures == nil {
			c.Failures = map[Operation]map[Reason]uint64{}
		}
		if c.Failures[operation] == nil {
			c.Failures[operation] = map[Reason]uint64{}
		}
		c.Failures[operation][reason]++
	})
	if err != nil {
		return fmt.Errorf("count failed %s (%s): %w", operation, reason, err)
	}
	return nil
}

// GaveBack counts a container whose devices were given back, and how long it took.
func GaveBack(stateDir string, took time.Duration) error {
	if err := change(stateDir, func(c *Counts) { c.GiveBack.add(took) }); err != nil {
		return fmt.Errorf("count give-back: %w", err)
	}
	return nil
}

// Read returns what was counted so far. A file that is not there, or broken, has
// counted nothing.
func Read(stateDir string) (Counts, error) {
	b, err := os.ReadFile(path(stateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Counts{}, fmt.Errorf("read counters: %w", err)
	}
	var c Counts
	if len(b) > maxBytes || json.Unmarshal(b, &c) != nil || c.Format != format {
		return Counts{Format: format}, nil
	}
	return c, nil
}

func path(stateDir string) string { return filepath.Join(stateDir, "counters.json") }

// change rewrites the file under its lock.
func change(stateDir string, count func(*Counts)) error {
	lock, err := takeLock(filepath.Join(stateDir, "counters.lock"))
	if err != nil {
		return err
	}
	defer lock.Close() // which ends the lock
	c, err := Read(stateDir)
	if err != nil {
		return err
	}
	count(&c)
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	// Under the lock there is one writer, so that a fixed name will do: what a
	// killed one left is written over. Not synced: see the package's comment.
	temp := path(stateDir) + ".tmp"
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path(stateDir))
}

// takeLock waits for a while, and no longer: whoever has it may be frozen.
func takeLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	wait := time.Millisecond
	for end := time.Now().Add(lockWait); ; wait = min(2*wait, 20*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return nil, errors.Join(&os.PathError{Op: "flock", Path: name, Err: err}, f.Close())
		}
		time.Sleep(wait)
	}
}
