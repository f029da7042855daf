//go:build amd64

package crash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// classify says what a call is, and whether it changes anything.
func (t *tracer) classify(number uint64, args [6]uint64) (what string, changes bool, err error) {
	if judge, ok := suspects[number]; ok {
		return judge(t, args)
	}
	if !harmless[number] {
		t.strange = append(t.strange, fmt.Sprintf("system call %d", number))
	}
	return "", false, nil
}

// argument says how one argument of a call reads; "" leaves it out.
type argument func(t *tracer, value uint64) (string, error)

func anything(*tracer, uint64) (string, error) { return "", nil }

func path(t *tracer, at uint64) (string, error) { return t.text(at) }

func descriptor(t *tracer, fd uint64) (string, error) {
	if int32(fd) == unix.AT_FDCWD {
		return "", nil
	}
	return t.file(fd)
}

// names judges a call that changes something whatever its arguments are.
func names(name string, arguments ...argument) judge {
	return func(t *tracer, args [6]uint64) (string, bool, error) {
		what := name
		for i, describe := range arguments {
			text, err := describe(t, args[i])
			if err != nil {
				return "", false, fmt.Errorf("%s: %w", name, err)
			}
			if text != "" {
				what += " " + text
			}
		}
		return what, true, nil
	}
}

// text reads a string of the program's.
func (t *tracer) text(at uint64) (string, error) {
	if at == 0 {
		return "", nil
	}
	b, err := readMemory(t.pid, at, 4096)
	if err != nil {
		return "", err
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	return s, nil
}

// exactly reads n bytes of the program's memory.
func (t *tracer) exactly(at uint64, n int) ([]byte, error) {
	b, err := readMemory(t.pid, at, n)
	if err == nil && len(b) < n {
		err = fmt.Errorf("%d of %d bytes could be read", len(b), n)
	}
	return b, err
}

// file names what a descriptor of the program's is open on.
func (t *tracer) file(fd uint64) (string, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, int32(fd)))
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing", nil // the call will say EBADF
	}
	return name, err
}

// socket says of what family and protocol a descriptor of the program's is, -1
// for one that is no socket.
func (t *tracer) socket(fd uint64) (family, protocol int, err error) {
	copied, err := unix.PidfdGetfd(t.pidfd, int(int32(fd)), 0)
	if errors.Is(err, unix.EBADF) {
		return -1, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(copied)
	family, err = unix.GetsockoptInt(copied, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if errors.Is(err, unix.ENOTSOCK) {
		return -1, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	protocol, err = unix.GetsockoptInt(copied, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return family, protocol, err
}

func (t *tracer) judgeOpenat(args [6]uint64) (string, bool, error) {
	if args[2]&makingFlags == 0 {
		return "", false, nil // what is then written is judged there
	}
	return names("openat", descriptor, path)(t, args)
}

// judgeWrite passes over pipes, terminals and what else has no place in a file
// system; of what is mounted somewhere it takes all.
func (t *tracer) judgeWrite(args [6]uint64) (string, bool, error) {
	name, err := t.file(args[0])
	if err != nil {
		return "", false, err
	}
	return "write " + name, filepath.IsAbs(name) && !strings.HasPrefix(name, "/dev/"), nil
}

func (t *tracer) judgeSendto(args [6]uint64) (string, bool, error) {
	return t.send(args[0], args[1], args[2])
}

func (t *tracer) judgeSendmsg(args [6]uint64) (string, bool, error) {
	// struct msghdr and its first struct iovec: all that netlink users send.
	header, err := t.exactly(args[1], 56)
	if err != nil {
		return "", false, fmt.Errorf("sendmsg: %w", err)
	}
	iovec, err := t.exactly(binary.LittleEndian.Uint64(header[16:]), 16)
	if err != nil {
		return "", false, fmt.Errorf("sendmsg: %w", err)
	}
	return t.send(args[0], binary.LittleEndian.Uint64(iovec), binary.LittleEndian.Uint64(iovec[8:]))
}

func (t *tracer) send(fd, at, size uint64) (string, bool, error) {
	family, protocol, err := t.socket(fd)
	if err != nil {
		return "", false, err
	}
	switch {
	case family == unix.AF_UNIX:
		return "", false, nil // a line for the journal
	case family != unix.AF_NETLINK:
		return fmt.Sprintf("send packet (family %d)", family), true, nil
	case protocol != unix.NETLINK_ROUTE:
		return fmt.Sprintf("netlink protocol %d", protocol), true, nil
	}
	b, err := readMemory(t.pid, at, int(min(size, 64<<10)))
	if err != nil {
		return "", false, err
	}
	what, changes := routeMessages(b)
	return what, changes, nil
}

// judgeBind: a netlink socket's address is nothing that anybody sees, others are.
func (t *tracer) judgeBind(args [6]uint64) (string, bool, error) {
	family, _, err := t.socket(args[0])
	return fmt.Sprintf("bind (family %d)", family), family != unix.AF_NETLINK, err
}

// judgeMmap: a file can be written by writing to memory.
func judgeMmap(t *tracer, args [6]uint64) (string, bool, error) {
	if args[2]&unix.PROT_WRITE == 0 || args[3]&unix.MAP_SHARED == 0 || args[3]&unix.MAP_ANONYMOUS != 0 {
		return "", false, nil
	}
	name, err := t.file(args[4])
	return "mmap " + name, true, err
}

func judgeSetns(_ *tracer, args [6]uint64) (string, bool, error) {
	return "setns " + namespaces(args[1]), true, nil
}

func judgeUnshare(_ *tracer, args [6]uint64) (string, bool, error) {
	return "unshare " + namespaces(args[0]), true, nil
}

func namespaces(flags uint64) string {
	switch flags {
	case unix.CLONE_NEWNET:
		return "network"
	case unix.CLONE_NEWNS:
		return "mounts"
	case unix.CLONE_FS:
		return "root and directory"
	}
	return fmt.Sprintf("%#x", flags)
}

// judgeSignal: signal 0 only asks.
func judgeSignal(name string, which int) judge {
	return func(_ *tracer, args [6]uint64) (string, bool, error) {
		return fmt.Sprintf("%s %d", name, args[which]), args[which] != 0, nil
	}
}

func (t *tracer) judgeIoctl(args [6]uint64) (string, bool, error) {
	switch args[1] {
	case unix.NS_GET_NSTYPE, unix.TCGETS, unix.TIOCGWINSZ:
		return "", false, nil
	case unix.SIOCETHTOOL:
		return t.judgeEthtool(args[2])
	}
	return fmt.Sprintf("ioctl %#x", args[1]), true, nil
}

// judgeEthtool reads struct ifreq, and the command that its data begins with.
func (t *tracer) judgeEthtool(at uint64) (string, bool, error) {
	request, err := t.exactly(at, 24)
	if err != nil {
		return "", false, fmt.Errorf("ioctl SIOCETHTOOL: %w", err)
	}
	command, err := t.exactly(binary.LittleEndian.Uint64(request[16:]), 4)
	if err != nil {
		return "", false, fmt.Errorf("ioctl SIOCETHTOOL: %w", err)
	}
	name := string(bytes.TrimRight(request[:16], "\x00"))
	switch number := binary.LittleEndian.Uint32(command); number {
	case unix.ETHTOOL_GDRVINFO, unix.ETHTOOL_GFEATURES, unix.ETHTOOL_GPERMADDR:
		return "", false, nil
	case unix.ETHTOOL_SFEATURES:
		return "ethtool set features of " + name, true, nil
	default:
		return fmt.Sprintf("ethtool command %#x of %s", number, name), true, nil
	}
}
