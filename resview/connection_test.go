package resview_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// kernel is the kernel's side of a connection, as far as reading a file takes it.
type kernel struct {
	fd     int
	unique atomic.Uint64
}

// connection makes a connection that is not the kernel's: a pair of sockets that
// keep messages apart, as /dev/fuse does. It is left open, for a server's threads
// end with their process alone.
func connection() (fd int, k *kernel, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("socketpair: %w", err)
	}
	return fds[0], &kernel{fd: fds[1]}, nil
}

// The operations of linux/fuse.h, and the root's node.
const (
	opLookup = 1
	opOpen   = 14
	opRead   = 15
	rootNode = 1
)

// read reads a file by its path below the mount.
func (k *kernel) read(path string) (string, error) {
	node := uint64(rootNode)
	for name := range strings.SplitSeq(path, "/") {
		entry, err := k.ask(opLookup, node, append([]byte(name), 0))
		if err != nil {
			return "", fmt.Errorf("look up %s of %s: %w", name, path, err)
		}
		node = binary.NativeEndian.Uint64(entry)
	}
	opened, err := k.ask(opOpen, node, make([]byte, 8))
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	args := binary.NativeEndian.AppendUint64(nil, binary.NativeEndian.Uint64(opened))
	args = binary.NativeEndian.AppendUint64(args, 0)     // offset
	args = binary.NativeEndian.AppendUint32(args, 1<<16) // size
	content, err := k.ask(opRead, node, append(args, make([]byte, 20)...))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(content), nil
}

// ask sends a request and returns what follows the header of its reply.
func (k *kernel) ask(op uint32, node uint64, body []byte) ([]byte, error) {
	b := binary.NativeEndian.AppendUint32(nil, uint32(40+len(body)))
	b = binary.NativeEndian.AppendUint32(b, op)
	b = binary.NativeEndian.AppendUint64(b, k.unique.Add(1))
	b = binary.NativeEndian.AppendUint64(b, node)
	b = append(b, make([]byte, 16)...) // who asks
	if _, err := unix.Write(k.fd, append(b, body...)); err != nil {
		return nil, err
	}
	reply := make([]byte, 1<<17)
	n, err := unix.Read(k.fd, reply)
	if err != nil {
		return nil, err
	}
	if n < 16 {
		return nil, fmt.Errorf("a reply of %d bytes", n)
	}
	if errno := int32(binary.NativeEndian.Uint32(reply[4:])); errno != 0 {
		return nil, unix.Errno(-errno)
	}
	return reply[16:n], nil
}
