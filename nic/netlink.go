package nic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often an interrupted dump is asked for again. The
// namespace would have to change during each of them.
const dumpTries = 30

// dump asks for a list until it arrives whole: the kernel says when the list
// changed while it was sent (NLM_F_DUMP_INTR), and what was received may then
// lack entries that were there all the time.
func dump[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		got, err := list()
		interrupted := errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EINTR)
		if !interrupted || try == dumpTries {
			return got, err
		}
	}
}

func (n *Namespace) links() ([]netlink.Link, error) {
	links, err := dump(n.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	return links, nil
}

// linkByIndex and linkByName return nil, nil where there is none. A name may be
// an altname.
func (n *Namespace) linkByIndex(index int) (netlink.Link, error) {
	return found(n.handle.LinkByIndex(index))
}

func (n *Namespace) linkByName(name string) (netlink.Link, error) {
	return found(dump(func() (netlink.Link, error) { return n.handle.LinkByName(name) }))
}

func found(link netlink.Link, err error) (netlink.Link, error) {
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	return link, err
}

// request begins a message of our own.
func (n *Namespace) request(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = n.sockets
	return req
}

// linkMessage asks for a link and returns the answer as the kernel wrote it: struct
// ifinfomsg and attributes. extended are the parts that have to be asked for
// (RTEXT_FILTER_*), 0 for none.
func (n *Namespace) linkMessage(index int, extended uint32) ([]byte, error) {
	req := n.request(unix.RTM_GETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	if extended != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(extended)))
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return nil, fmt.Errorf("look at interface %d: %w", index, err)
	}
	for _, m := range answers {
		if len(m) >= unix.SizeofIfInfomsg {
			return m, nil
		}
	}
	return nil, fmt.Errorf("look at interface %d: the kernel says nothing of it", index)
}

// move puts the link into another namespace, where it gets the given name, and
// the given index where that is not 0 and free there. A driver that is still busy
// with going down gets some time.
//
// The kernel looks at the name only when the device has moved already: if it is
// taken there, the device is there under its old name and the answer is EEXIST.
// So the name has to be one that nobody else has.
func (n *Namespace) move(ctx context.Context, index int, to *Namespace, name string, newIndex int) error {
	if newIndex != 0 && newIndex != index {
		// A taken index is found before anything happens, and so is a kernel
		// that does not know the wish (before 5.13).
		if err := n.moveOnce(index, to, name, newIndex); err == nil {
			return nil
		}
	}
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := n.moveOnce(index, to, name, 0)
		if !errors.Is(err, unix.EBUSY) || wait > time.Second {
			return err
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

func (n *Namespace) moveOnce(index int, to *Namespace, name string, newIndex int) error {
	req := n.request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to.file.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if newIndex != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_NEW_IFINDEX, nl.Uint32Attr(uint32(newIndex))))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// sleep waits, and returns the context's cause when it ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
