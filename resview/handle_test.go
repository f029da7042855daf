package resview

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

func makeRequest(op uint32, node uint64, body []byte) request {
	b := make([]byte, inHeaderSize, inHeaderSize+len(body))
	le.PutUint32(b, uint32(inHeaderSize+len(body)))
	le.PutUint32(b[4:], op)
	le.PutUint64(b[8:], 7)
	le.PutUint64(b[16:], node)
	r, err := parseRequest(append(b, body...))
	if err != nil {
		panic(err)
	}
	return r
}

func readBody(fh, offset uint64, size uint32) []byte {
	b := make([]byte, 40)
	le.PutUint64(b, fh)
	le.PutUint64(b[8:], offset)
	le.PutUint32(b[16:], size)
	return b
}

// client asks a server as the kernel would.
type client struct {
	t testing.TB
	s *Server
}

func (c client) ask(op uint32, node uint64, body []byte) reply {
	return c.s.handle(makeRequest(op, node, body), make([]byte, scratchSize), work{alive: func() {}})
}

func (c client) lookup(node uint64, name string) (uint64, unix.Errno) {
	r := c.ask(opLookup, node, append([]byte(name), 0))
	if r.errno != 0 {
		return 0, r.errno
	}
	return le.Uint64(r.fixed), 0
}

// file looks a file up by its path, as open_tree would.
func (c client) file(key, name string) uint64 {
	c.t.Helper()
	dir, errno := c.lookup(rootNode, key)
	if errno != 0 {
		c.t.Fatalf("lookup %s: %v", key, errno)
	}
	node, errno := c.lookup(dir, name)
	if errno != 0 {
		c.t.Fatalf("lookup %s: %v", name, errno)
	}
	return node
}

func (c client) open(node uint64) uint64 {
	c.t.Helper()
	r := c.ask(opOpen, node, make([]byte, 8))
	if r.errno != 0 {
		c.t.Fatalf("open %#x: %v", node, r.errno)
	}
	return le.Uint64(r.fixed)
}

func (c client) read(node, fh, offset uint64, size uint32) string {
	c.t.Helper()
	r := c.ask(opRead, node, readBody(fh, offset, size))
	if r.errno != 0 {
		c.t.Fatalf("read %#x at %d: %v", node, offset, r.errno)
	}
	return string(r.data)
}

// list gives the names in a directory, those of directories with a slash and
// those of links with an @, as ls -F does.
func (c client) list(node uint64, size uint32) (names []string) {
	c.t.Helper()
	for offset := uint64(0); ; {
		r := c.ask(opReaddir, node, readBody(0, offset, size))
		if r.errno != 0 {
			c.t.Fatal(r.errno)
		}
		b := r.fixed
		if len(b) == 0 {
			return names
		}
		for len(b) > 0 {
			n := int(le.Uint32(b[16:]))
			offset = le.Uint64(b[8:])
			name := string(b[direntSize : direntSize+n])
			switch kind := le.Uint32(b[20:]); {
			case kind == unix.DT_DIR && strings.Trim(name, ".") != "" && node != rootNode:
				name += "/"
			case kind == unix.DT_LNK:
				name += "@"
			}
			names = append(names, name)
			b = b[(direntSize+n+7)&^7:]
		}
	}
}

func TestEveryFileIsFoundAndRead(t *testing.T) {
	store, f := newStore(t), &fakes{}
	writeRecord(t, store, "c1-aa", &ledger.View{ID: 5})
	f.add(5)
	c := client{t, server(t, store, newSlots(t), f, 1)}
	for i, file := range Files() {
		if file.Directory {
			continue
		}
		node := c.file("c1-aa", file.Name)
		if want := uint64(5<<16 | (i + 1)); node != want {
			t.Errorf("node of %s = %#x, want %#x", file.Name, node, want)
		}
		fh := c.open(node)
		want := fmt.Sprintf("view 5 %s ", file.Name)
		got := c.read(node, fh, 0, 4096)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s = %q, want %q", file.Name, got, want)
		}
		if rest := c.read(node, fh, uint64(len(got)), 4096); rest != "" {
			t.Errorf("%s at its end = %q", file.Name, rest)
		}
	}
}

// sendfile(2) stops at the size that the kernel was told.
func TestASizeIsThatOfTheContentThatIsReadNext(t *testing.T) {
	store, f := newStore(t), &fakes{}
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	c := client{t, server(t, store, newSlots(t), f, 1)}
	node := c.file("c1", "meminfo")
	for range 5 {
		r := c.ask(opGetattr, node, make([]byte, 16))
		if r.errno != 0 {
			t.Fatalf("getattr: %v", r.errno)
		}
		size, valid := le.Uint64(r.fixed[16+8:]), time.Duration(le.Uint32(r.fixed[8:]))
		if le.Uint64(r.fixed) != 0 || valid <= 0 || valid > sizeAge {
			t.Errorf("believed for %d s and %s, content changes after %s", le.Uint64(r.fixed), valid, contentAge)
		}
		time.Sleep(valid) // the last moment at which the kernel may not ask again
		if got := c.read(node, c.open(node), 0, 4096); uint64(len(got)) != size {
			t.Errorf("size %d, then %d bytes: %q", size, len(got), got)
		}
		time.Sleep(30 * time.Millisecond)
	}
	// What was looked up is never believed to have the size 0.
	dir, _ := c.lookup(rootNode, "c1")
	r := c.ask(opLookup, dir, append([]byte("meminfo"), 0))
	if r.errno != 0 || le.Uint64(r.fixed[24:]) != 0 || le.Uint32(r.fixed[36:]) != 0 {
		t.Errorf("attributes of a looked-up file are believed: % x", r.fixed[:40])
	}
}

func TestLookupGoesByTheRecordOfNow(t *testing.T) {
	store, f := newStore(t), &fakes{}
	c := client{t, server(t, store, newSlots(t), f, 1)}
	if _, errno := c.lookup(rootNode, "c1"); errno != unix.ENOENT {
		t.Errorf("before the record: %v", errno)
	}
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	node := c.file("c1", "meminfo")
	fh := c.open(node)
	first := c.read(node, fh, 0, 4096)
	// The container died, and another with its id and bundle came.
	eraseRecord(t, store, "c1")
	if _, errno := c.lookup(rootNode, "c1"); errno != unix.ENOENT {
		t.Errorf("after the record: %v", errno)
	}
	writeRecord(t, store, "c1", &ledger.View{ID: 6})
	f.add(6)
	second := c.file("c1", "meminfo")
	if second == node {
		t.Error("the new container has the old one's node")
	}
	if got := c.read(second, c.open(second), 0, 4096); !strings.HasPrefix(got, "view 6 ") {
		t.Errorf("the new container reads %q", got)
	}
	if got := c.read(node, fh, 0, 4096); got != first {
		t.Errorf("a node that is bound still reads %q, want %q", got, first)
	}
}

func TestOddNamesAreNotFound(t *testing.T) {
	store := newStore(t)
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	writeRecord(t, store, "nic-only", nil)
	c := client{t, server(t, store, newSlots(t), &fakes{}, 1)}
	for _, name := range []string{"..", ".", ".tmp-1", "../ledger/c1", "c1/../c1", "nic-only", "c1.json", "C1"} {
		if _, errno := c.lookup(rootNode, name); errno != unix.ENOENT {
			t.Errorf("lookup %q: %v", name, errno)
		}
	}
	if _, errno := c.lookup(dirNode(5), "version"); errno != unix.ENOENT {
		t.Errorf("lookup of a file that is not there: %v", errno)
	}
	if _, errno := c.lookup(fileNode(5, 0), "x"); errno != unix.ENOTDIR {
		t.Errorf("lookup below a file: %v", errno)
	}
}

func TestSuccessorFindsNodesByTheirID(t *testing.T) {
	store, f := newStore(t), &fakes{}
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	c := client{t, server(t, store, newSlots(t), f, 2)}
	node := fileNode(5, 1)
	if got := c.read(node, 99, 0, 4096); !strings.HasPrefix(got, "view 5 stat ") {
		t.Errorf("read = %q", got)
	}
	for range 3 {
		if r := c.ask(opRead, fileNode(77, 1), readBody(1, 0, 10)); r.errno != unix.ESTALE {
			t.Errorf("a node without a record: %v", r.errno)
		}
		if r := c.ask(opOpen, fileNode(77, 1), make([]byte, 8)); r.errno != unix.ESTALE {
			t.Errorf("a node without a record: %v", r.errno)
		}
	}
}

func TestListings(t *testing.T) {
	store := newStore(t)
	for i := range 3 {
		writeRecord(t, store, fmt.Sprintf("c%d", i), &ledger.View{ID: uint64(9 - i)})
	}
	writeRecord(t, store, "nic-only", nil)
	c := client{t, server(t, store, newSlots(t), &fakes{}, 1)}
	for _, size := range []uint32{40, 64, 4096, 1 << 20} {
		if got := strings.Join(c.list(rootNode, size), " "); got != ". .. c2 c1 c0" {
			t.Errorf("root in pieces of %d: %s", size, got)
		}
	}
	if got := strings.Join(c.list(dirNode(9), 4096), " "); got != ". .. meminfo stat cpuinfo diskstats loadavg swaps cpu-online vmstat zoneinfo slabinfo cpu/ node/ pressure/ uptime" {
		t.Errorf("container: %s", got)
	}
}

func TestInitNegotiatesAlwaysTheSame(t *testing.T) {
	c := client{t, server(t, newStore(t), newSlots(t), &fakes{}, 1)}
	body := make([]byte, 64)
	le.PutUint32(body, 7)
	le.PutUint32(body[4:], 45)
	le.PutUint32(body[8:], 131072)
	le.PutUint32(body[12:], 0x73fffffb) // as Linux 6.18 offers
	r := c.ask(opInit, 0, body)
	want := make([]byte, 64)
	le.PutUint32(want, 7)
	le.PutUint32(want[4:], 40)
	le.PutUint32(want[8:], 131072)
	le.PutUint32(want[12:], 1<<18)
	le.PutUint16(want[16:], 12)
	le.PutUint16(want[18:], 9)
	le.PutUint32(want[20:], 4096)
	le.PutUint32(want[24:], 1)
	if r.errno != 0 || !bytes.Equal(r.fixed, want) {
		t.Errorf("init: %v %x, want %x", r.errno, r.fixed, want)
	}
}

func TestWhatIsNotServed(t *testing.T) {
	c := client{t, server(t, newStore(t), newSlots(t), &fakes{}, 1)}
	for _, op := range []uint32{opInterrupt, opPoll, opGetxattr, opFlush, 3000} {
		if r := c.ask(op, rootNode, make([]byte, 64)); r.errno != unix.ENOSYS || r.silent {
			t.Errorf("opcode %d: %v", op, r.errno)
		}
	}
	for _, op := range []uint32{opForget, opBatchForget} {
		if r := c.ask(op, rootNode, make([]byte, 64)); !r.silent {
			t.Errorf("opcode %d is answered", op)
		}
	}
}

// FuzzRequest gives the server what a slot may hold: anything.
func FuzzRequest(f *testing.F) {
	for _, op := range []uint32{opLookup, opForget, opGetattr, opOpen, opRead, opStatfs, opRelease, opGetxattr, opFlush, opInit, opOpendir, opReaddir, opReleasedir, opInterrupt, opDestroy, opPoll, opBatchForget} {
		b := make([]byte, 104)
		le.PutUint32(b, uint32(len(b)))
		le.PutUint32(b[4:], op)
		le.PutUint64(b[8:], 1)
		le.PutUint64(b[16:], 5<<16|1)
		copy(b[40:], readBody(1, 0, 4096))
		f.Add(b)
	}
	for _, node := range []uint64{5<<16 | 11, 5<<16 | 13, belowBit | 5<<26, belowBit | 5<<26 | 5<<13 | 12, belowBit | 5<<26 | 5<<13 | 14} {
		for _, op := range []uint32{opLookup, opGetattr, opReadlink, opOpen, opRead, opReaddir} {
			b := make([]byte, 104)
			le.PutUint32(b, uint32(len(b)))
			le.PutUint32(b[4:], op)
			le.PutUint64(b[8:], 1)
			le.PutUint64(b[16:], node)
			copy(b[40:], readBody(1, 0, 4096))
			if op == opLookup {
				copy(b[40:], "cpu5\x00")
			}
			f.Add(b)
		}
	}
	store, fs := newStore(f), &fakes{}
	writeRecord(f, store, "c1", &ledger.View{ID: 5})
	fs.add(5)
	s := server(f, store, newSlots(f), fs, 1)
	buf := make([]byte, scratchSize)
	header := make([]byte, outHeaderSize)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > slotRequest {
			return
		}
		req, err := parseRequest(b)
		if err != nil {
			return
		}
		r := s.handle(req, buf, work{alive: func() {}})
		putHeader(header, req.unique, r)
		if n := int(le.Uint32(header)); n < outHeaderSize || r.errno == 0 && n != outHeaderSize+len(r.fixed)+len(r.data) {
			t.Errorf("reply of %d bytes", n)
		}
		if code := int32(le.Uint32(header[4:])); code > 0 || code <= -512 {
			t.Errorf("error code %d: the kernel refuses it", code)
		}
		if a, ok := req.readArgs(); ok && (req.op == opRead || req.op == opReaddir) && len(r.data)+len(r.fixed) > int(a.size) {
			t.Errorf("%d bytes for a read of %d", len(r.data)+len(r.fixed), a.size)
		}
	})
}
