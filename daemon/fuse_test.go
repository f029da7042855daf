package daemon

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The requests of FUSE that a test's own file systems answer (linux/fuse.h).
const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseInit    = 26
)

// serveFUSE mounts a file system of one node, a file or a directory, on what lies at
// path. INIT and GETATTR are answered; answer may do so with the others, then or
// later. Whoever waits for what is not answered cannot be killed before the end of
// the test.
func (l *lab) serveFUSE(path string, kind uint32, answer func(op uint32, request []byte, reply func([]byte))) {
	l.t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := unix.Mount("test", path, "fuse.test", 0, fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", fd, kind)); err != nil {
		l.t.Fatal(err)
	}
	var st unix.Stat_t
	l.t.Cleanup(func() {
		abort := filepath.Join(l.ctl, strconv.FormatUint(uint64(unix.Minor(st.Dev)), 10), "abort")
		if err := os.WriteFile(abort, []byte("1"), 0); err != nil {
			l.t.Error(err)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			l.t.Error(err)
		}
	})
	go func() {
		defer unix.Close(fd)
		buf := make([]byte, 1<<20)
		for {
			n, err := unix.Read(fd, buf)
			if err == unix.ENODEV {
				return
			}
			if err != nil || n < 40 {
				continue
			}
			op, unique := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:])
			reply := func(body []byte) {
				out := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
				out = binary.NativeEndian.AppendUint32(out, 0)
				out = binary.NativeEndian.AppendUint64(out, unique)
				_, _ = unix.Write(fd, append(out, body...)) // or the reader is gone
			}
			switch op {
			case fuseInit: // struct fuse_init_out, protocol 7.31
				init := make([]byte, 64)
				init[0], init[4] = 7, 31
				init[14] = 4  // FUSE_PARALLEL_DIROPS
				init[21] = 16 // max_write 4096
				reply(init)
			case fuseGetattr: // the test has to know the device
				attr := make([]byte, 104)
				attr[0] = 100 // valid for 100 s
				attr[16] = 1  // node
				binary.NativeEndian.PutUint32(attr[16+60:], kind|0o444)
				attr[16+64] = 2 // links
				reply(attr)
			default:
				answer(op, buf[40:n], reply)
			}
		}
	}()
	if err := unix.Stat(path, &st); err != nil {
		l.t.Fatal(err)
	}
}

// fileThatHangs is a file whose reads can be made to hang.
type fileThatHangs struct {
	mu   sync.Mutex
	text []byte
	hang bool
	held []func([]byte)
}

// hangingFile puts such a file in the place of one.
func (l *lab) hangingFile(path string) *fileThatHangs {
	l.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	f := &fileThatHangs{text: text}
	l.serveFUSE(path, unix.S_IFREG, func(op uint32, request []byte, reply func([]byte)) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case op == fuseOpen: // struct fuse_open_out
			open := make([]byte, 16)
			open[8] = 1 // FOPEN_DIRECT_IO: every read comes here
			reply(open)
		case op == fuseRead && binary.NativeEndian.Uint64(request[8:]) > 0:
			reply(nil) // the end
		case op == fuseRead && f.hang:
			f.held = append(f.held, reply)
		case op == fuseRead:
			reply(f.text)
		default: // FLUSH, RELEASE
			reply(nil)
		}
	})
	return f
}

// letHang has reads wait from now on.
func (f *fileThatHangs) letHang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = true
}

// waiting is the number of reads that hang.
func (f *fileThatHangs) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

// letGo answers all of them, and the next, with another text.
func (f *fileThatHangs) letGo(text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang, f.text = false, text
	for _, reply := range f.held {
		reply(text)
	}
	f.held = nil
}
