package resview

import (
	"encoding/binary"
	"errors"
	"time"

	"candor.dev/candor/resview/layout"
	"golang.org/x/sys/unix"
)

// The part of the FUSE protocol that a read-only tree needs
// (include/uapi/linux/fuse.h, protocol 7.31 and newer). All numbers are in the
// machine's byte order, which is little-endian wherever candor is built for.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opReadlink    = 5
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opGetxattr    = 22
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opDestroy     = 38
	opPoll        = 40
	opBatchForget = 42
)

const (
	inHeaderSize  = 40
	outHeaderSize = 16
	attrSize      = 88
	direntSize    = 24

	fopenDirectIO = 1 << 0
	fopenNoFlush  = 1 << 5

	initParallelDirops = 1 << 18

	protocolMajor = 7
	protocolMinor = 40
	// maxWrite is the least that the kernel accepts. It keeps the least size
	// of a read(2) at 8192 bytes, which is what a slot holds.
	maxWrite = 4096

	// forever is how long the kernel may keep what cannot change.
	forever = 1_000_000 * time.Second
)

var le = binary.LittleEndian

var errShort = errors.New("request is shorter than its header says")

// request is one request of the kernel, lying in a slot.
type request struct {
	op     uint32
	unique uint64
	node   uint64
	body   []byte
}

// parseRequest reads the request at the start of b. Nothing in b is trusted: a
// worker that is killed during its read(2) may leave the header of one request
// with the arguments of an earlier one.
func parseRequest(b []byte) (request, error) {
	if len(b) < inHeaderSize {
		return request{}, errShort
	}
	r := request{op: le.Uint32(b[4:]), unique: le.Uint64(b[8:]), node: le.Uint64(b[16:])}
	n := le.Uint32(b)
	if n < inHeaderSize || uint64(n) > uint64(len(b)) {
		return r, errShort
	}
	r.body = b[inHeaderSize:n:n]
	return r, nil
}

// name returns the body as the file name that it holds, NUL-terminated.
func (r request) name() (string, bool) {
	for i, c := range r.body {
		if c == 0 {
			return string(r.body[:i]), i > 0
		}
	}
	return "", false
}

// readArgs are the arguments of READ and READDIR.
type readArgs struct {
	fh     uint64
	offset uint64
	size   uint32
}

func (r request) readArgs() (readArgs, bool) {
	if len(r.body) < 20 {
		return readArgs{}, false
	}
	return readArgs{fh: le.Uint64(r.body), offset: le.Uint64(r.body[8:]), size: le.Uint32(r.body[16:])}, true
}

// fh returns the file handle of RELEASE, which comes first in its body.
func (r request) fh() (uint64, bool) {
	if len(r.body) < 8 {
		return 0, false
	}
	return le.Uint64(r.body), true
}

// reply is the answer to one request.
type reply struct {
	errno unix.Errno
	// fixed lies in the thread's own buffer; data may be shared with other
	// readers and is not changed.
	fixed []byte
	data  []byte
	// silent is set for the requests that get no answer at all.
	silent bool
}

func failure(errno unix.Errno) reply { return reply{errno: errno} }

func putHeader(b []byte, unique uint64, r reply) {
	n := outHeaderSize
	var code int32
	if r.errno != 0 {
		code = -int32(r.errno)
	} else {
		n += len(r.fixed) + len(r.data)
	}
	le.PutUint32(b, uint32(n))
	le.PutUint32(b[4:], uint32(code))
	le.PutUint64(b[8:], unique)
}

// attributes are all that a node of the tree has.
type attributes struct {
	node uint64
	kind layout.Kind
	size int // in bytes, of a file
}

func (a attributes) mode() uint32 {
	switch a.kind {
	case layout.Directory:
		return unix.S_IFDIR | 0o555
	case layout.Link:
		return unix.S_IFLNK | 0o777
	}
	return unix.S_IFREG | 0o444
}

// put writes struct fuse_attr.
func (a attributes) put(b []byte, now time.Time) {
	clear(b[:attrSize])
	sec, nsec := uint64(now.Unix()), uint32(now.Nanosecond())
	le.PutUint64(b, a.node)
	le.PutUint64(b[8:], uint64(a.size))
	for _, at := range []int{24, 32, 40} {
		le.PutUint64(b[at:], sec)
	}
	for _, at := range []int{48, 52, 56} {
		le.PutUint32(b[at:], nsec)
	}
	le.PutUint32(b[60:], a.mode())
	// 1 for directories as well: it says nothing of how many are in it.
	le.PutUint32(b[64:], 1)
	le.PutUint32(b[80:], 4096) // preferred size of reads
}

// attrReply answers GETATTR. valid is how long the kernel may believe it.
func attrReply(buf []byte, a attributes, valid time.Duration, now time.Time) reply {
	b := buf[:16+attrSize]
	clear(b)
	le.PutUint64(b, uint64(valid/time.Second))
	le.PutUint32(b[8:], uint32(valid%time.Second))
	a.put(b[16:], now)
	return reply{fixed: b}
}

// entryReply answers LOOKUP. valid is how long the kernel may believe that the
// name means this node. It never believes the attributes of a file, whose size it
// has to ask for.
func entryReply(buf []byte, a attributes, valid time.Duration, now time.Time) reply {
	b := buf[:40+attrSize]
	clear(b)
	le.PutUint64(b, a.node)
	le.PutUint64(b[16:], uint64(valid/time.Second))
	le.PutUint32(b[32:], uint32(valid%time.Second))
	if !a.kind.IsFile() {
		le.PutUint64(b[24:], uint64(forever/time.Second))
	}
	a.put(b[40:], now)
	return reply{fixed: b}
}

// openReply answers OPEN and OPENDIR.
func openReply(buf []byte, fh uint64, flags uint32) reply {
	b := buf[:16]
	clear(b)
	le.PutUint64(b, fh)
	le.PutUint32(b[8:], flags)
	return reply{fixed: b}
}

func statfsReply(buf []byte) reply {
	b := buf[:80]
	clear(b)
	le.PutUint32(b[40:], 4096) // bsize
	le.PutUint32(b[44:], 255)  // namelen
	le.PutUint32(b[48:], 4096) // frsize
	return reply{fixed: b}
}

// initReply answers INIT. The answer holds no state, so that a successor can
// give it as well; it must stay the same over all releases that may take a
// mount over from each other.
func initReply(buf []byte, req request) reply {
	if len(req.body) < 16 {
		return failure(unix.EIO)
	}
	b := buf[:64]
	clear(b)
	le.PutUint32(b, protocolMajor)
	if major := le.Uint32(req.body); major > protocolMajor {
		// A newer kernel asks again with our major (fuse.h, fuse_init_in).
		return reply{fixed: b}
	} else if major < protocolMajor {
		return failure(unix.EPROTO)
	}
	le.PutUint32(b[4:], min(le.Uint32(req.body[4:]), protocolMinor))
	le.PutUint32(b[8:], le.Uint32(req.body[8:]))
	// Without it one LOOKUP that hangs holds up every other in the same
	// directory.
	le.PutUint32(b[12:], le.Uint32(req.body[12:])&initParallelDirops)
	le.PutUint16(b[16:], 12) // max_background
	le.PutUint16(b[18:], 9)  // congestion_threshold
	le.PutUint32(b[20:], maxWrite)
	le.PutUint32(b[24:], 1) // time_gran
	return reply{fixed: b}
}

// putDirent appends a directory entry; next is the offset from which the
// listing goes on after it. It returns b unchanged and false where the entry
// does not fit into limit bytes.
func putDirent(b []byte, limit int, node, next uint64, name string, what layout.Kind) ([]byte, bool) {
	size := (direntSize + len(name) + 7) &^ 7
	if len(b)+size > limit {
		return b, false
	}
	kind := uint32(unix.DT_REG)
	switch what {
	case layout.Directory:
		kind = unix.DT_DIR
	case layout.Link:
		kind = unix.DT_LNK
	}
	start := len(b)
	b = le.AppendUint64(b, node)
	b = le.AppendUint64(b, next)
	b = le.AppendUint32(b, uint32(len(name)))
	b = le.AppendUint32(b, kind)
	b = append(b, name...)
	for len(b) < start+size {
		b = append(b, 0)
	}
	return b, true
}
