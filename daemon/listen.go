package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listenFirst is the first descriptor of socket activation (sd_listen_fds(3)).
const listenFirst = 3

// activated returns the number of descriptors that systemd handed over.
func activated() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// takeActivated returns systemd's socket, nil where there is none, and what its
// file-descriptor store has, by name (sd_listen_fds_with_names(3)).
func takeActivated() (socket *os.File, stored map[string]*os.File, err error) {
	n, names := activated(), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, nil, err
		}
	}
	stored = map[string]*os.File{}
	for i := range n {
		name := "unknown"
		if i < len(names) {
			name = names[i]
		}
		// Away from the number that a worker's connection gets.
		fd, err := unix.FcntlInt(uintptr(listenFirst+i), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			return nil, nil, fmt.Errorf("descriptor %s of systemd: %w", name, err)
		}
		unix.Close(listenFirst + i)
		f := os.NewFile(uintptr(fd), name)
		switch {
		case isOurs(name):
			stored[name] = f
		case !isListening(fd):
			return nil, nil, fmt.Errorf("systemd passed a descriptor (%s) that is no listening socket", name)
		case socket != nil:
			return nil, nil, errors.New("systemd passed several sockets, candord has one")
		default:
			socket = f
		}
	}
	return socket, stored, nil
}

func isListening(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v == 1
}

// listen makes a socket, in the place of one that a killed candord left. The
// caller holds candord's lock, so that it takes nobody's socket away.
func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("stale socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	err = withShortPath(path, func(short string) error {
		return unix.Bind(fd, &unix.SockaddrUnix{Name: short})
	})
	if err == nil {
		err = os.Chmod(path, 0o600) // the folder is root's alone already
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "listen", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// serveStatus answers everybody who connects with one line. The worker does it
// and not the supervisor: an answer has to mean that the view is served.
func serveStatus(fd int, status func() Status) {
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			// Another one's descriptor of the same socket is non-blocking.
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, -1)
		case err != nil:
			time.Sleep(time.Millisecond) // EINTR, ECONNABORTED, EMFILE
		default:
			go func() {
				defer unix.Close(conn)
				sendLine(conn, status())
			}()
		}
	}
}

// sendLine sends one line of JSON.
func sendLine(conn int, v any) {
	// A client that does not read must not keep a thread for ever.
	_ = unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1})
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	_, _ = unix.Write(conn, append(b, '\n'))
}
