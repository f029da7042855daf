package daemon

import (
	"errors"
	"fmt"
	"os"

	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// The numbers of a worker's descriptors. They are part of the contract between
// releases: the next supervisor takes them by these numbers.
const (
	workerFuse   = 3
	workerSlots  = 4
	workerSocket = 5
	// workerLockFD is only held, see [workerLock].
	workerLockFD = 6
	// workerOrders is there for a worker of a reload, see [standBy].
	workerOrders = 7
)

// connection is a mount of the view: what dies with it are the reads of every
// container.
type connection struct {
	// fuse is nil where the view cannot be mounted.
	fuse   *os.File
	slots  *resview.Slots
	memory *os.File
	device uint64
}

// connect mounts the view anew, in the place of a dead one.
func connect(stateDir string) (*connection, error) {
	if err := resview.Unmount(stateDir); err != nil {
		return nil, fmt.Errorf("dead view: %w", err)
	}
	slots, err := resview.NewSlots()
	if err != nil {
		return nil, err
	}
	fd, device, err := resview.OpenMount(stateDir)
	if err != nil {
		return nil, errors.Join(err, slots.Close())
	}
	return newConnection(fd, slots, device), nil
}

// idleConnection is that of a worker which serves no view.
func idleConnection() (*connection, error) {
	slots, err := resview.NewSlots()
	if err != nil {
		return nil, err
	}
	return &connection{slots: slots, memory: os.NewFile(uintptr(slots.FD()), "candor-slots")}, nil
}

func newConnection(fuse int, slots *resview.Slots, device uint64) *connection {
	return &connection{
		fuse:   os.NewFile(uintptr(fuse), "/dev/fuse"),
		slots:  slots,
		memory: os.NewFile(uintptr(slots.FD()), "candor-slots"),
		device: device,
	}
}

// close gives the connection up. When no worker has it either, every reader
// gets ENOTCONN.
func (c *connection) close() {
	if c.fuse != nil {
		c.fuse.Close()
	}
	// The memory stays mapped: a goroutine may look at it, and it is small.
	c.memory.Close()
}

// adopted is what a supervisor finds of one that is dead.
type adopted struct {
	conn   *connection
	socket *os.File
	// worker still runs.
	worker *worker
	undead []*worker
}

// adopt takes the connection of a worker whose supervisor is dead. Where there
// is no such worker, it is not set. What stands in the way of a take-over is an
// error, and then too the worker may be set: it has to die.
func adopt(stateDir string) (a adopted, err error) {
	st, pidfd, err := findWorker(stateDir)
	a.undead = openUndead(st.Undead)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrProcessDone) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	a.worker = foreignWorker(st.Worker, pidfd, st.Generation)
	fd := int(pidfd.Fd())
	fuse, err := unix.PidfdGetfd(fd, workerFuse, 0)
	if err != nil {
		return a, fmt.Errorf("take the connection of worker %d: %w", st.Worker.PID, err)
	}
	memory, err := unix.PidfdGetfd(fd, workerSlots, 0)
	if err != nil {
		unix.Close(fuse)
		return a, fmt.Errorf("take the memory of worker %d: %w", st.Worker.PID, err)
	}
	slots, err := resview.OpenSlots(memory)
	if err == nil && !resview.IsConnection(fuse) {
		err = errors.New("not /dev/fuse")
	}
	if err == nil {
		err = checkMounted(stateDir, st.Device)
	}
	if err != nil {
		unix.Close(fuse)
		unix.Close(memory)
		return a, fmt.Errorf("take over from worker %d: %w", st.Worker.PID, err)
	}
	a.conn = newConnection(fuse, slots, st.Device)
	// The socket is no loss: a new one can be made.
	if s, err := unix.PidfdGetfd(fd, workerSocket, 0); err == nil {
		if isListening(s) {
			a.socket = os.NewFile(uintptr(s), "candord.sock")
		} else {
			unix.Close(s)
		}
	}
	return a, nil
}

// openUndead returns those workers that still live.
func openUndead(list []undead) (found []*worker) {
	for _, u := range list {
		if pidfd, err := u.Process.OpenPidfd(); err == nil {
			found = append(found, foreignWorker(u.Process, pidfd, u.Generation))
		}
	}
	return found
}

// checkMounted returns an error unless the view is mounted and the given one.
func checkMounted(stateDir string, device uint64) error {
	now, mounted, err := resview.Mounted(stateDir)
	switch {
	case err != nil:
		return err
	case !mounted:
		return errors.New("the view is not mounted any more")
	case now != device:
		return errors.New("another view is mounted")
	}
	return nil
}
