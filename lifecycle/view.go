package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/cgroup"
	"candor.dev/candor/counters"
	"candor.dev/candor/daemon"
	"candor.dev/candor/ledger"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/resview"
	"candor.dev/candor/specgen"
)

// pingTimeout is what the daemon may take to say that it serves. A reader of
// the view behind a daemon that hangs cannot be killed, so that none is bound
// before it has answered.
const pingTimeout = 2 * time.Second

// AttachView binds the files of the resource view into the container, unless
// its annotation or the policy says off. When the view cannot be had, the
// policy's resource_view.required decides between an error and a container
// without the view, which the journal then records.
func (n *Node) AttachView(ctx context.Context, c Container, p *policy.Policy, caller string) error {
	req, err := request.Parse(c.Spec.Annotations)
	if err != nil {
		return err
	}
	if req.ResourceView == request.Off || req.ResourceView == request.Default && !p.ResourceView.Enabled {
		return nil
	}
	spec, err := specgen.Parse(c.Spec.raw)
	if err != nil {
		return err
	}
	if why := spec.NoView(); why != "" {
		if req.ResourceView == request.On {
			n.Log.Warn("container runs without the resource view", "container", c.ID, "reason", why)
		}
		return nil
	}
	err = n.attachView(ctx, c, caller, viewFiles(p))
	if err == nil {
		return nil
	}
	n.failed(counters.View, err)
	if p.ResourceView.Required {
		return fmt.Errorf("resource view: %w (%s says resource_view.required)", err, p.Path)
	}
	n.Log.Warn("container runs without the resource view", "container", c.ID, "error", err)
	return nil
}

// viewFiles are the files that a container gets by the node's policy.
func viewFiles(p *policy.Policy) []resview.File {
	return slices.DeleteFunc(resview.Files(), func(f resview.File) bool {
		return f.Name == resview.Pressure && !p.ResourceView.Pressure
	})
}

func (n *Node) attachView(ctx context.Context, c Container, caller string, files []resview.File) (err error) {
	if _, err := n.pingDaemon(ctx); err != nil {
		return err
	}
	owner, err := ledger.FindProcess(c.PID)
	if err != nil {
		return fmt.Errorf("find the container's init %d: %w", c.PID, err)
	}
	rootfs, err := c.Rootfs()
	if err != nil {
		return err
	}
	lock, r, err := n.registerView(ctx, c, caller, owner, rootfs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if len(r.View.Files) > 0 {
		return nil // the hook was called twice: once is enough
	}
	bound, err := resview.Bind(n.StateDir, r.Key, owner, rootfs, files)
	if err != nil {
		return errors.Join(err, n.dropView(lock, r))
	}
	r.View.Files = bound
	return lock.Write(r)
}

func (n *Node) pingDaemon(ctx context.Context) (daemon.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return daemon.Ping(ctx, n.StateDir)
}

// registerView writes what candord has to know of the container before the
// first look-up below the view's mount, and returns with the record's lock held.
func (n *Node) registerView(ctx context.Context, c Container, caller string, owner ledger.Process, rootfs string) (_ *ledger.Lock, _ *ledger.Record, err error) {
	release, err := n.store.LockAllocator(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	key := ledger.Key(c.ID, c.Bundle)
	lock, err := n.store.Lock(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Unlock())
		}
	}()
	r, err := n.recordOf(ctx, lock, &ledger.Record{
		Key: key, ID: c.ID, Bundle: c.Bundle, Caller: caller, State: ledger.Attached,
		Created: time.Now().UTC(), BootID: n.bootID, Owner: owner, SandboxID: c.Spec.Sandbox(),
	})
	if err != nil {
		return nil, nil, err
	}
	if r.View == nil {
		if r.View, err = n.newView(owner, rootfs); err != nil {
			return nil, nil, err
		}
	}
	if err := lock.Write(r); err != nil {
		return nil, nil, err
	}
	return lock, r, nil
}

// recordOf returns the record that prestart-net wrote for this container, or
// fresh where there is none; one of a dead container is given back first.
func (n *Node) recordOf(ctx context.Context, lock *ledger.Lock, fresh *ledger.Record) (*ledger.Record, error) {
	old, err := lock.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, err
	}
	if old.Owner == fresh.Owner && old.BootID == fresh.BootID {
		return old, nil
	}
	if n.Alive(old) {
		return nil, fmt.Errorf("container %s: another one with this id and bundle runs (pid %d)", fresh.ID, old.Owner.PID)
	}
	return fresh, n.giveBack(ctx, lock, old)
}

func (n *Node) newView(owner ledger.Process, rootfs string) (*ledger.View, error) {
	id, err := n.store.NextViewID()
	if err != nil {
		return nil, err
	}
	groups, err := cgroup.Of(owner.PID)
	if err != nil {
		return nil, err
	}
	offset, err := boottimeOffset(owner.PID)
	if err != nil {
		return nil, err
	}
	return &ledger.View{ID: id, Cgroups: groups, BoottimeOffset: offset, Rootfs: rootfs}, nil
}

// dropView takes a view that could not be bound out of the record, and the
// record with it when it holds nothing else.
func (n *Node) dropView(lock *ledger.Lock, r *ledger.Record) error {
	r.View = nil
	if len(r.NICs) == 0 && r.Egress == nil {
		return lock.Erase()
	}
	return lock.Write(r)
}

// boottimeOffset reads what the time namespace of a process adds to the host's
// boottime clock (time_namespaces(7)); 0 on kernels without time namespaces.
func boottimeOffset(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/timens_offsets", pid)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the container's time namespace: %w", err)
	}
	offset, err := parseOffsets(b)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return offset, nil
}

// parseOffsets takes the boottime line from the text of /proc/PID/timens_offsets.
func parseOffsets(b []byte) (time.Duration, error) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "boottime" {
			continue
		}
		seconds, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, err
		}
		nanoseconds, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return 0, err
		}
		// The kernel's own bounds (kernel/time/namespace.c: proc_timens_set_offset).
		const most = math.MaxInt64 / int64(time.Second)
		if seconds >= most || seconds <= -most || nanoseconds < 0 || nanoseconds >= int64(time.Second) {
			return 0, fmt.Errorf("%q is out of range", line)
		}
		return time.Duration(seconds)*time.Second + time.Duration(nanoseconds), nil
	}
	return 0, nil
}
