package egress

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that a function can be run in, on a thread
// of its own if need be.
//
// It is asked for, and not a [netlink.Handle], because the library's handle
// takes no message of ours, and its own types know neither bfifo nor the
// target of fq_codel, and send a rate of n x 2^32 bytes per second as 0.
type Namespace interface {
	Do(fn func() error) error
}

// conn talks to the kernel in one network namespace. Its sockets stay there
// whatever the threads do.
type conn struct {
	*netlink.Handle
	raw map[int]*nl.SocketHandle
}

func dial(ns Namespace) (*conn, error) {
	c := &conn{}
	err := ns.Do(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
		if err != nil {
			handle.Close()
			return err
		}
		// The kernel's sentence ("Specified qdisc kind is unknown") goes
		// into the error; kernels before 4.12 have none.
		_ = socket.SetExtAck(true)
		c.Handle = handle
		c.raw = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return c, nil
}

func (c *conn) close() {
	c.Handle.Close()
	for _, s := range c.raw {
		s.Close()
	}
}

func (c *conn) request(kind, flags int) *nl.NetlinkRequest {
	return &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{
			Len:   unix.SizeofNlMsghdr,
			Type:  uint16(kind),
			Flags: unix.NLM_F_REQUEST | uint16(flags),
		},
		Sockets: c.raw,
	}
}

// dump runs a dump until it came through whole: one that another's change
// interrupted may lack entries (NLM_F_DUMP_INTR).
func dump[T any](fn func() (T, error)) (T, error) {
	const attempts = 10
	var v T
	var err error
	for range attempts {
		v, err = fn()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}
