package nic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Watch hears of the interfaces that come, go and change in a namespace.
type Watch struct {
	fd int
}

// Watch begins to listen: what happens from now on makes the descriptor of the
// watch readable. The caller closes it.
func (n *Namespace) Watch() (*Watch, error) {
	w := &Watch{fd: -1}
	err := n.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch network interfaces: %w", err), w.Close())
	}
	return w, nil
}

// Fd is for poll(2).
func (w *Watch) Fd() int { return w.fd }

// Drain takes in what was heard. That there was something is all that counts.
func (w *Watch) Drain() error {
	buf := make([]byte, 32<<10)
	for {
		_, _, err := unix.Recvfrom(w.fd, buf, 0)
		switch {
		case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS): // more than the socket could hold
		case errors.Is(err, unix.EAGAIN):
			return nil
		default:
			return fmt.Errorf("watch network interfaces: %w", err)
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error {
	if w.fd < 0 {
		return nil
	}
	return unix.Close(w.fd)
}
