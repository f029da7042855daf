package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// descriptorStore is systemd's file-descriptor store (FileDescriptorStoreMax= in
// systemd.service(5), FDSTORE= in sd_notify(3)). It holds the connection and the
// memory while no candord lives at all: readers wait for the next one. A nil
// store is none.
type descriptorStore struct {
	// socket is NOTIFY_SOCKET.
	socket string
	// passed is what systemd gave us of it, by name.
	passed map[string]*os.File
	// held are the names that systemd has.
	held map[string]bool
}

// A stored descriptor is named after the view's device and the memory's inode:
// both descriptors of one connection, and of no other, end alike.
const (
	storedFuse  = "candor-fuse-"
	storedSlots = "candor-slots-"
)

// isOurs reports whether a descriptor has a name that candord gives.
func isOurs(name string) bool {
	return strings.HasPrefix(name, storedFuse) || strings.HasPrefix(name, storedSlots)
}

// notifyTimeout bounds what the supervisor waits for a systemd that is busy.
const notifyTimeout = time.Second

func newDescriptorStore(socket string, passed map[string]*os.File) *descriptorStore {
	if socket == "" {
		return nil
	}
	d := &descriptorStore{socket: socket, passed: passed, held: map[string]bool{}}
	for name := range passed {
		d.held[name] = true
	}
	return d
}

// take returns the connection that systemd has kept, if the view is mounted still
// and is that one; else nil. An error says why what is there cannot be used.
func (d *descriptorStore) take(stateDir string) (*connection, error) {
	if d == nil || len(d.passed) == 0 {
		return nil, nil
	}
	device, mounted, err := resview.Mounted(stateDir)
	if err != nil {
		return nil, err
	}
	if !mounted {
		return nil, errors.New("the view is not mounted any more")
	}
	for name, memory := range d.passed {
		id, ok := strings.CutPrefix(name, storedSlots)
		fuse := d.passed[storedFuse+id]
		if ok && fuse != nil && id == connectionID(device, int(memory.Fd())) {
			return openConnection(int(fuse.Fd()), int(memory.Fd()), device)
		}
	}
	return nil, errors.New("it is not the connection of the view that is mounted")
}

// connectionID tells a connection from all others, also from an earlier one whose
// device number was given out again.
func connectionID(device uint64, memory int) string {
	var st unix.Stat_t
	_ = unix.Fstat(memory, &st) // of a descriptor that is open
	return fmt.Sprintf("%x-%x", device, st.Ino)
}

// openConnection makes a connection of copies of the descriptors.
func openConnection(fuse, memory int, device uint64) (*connection, error) {
	fds := []unix.PollFd{{Fd: int32(fuse)}}
	if _, err := unix.Poll(fds, 0); err != nil || !resview.IsConnection(fuse) || fds[0].Revents != 0 {
		return nil, errors.Join(errors.New("the connection is dead"), err)
	}
	memory, err := unix.FcntlInt(uintptr(memory), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil, err
	}
	slots, err := resview.OpenSlots(memory)
	if err != nil {
		unix.Close(memory)
		return nil, err
	}
	if fuse, err = unix.FcntlInt(uintptr(fuse), unix.F_DUPFD_CLOEXEC, 10); err != nil {
		return nil, errors.Join(err, slots.Close())
	}
	return newConnection(fuse, slots, device), nil
}

// takeStored is take for a supervisor. A worker that nobody knows of may serve the
// same connection, and with the same slots as the next one; those that are killed
// and not dead are known.
func (s *Supervisor) takeStored() (*connection, error) {
	if s.config.Store != nil && len(s.undead) == 0 && workerLives(s.config.StateDir) {
		return nil, errors.New("a worker serves that candord.json does not name")
	}
	return s.config.Store.take(s.config.StateDir)
}

// closePassed closes what systemd gave us, once it was looked at.
func (d *descriptorStore) closePassed() {
	if d == nil {
		return
	}
	for _, f := range d.passed {
		f.Close()
	}
	d.passed = nil
}

// keep leaves the connection's descriptors with systemd, and has it close all
// others that it has of ours: a connection that systemd holds and nobody serves
// would hold its readers up for ever. nil leaves nothing.
func (d *descriptorStore) keep(c *connection) error {
	if d == nil {
		return nil
	}
	var want []*os.File
	var names []string
	if c != nil && c.fuse != nil {
		id := connectionID(c.device, int(c.memory.Fd()))
		want, names = []*os.File{c.memory, c.fuse}, []string{storedSlots + id, storedFuse + id}
	}
	var errs []error
	for name := range d.held {
		if len(names) == 0 || name != names[0] && name != names[1] {
			errs = append(errs, d.notify("FDSTOREREMOVE=1\nFDNAME="+name))
			delete(d.held, name)
		}
	}
	for i, name := range names {
		if d.held[name] {
			continue
		}
		// Without FDPOLL=0 (systemd 246) every request of a reader would wake pid 1:
		// it polls for errors, and /dev/fuse wakes who polls it at each request
		// (measured: 10,000 times in 3,000 reads).
		err := d.notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(want[i].Fd()))
		if err != nil {
			errs = append(errs, err)
			break
		}
		d.held[name] = true
	}
	return errors.Join(errs...)
}

// notify sends a message of sd_notify(3).
func (d *descriptorStore) notify(message string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(notifyTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		return fmt.Errorf("setsockopt: %w", err)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	// A name that begins with @ is an abstract one, here and there.
	if err := unix.Sendmsg(fd, []byte(message), rights, &unix.SockaddrUnix{Name: d.socket}, unix.MSG_NOSIGNAL); err != nil {
		return &os.PathError{Op: "sendmsg", Path: d.socket, Err: err}
	}
	return nil
}
