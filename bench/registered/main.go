// Command registered writes records of containers that do not run into candord's
// ledger, and says what memory supervisor and worker take with so many:
//
//	registered -state-dir DIR -counts 0,100,1000 -o FILE
//
// The records' owner is this process, so that they are those of living containers.
// They are erased at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/bench/result"
	"candor.dev/candor/cgroup"
	"candor.dev/candor/daemon"
	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
)

const (
	// settle is how long candord is left to take notice of the records. Its
	// reconciler looks at all of them every 3 s.
	settle = 7 * time.Second
	// The memory that candord may take: so much, and so much for each container.
	baseKB, eachKB = 12 << 10, 4
	// The samples of one count, and the time between them: a garbage collection
	// more or less makes a difference.
	samples = 5
	between = time.Second
)

func main() {
	stateDir := flag.String("state-dir", "", "candord's state directory")
	counts := flag.String("counts", "0,100,1000", "how many containers, in ascending order")
	out := flag.String("o", "", "the file for the result")
	flag.Parse()
	err := errors.New("usage: registered -state-dir DIR [-counts N,N] -o FILE")
	if *stateDir != "" && *out != "" {
		err = run(*stateDir, *counts, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "registered:", err)
		os.Exit(1)
	}
}

func run(stateDir, counts, out string) (err error) {
	store, err := ledger.Open(stateDir)
	if err != nil {
		return err
	}
	r := register{store: store}
	defer func() { err = errors.Join(err, r.eraseAll()) }()
	f := result.New("view")
	for text := range strings.SplitSeq(counts, ",") {
		count, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no number of containers", text)
		}
		if err := r.fill(count); err != nil {
			return err
		}
		if err := measure(f, stateDir, count); err != nil {
			return err
		}
	}
	return f.Write(out)
}

// measure adds what candord takes with so many containers, and the same once the
// files of each were read.
func measure(f *result.File, stateDir string, count int) error {
	rss, pss, err := memory(stateDir)
	if err != nil {
		return err
	}
	bound := float64(baseKB+eachKB*count) / 1024
	what := fmt.Sprintf("%d containers registered: ", count)
	f.Against(result.Row{What: what + "RSS of supervisor and worker", PeerName: "12 MB + 4 kB each", Unit: "MB", Goal: "<= 1"}, rss, bound)
	f.Against(result.Row{What: what + "PSS, what both share counted once", PeerName: "12 MB + 4 kB each", Unit: "MB"}, pss, bound)
	if count == 0 {
		return nil
	}
	if err := readAll(stateDir); err != nil {
		return err
	}
	if rss, _, err = memory(stateDir); err != nil {
		return err
	}
	f.Against(result.Row{What: what + "RSS, meminfo, stat and cpuinfo of each read", PeerName: "12 MB + 4 kB each", Unit: "MB"}, rss, bound)
	return nil
}

// memory returns what supervisor and worker take together, in MB, resident and
// proportional, some times.
func memory(stateDir string) (rss, pss []float64, err error) {
	// As when a hook binds a container's files: the worker knows it then.
	if _, err := views(stateDir); err != nil {
		return nil, nil, err
	}
	time.Sleep(settle)
	for range samples {
		time.Sleep(between)
		status, err := daemon.Ping(context.Background(), stateDir)
		if err != nil {
			return nil, nil, err
		}
		var r, p float64
		for _, pid := range []int{status.PID, status.WorkerPID} {
			sizes, err := sizesOf(pid)
			if err != nil {
				return nil, nil, err
			}
			r, p = r+sizes["Rss:"], p+sizes["Pss:"]
		}
		rss, pss = append(rss, r/1024), append(pss, p/1024)
	}
	return rss, pss, nil
}

// sizesOf are the fields of a process's smaps_rollup, in kB.
func sizesOf(pid int) (map[string]float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	sizes := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			if sizes[f[0]], err = strconv.ParseFloat(f[1], 64); err != nil {
				return nil, fmt.Errorf("memory of process %d: %w", pid, err)
			}
		}
	}
	return sizes, nil
}

// views lists the containers' directories in the view.
func views(stateDir string) (names []string, err error) {
	return names, statedir.InMounts(stateDir, func() error {
		entries, err := os.ReadDir(statedir.ViewDir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err
	})
}

func readAll(stateDir string) error {
	names, err := views(stateDir)
	if err != nil {
		return err
	}
	return statedir.InMounts(stateDir, func() error {
		for _, name := range names {
			for _, file := range []string{"meminfo", "stat", "cpuinfo"} {
				if _, err := os.ReadFile(filepath.Join(statedir.ViewDir, name, file)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// register are the records that were written.
type register struct {
	store *ledger.Store
	keys  []string
}

// fill writes records until there are so many.
func (r *register) fill(count int) error {
	if len(r.keys) >= count {
		return nil
	}
	owner, err := ledger.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	groups, err := cgroup.Of(os.Getpid())
	if err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	var files []string
	for _, f := range resview.Files() {
		files = append(files, f.Target)
	}
	release, err := r.store.LockAllocator(context.Background())
	if err != nil {
		return err
	}
	defer release()
	for len(r.keys) < count {
		id := fmt.Sprintf("bench-registered-%d", len(r.keys))
		bundle := "/run/containerd/io.containerd.runtime.v2.task/bench/" + id
		record := ledger.Record{
			Key: ledger.Key(id, bundle), ID: id, Bundle: bundle, Caller: "containerd:bench", State: ledger.Attached,
			Created: time.Now().UTC(), BootID: strings.TrimSpace(string(boot)), Owner: owner,
			View: &ledger.View{Cgroups: groups, Rootfs: bundle + "/rootfs", Files: files},
		}
		if record.View.ID, err = r.store.NextViewID(); err != nil {
			return err
		}
		if err := r.write(&record); err != nil {
			return err
		}
		r.keys = append(r.keys, record.Key)
	}
	return nil
}

func (r *register) write(record *ledger.Record) error {
	lock, err := r.store.Lock(context.Background(), record.Key)
	if err != nil {
		return err
	}
	return errors.Join(lock.Write(record), lock.Unlock())
}

func (r *register) eraseAll() error {
	var errs []error
	for _, key := range r.keys {
		lock, err := r.store.Lock(context.Background(), key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, lock.Erase(), lock.Unlock())
	}
	return errors.Join(errs...)
}
