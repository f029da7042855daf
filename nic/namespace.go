package nic

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// Namespace is an open network namespace. Holding one keeps the namespace, and
// the virtual devices in it, alive.
type Namespace struct {
	file   *os.File
	id     ledger.Namespace
	handle *netlink.Handle
	// sockets serve the messages that the netlink package has no call for;
	// a Handle does not give away its own.
	sockets map[int]*nl.SocketHandle
}

// Open opens the network namespace whose nsfs file is at path, such as
// /proc/PID/ns/net or a bind mount of it. The caller closes it.
func Open(path string) (*Namespace, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return FromFile(f)
}

// Current opens the network namespace of the calling process. The caller closes
// it.
func Current() (*Namespace, error) {
	// The calling thread's and not /proc/self, which is the main thread's.
	return Open("/proc/thread-self/ns/net")
}

// FromFile makes a Namespace of an open nsfs file and takes the file over: it is
// closed with the Namespace, and at once where an error is returned.
func FromFile(f *os.File) (ns *Namespace, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("network namespace %s: %w", f.Name(), err), f.Close())
		}
	}()
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return nil, fmt.Errorf("it is no namespace: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return nil, errors.New("it is a namespace of another kind")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	ns = &Namespace{file: f, id: ledger.Namespace{Device: st.Dev, Inode: st.Ino}}
	if err := ns.Do(ns.connect); err != nil {
		ns.disconnect()
		return nil, err
	}
	return ns, nil
}

func (n *Namespace) connect() error {
	var err error
	if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	n.sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	// The kernel's own words ("An interface with the altname eth0 exists in
	// the target netns") say more than an errno. Kernels before 4.12 have none.
	_ = socket.SetExtAck(true)
	return nil
}

func (n *Namespace) disconnect() {
	if n.handle != nil {
		n.handle.Close()
	}
	for _, s := range n.sockets {
		s.Close()
	}
}

// Close ends the use of the namespace.
func (n *Namespace) Close() error {
	n.disconnect()
	return n.file.Close()
}

// ID names the namespace, for comparing.
func (n *Namespace) ID() ledger.Namespace { return n.id }

// File is the namespace's nsfs file. It is closed by [Namespace.Close].
func (n *Namespace) File() *os.File { return n.file }

// Handle is a route netlink socket in the namespace. It is closed by
// [Namespace.Close]. Dumps through it may be interrupted; see [dump].
func (n *Namespace) Handle() *netlink.Handle { return n.handle }

// Do runs fn on a thread that is in the namespace, and returns fn's error. What
// fn opens there (sockets, files below /proc/sys/net) belongs to the namespace
// and may be used anywhere afterwards. Goroutines that fn starts are elsewhere.
func (n *Namespace) Do(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("open the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = fn()
		// The thread goes home even though one that ends locked would be
		// destroyed: the main thread is not, and /proc/PID/ns/net shows its
		// namespace. A thread that cannot go home stays locked, so that no
		// other goroutine ever runs on it.
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("return to the thread's network namespace: %w", back))
		} else {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
