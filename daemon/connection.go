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

// adopt takes the connection of a worker whose supervisor is dead. ok is false
// where there is none to take. The worker still runs when it returns; what stands
// in the way of a take-over is an error, and then too old may be set: it has to
// die.
func adopt(stateDir string) (c *connection, socket *os.File, old *worker, generation uint64, err error) {
	st, err := readState(stateDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil, 0, nil
	}
	if err != nil {
		return nil, nil, nil, 0, err
	}
	pidfd, err := st.Worker.OpenPidfd()
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil, nil, 0, nil
	}
	if err != nil {
		return nil, nil, nil, 0, err
	}
	old = foreignWorker(st.Worker, pidfd, st.Generation)
	fd := int(pidfd.Fd())
	fuse, err := unix.PidfdGetfd(fd, workerFuse, 0)
	if err != nil {
		return nil, nil, old, 0, fmt.Errorf("take the connection of worker %d: %w", st.Worker.PID, err)
	}
	memory, err := unix.PidfdGetfd(fd, workerSlots, 0)
	if err != nil {
		unix.Close(fuse)
		return nil, nil, old, 0, fmt.Errorf("take the memory of worker %d: %w", st.Worker.PID, err)
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
		return nil, nil, old, 0, fmt.Errorf("take over from worker %d: %w", st.Worker.PID, err)
	}
	// The socket is no loss: a new one can be made.
	if s, err := unix.PidfdGetfd(fd, workerSocket, 0); err == nil {
		if isListening(s) {
			socket = os.NewFile(uintptr(s), "candord.sock")
		} else {
			unix.Close(s)
		}
	}
	return newConnection(fuse, slots, st.Device), socket, old, st.Generation, nil
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
