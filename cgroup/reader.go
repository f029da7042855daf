package cgroup

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// absentFor is how long a missing file is not looked for again: a controller
// may be enabled later, and a failed open costs as much as a read.
const absentFor = time.Second

// A Reader reads the groups of one container. Files are opened when they are
// first read and kept open; a group that was removed and made again is found
// again. It is safe for concurrent use.
type Reader struct {
	closed atomic.Bool
	open   atomic.Int64 // descriptors
	start  time.Time

	memory, cpu, cpuacct, cpuset, blkio, hugetlb, tasks, pressure controller

	scratches sync.Pool // of *scratch
}

// controller is one controller's groups, the container's own first.
type controller struct {
	name    string
	version int // 0: not to be had, see err
	err     error
	groups  []group
}

type group struct {
	dir   string
	files []keptFile // in the order of the controller's constants
}

// keptFile is a file that is kept open.
type keptFile struct {
	// mu is held for reading during every pread, and for writing wherever the
	// descriptor is opened or closed: its number must not be reused below a
	// read in flight. Each file has its own: a read may hang, and those of
	// other files go on.
	mu sync.RWMutex
	fd int // descriptor + 1; 0 is closed
	// absent is when the file was last found missing, in time since the
	// reader's start; 0 is never.
	absent time.Duration
}

// errAbsent says that a group lacks a file: the controller is not enabled
// there, the group is the root, or the kernel is older.
var errAbsent = errors.New("no such file in this cgroup")

// Open makes a reader of the groups in paths, as [Of] gives them. It opens no
// file yet. A controller that the host does not have is no error here, but
// where its readings are asked for.
func (h Hierarchies) Open(paths map[string]string) (*Reader, error) {
	r := &Reader{start: time.Now()}
	found := false
	for _, c := range []struct {
		name  string
		files int
		into  *controller
	}{
		{controllerMemory, memoryFiles, &r.memory},
		{controllerCPU, cpuFiles, &r.cpu},
		{controllerCPUAcct, acctFiles, &r.cpuacct},
		{controllerCPUSet, cpusetFiles, &r.cpuset},
		{controllerBlkio, blkioFiles, &r.blkio},
		{controllerHugetlb, maxHugePageSizes * hugetlbSizeFiles, &r.hugetlb},
	} {
		*c.into = h.controller(paths, c.name, c.files)
		found = found || c.into.version != 0
	}
	if !found {
		return nil, fmt.Errorf("open cgroup reader: %w", r.memory.err)
	}
	r.pressure = h.controller(paths, Unified, pressureFiles)
	// Any hierarchy lists the tasks; pids also counts them.
	for _, name := range []string{controllerPids, controllerCPU, controllerMemory, controllerCPUAcct} {
		if r.tasks = h.controller(paths, name, 1); r.tasks.version != 0 {
			break
		}
	}
	return r, nil
}

// controller finds a controller's groups, in each of which so many files are read.
func (h Hierarchies) controller(paths map[string]string, name string, files int) controller {
	dirs, version, err := h.dirs(paths, name)
	c := controller{name: name, version: version, err: err}
	for _, dir := range dirs {
		c.groups = append(c.groups, group{dir: dir, files: make([]keptFile, files)})
	}
	return c
}

// Descriptors is the number of descriptors that the reader holds.
func (r *Reader) Descriptors() int { return int(r.open.Load()) }

// Release closes all descriptors that are not being read from; the next reading
// opens them again. It waits for nothing.
func (r *Reader) Release() {
	r.each(func(f *keptFile) {
		if f.mu.TryLock() {
			r.drop(f)
			f.mu.Unlock()
		}
	})
}

// Close closes all descriptors for good, once nothing is read from them any more.
// It is harmless to call it twice.
func (r *Reader) Close() error {
	r.closed.Store(true)
	r.each(func(f *keptFile) {
		f.mu.Lock()
		defer f.mu.Unlock()
		r.drop(f)
	})
	return nil
}

func (r *Reader) each(do func(*keptFile)) {
	for _, c := range []*controller{&r.memory, &r.cpu, &r.cpuacct, &r.cpuset, &r.blkio, &r.hugetlb, &r.tasks, &r.pressure} {
		for g := range c.groups {
			for f := range c.groups[g].files {
				do(&c.groups[g].files[f])
			}
		}
	}
}

// drop closes one file. The caller holds its mu for writing.
func (r *Reader) drop(f *keptFile) {
	if f.fd > 0 {
		_ = unix.Close(f.fd - 1) // read-only: nothing can be lost
		f.fd = 0
		r.open.Add(-1)
	}
}

// read gives the content of a controller's file in the given group (0 is the
// container's own), in s, which it may grow. f is the file's place in the
// group's table, name its name. errAbsent: the group has no such file.
//
// One pread is enough: kernfs shows each of the files read here as one record.
func (r *Reader) read(c *controller, groupIndex, f int, name string, s *scratch) ([]byte, error) {
	g := &c.groups[groupIndex]
	file := &g.files[f]
	for {
		file.mu.RLock()
		n, err := -1, error(unix.ENODEV)
		if r.closed.Load() {
			err = ErrClosed
		} else if file.fd > 0 {
			n, err = pread(file.fd-1, s.buf)
		} else if file.absent != 0 && time.Since(r.start)-file.absent < absentFor {
			err = errAbsent
		}
		file.mu.RUnlock()
		// A kept descriptor of a removed group answers ENODEV for ever, also
		// when the group was made again under the same name.
		if errors.Is(err, unix.ENODEV) {
			n, err = r.reopen(g, file, name, s.buf)
		}
		switch {
		case errors.Is(err, errAbsent), errors.Is(err, ErrClosed):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("read %s/%s: %w", g.dir, name, err)
		case n == len(s.buf):
			s.grow()
		default:
			return s.buf[:n], nil
		}
	}
}

// reopen opens a file anew and reads it.
func (r *Reader) reopen(g *group, file *keptFile, name string, buf []byte) (int, error) {
	file.mu.Lock()
	defer file.mu.Unlock()
	if r.closed.Load() {
		return 0, ErrClosed
	}
	r.drop(file)
	fd, err := openIn(g.dir, name)
	if errors.Is(err, errAbsent) {
		file.absent = max(time.Since(r.start), 1)
	}
	if err != nil {
		return 0, err
	}
	file.fd, file.absent = fd+1, 0
	r.open.Add(1)
	n, err := pread(fd, buf)
	if errors.Is(err, unix.ENODEV) { // removed since the open
		r.drop(file)
		return 0, ErrGone
	}
	return n, err
}

// openIn opens a group's file. errAbsent: the group does not have it.
//
// A group that is being removed must not pass for one that lacks the file: its
// container would be shown what the group above has. Whether it is whole is
// therefore asked of the same directory, not of its path, under which it may
// have been made again meanwhile; every group has cgroup.procs.
func openIn(dir, name string) (fd int, err error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, ErrGone
	} else if err != nil {
		return -1, err
	}
	defer unix.Close(d)
	fd, err = unix.Openat(d, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case err == nil:
		return fd, nil
	case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV):
		return -1, err
	case unix.Faccessat(d, "cgroup.procs", unix.F_OK, 0) != nil:
		return -1, ErrGone
	}
	return -1, errAbsent
}

func pread(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Pread(fd, buf, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// scratch is a buffer for one reading.
type scratch struct{ buf []byte }

func (s *scratch) grow() { s.buf = make([]byte, 2*len(s.buf)) }

// borrow takes a buffer for one reading, to be put back by giveBack. 4 KiB
// holds every file of a host with some 70 CPUs.
func (r *Reader) borrow() *scratch {
	if s, ok := r.scratches.Get().(*scratch); ok {
		return s
	}
	return &scratch{buf: make([]byte, 4096)}
}

func (r *Reader) giveBack(s *scratch) { r.scratches.Put(s) }
