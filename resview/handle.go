package resview

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"candor.dev/candor/resview/layout"
	"golang.org/x/sys/unix"
)

// scratchSize is the size of the buffer in which a thread builds its replies;
// contents of files are sent from where they are.
const scratchSize = 16 << 10

func sortEntries(all []entry) {
	slices.SortFunc(all, func(a, b entry) int {
		if a.next < b.next {
			return -1
		}
		return 1
	})
}

// work is how a request is worked on.
type work struct {
	// alive is called now and then while the request waits for something.
	alive func()
	// replay is set for a request that a dead worker may have answered.
	replay bool
}

// handle answers a request by the ledger and the renderers. buf is the calling
// thread's.
func (s *Server) handle(req request, buf []byte, w work) reply {
	switch req.op {
	case opForget, opBatchForget:
		// No node holds anything that a forgotten one could give back.
		return reply{silent: true}
	case opInit:
		return initReply(buf, req)
	case opLookup:
		return s.lookup(req, buf, w)
	case opGetattr:
		return s.getattr(req, buf, w)
	case opReadlink:
		return s.readlink(req, w)
	case opOpen:
		return s.open(req, buf, w)
	case opRead:
		return s.read(req, w)
	case opRelease:
		return s.release(req)
	case opOpendir:
		return openReply(buf, 0, 0)
	case opReaddir:
		return s.readdir(req, buf, w)
	case opReleasedir, opDestroy:
		return reply{}
	case opStatfs:
		return statfsReply(buf)
	}
	// POLL and GETXATTR: the kernel does not ask again. INTERRUPT too, and
	// of all answers this is the only one that ends them: Go programs are
	// interrupted by their own scheduler all the time. POLL with EIO made
	// Go's os.File fail with "not pollable".
	return failure(unix.ENOSYS)
}

// errno is what the kernel is told of an error.
func errno(err error) reply {
	var e unix.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure(unix.ENOENT)
	case errors.As(err, &e) && (e == unix.ESTALE || e == unix.ENOTDIR):
		return failure(e)
	}
	return failure(unix.EIO)
}

func (s *Server) lookup(req request, buf []byte, w work) reply {
	name, ok := req.name()
	if !ok {
		return failure(unix.EIO)
	}
	if req.node == rootNode {
		c, err := s.tree.lookup(name)
		if err != nil {
			return errno(err) // not an entry of node 0: that would be cached
		}
		// Looked up each time: the same key may be another container's the
		// next time, with other node ids.
		return entryReply(buf, attributes{node: dirNode(c.view.ID)}, 0, time.Now())
	}
	p, ok := s.tree.location(req.node)
	if !ok {
		return failure(unix.ENOTDIR)
	}
	a, valid, err := s.tree.find(p, name, w.alive)
	if err != nil {
		return errno(err)
	}
	return entryReply(buf, a, valid, time.Now())
}

// getattr tells the true size of a file, and for so short a time that the kernel
// asks again at almost every open(2) (the mount has default_permissions for
// that). read(2) does not care for the size, but sendfile(2) and splice(2) do:
// since Linux 6.5 they read through the page cache also where FOPEN_DIRECT_IO is
// set (fuse_splice_read is filemap_splice_read) and stop at the size. With 0, as
// procfs has it, busybox's cat printed nothing.
func (s *Server) getattr(req request, buf []byte, w work) reply {
	if req.node == rootNode {
		return attrReply(buf, attributes{node: rootNode}, forever, time.Now())
	}
	p, ok := s.tree.location(req.node)
	if !ok {
		return failure(unix.ESTALE)
	}
	a := attributes{node: req.node, kind: p.kind}
	if !p.kind.IsFile() {
		return attrReply(buf, a, forever, time.Now()) // a link's size is 0 in sysfs, too
	}
	c, err := s.tree.byID(p.id, w.alive)
	if err != nil {
		return errno(err)
	}
	// Content that cannot be had is told at the read, with its reason.
	v, err := c.read(s.tree.content(c, p), contentAge-sizeAge, w.alive)
	if err != nil {
		return attrReply(buf, a, 0, time.Now())
	}
	a.size = len(v.data)
	return attrReply(buf, a, sizeAge-sizeSlack, time.Now())
}

func (s *Server) open(req request, buf []byte, w work) reply {
	p, ok := s.tree.location(req.node)
	if !ok || !p.kind.IsFile() {
		return failure(unix.EISDIR)
	}
	if _, err := s.tree.byID(p.id, w.alive); err != nil {
		return errno(err)
	}
	return openReply(buf, s.tree.kept.handle(), fopenDirectIO|fopenNoFlush)
}

func (s *Server) read(req request, w work) reply {
	args, ok := req.readArgs()
	if !ok {
		return failure(unix.EIO)
	}
	p, ok := s.tree.location(req.node)
	if !ok || !p.kind.IsFile() {
		return failure(unix.EISDIR)
	}
	c, err := s.tree.byID(p.id, w.alive)
	if err != nil {
		return errno(err)
	}
	f := s.tree.content(c, p)
	data, err := c.readFile(f, args, w)
	if err != nil {
		s.report(c, f.name, err)
		return errno(err)
	}
	return reply{data: data}
}

// readlink answers READLINK, with at most what a buffer of the kernel's holds.
func (s *Server) readlink(req request, w work) reply {
	p, ok := s.tree.location(req.node)
	if !ok || p.kind != layout.Link {
		return failure(unix.EINVAL)
	}
	c, err := s.tree.byID(p.id, w.alive)
	if err != nil {
		return errno(err)
	}
	v, err := c.read(s.tree.content(c, p), contentAge, w.alive)
	if err != nil {
		return errno(err)
	}
	return reply{data: v.data[:min(len(v.data), unix.PathMax-1)]}
}

func (s *Server) release(req request) reply {
	fh, ok := req.fh()
	p, known := s.tree.location(req.node)
	if !ok || !known {
		return reply{}
	}
	s.tree.kept.close(fh)
	// Not byID: nothing is read from the ledger in order to forget.
	s.tree.mu.RLock()
	c := s.tree.containers[p.id]
	s.tree.mu.RUnlock()
	if c != nil {
		c.unpin(fh)
	}
	return reply{}
}

func (s *Server) readdir(req request, buf []byte, w work) reply {
	args, ok := req.readArgs()
	if !ok {
		return failure(unix.EIO)
	}
	entries, err := s.tree.list(req.node, args.offset, w.alive)
	if err != nil {
		return errno(err)
	}
	limit := int(min(args.size, scratchSize))
	b := buf[:0:scratchSize]
	for _, e := range entries {
		if b, ok = putDirent(b, limit, e.node, e.next, e.name, e.kind); !ok {
			break
		}
	}
	return reply{fixed: b}
}
