package resview

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview/layout"
	"golang.org/x/sys/unix"
)

// Node ids: the root is 1, a container's directory is its View.ID << 16, and
// its files follow from 1. What is in its directories has ids of its own, with
// the highest bit, View.ID << 26 and the number that the path has in package
// layout. Since a View.ID is never used twice, a node id never means another
// container's file, whatever the kernel still caches.
const (
	rootNode  = 1
	nodeShift = 16

	belowBit = 1 << 63
	// maxBelowID is the first View.ID that has no room above a number: after
	// one container each millisecond for four years.
	maxBelowID = 1 << (63 - layout.Bits)

	// idleAge is how long a container is kept in memory after the last read
	// once its record is gone.
	idleAge = time.Minute
	// scanAge is how long a reading of the whole ledger is believed: readers
	// of a dead container, whose id no record has, must not make the worker
	// read it each time.
	scanAge = 100 * time.Millisecond
	// scanWait is how long a request waits for such a reading. It is some
	// 40 us per record.
	scanWait = 5 * time.Second
)

func dirNode(id uint64) uint64            { return id << nodeShift }
func fileNode(id uint64, file int) uint64 { return id<<nodeShift | uint64(file+1) }

func belowNode(id uint64, n layout.Node) uint64 {
	return belowBit | id<<layout.Bits | n.Number()
}

// location is what a node id means.
type location struct {
	id   uint64 // View.ID
	kind layout.Kind
	// file is the position in Files: -1 for the container's directory, and for
	// what is in one of its directories, which has a path.
	file  int
	below layout.Node
	deep  bool // below is set
}

// location reads a node id, of which nothing is believed.
func (t *tree) location(node uint64) (p location, ok bool) {
	if node&belowBit != 0 {
		p = location{id: (node &^ belowBit) >> layout.Bits, file: -1, deep: true}
		p.below, ok = t.layout.Node(node & (1<<layout.Bits - 1))
		p.kind = p.below.Kind()
		return p, ok && p.id != 0
	}
	p = location{id: node >> nodeShift, file: int(node&(1<<nodeShift-1)) - 1}
	if p.file >= len(t.files) {
		return p, false
	}
	if p.file >= 0 && !t.files[p.file].Directory {
		p.kind = layout.File
	}
	return p, p.id != 0
}

// path is the path below the container's directory, "" for that itself.
func (t *tree) path(p location) string {
	switch {
	case p.deep:
		return t.layout.Path(p.below)
	case p.file >= 0:
		return t.files[p.file].Name
	}
	return ""
}

// tree finds containers by the key and by the id of their views.
type tree struct {
	store  Store
	open   OpenFunc
	share  int
	kept   *kept
	layout *layout.Layout
	files  []File
	start  time.Time

	mu         sync.RWMutex
	containers map[uint64]*container

	scanMu  sync.Mutex
	scan    chan struct{} // closed when the reading in progress ends
	scanned time.Time
	listing []entry // of the root, as the last reading found it
}

func newTree(store Store, open OpenFunc, share int, kept *kept) *tree {
	return &tree{
		store:      store,
		open:       open,
		share:      share,
		kept:       kept,
		layout:     layout.New(),
		files:      Files(),
		start:      time.Now(),
		containers: map[uint64]*container{},
	}
}

// lookup returns the container whose record has that key, by the record as it
// is now.
func (t *tree) lookup(key string) (*container, error) {
	if strings.HasPrefix(key, ".") || strings.ContainsRune(key, '/') {
		return nil, unix.ENOENT
	}
	r, err := t.store.Read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unix.ENOENT
	}
	if err != nil {
		return nil, err
	}
	if r.View == nil || r.View.ID == 0 {
		return nil, unix.ENOENT
	}
	return t.add(viewOf(r)), nil
}

// viewOf returns the view of a record that has one.
func viewOf(r *ledger.Record) ledger.View {
	view := *r.View
	view.Init = r.Owner
	return view
}

// add returns the container of the view, which it makes anew when the record
// says something else than before.
func (t *tree) add(view ledger.View) *container {
	t.mu.Lock()
	c := t.containers[view.ID]
	if c != nil && sameReadings(c.view, view) {
		t.mu.Unlock()
		return c
	}
	old := c
	c = newContainer(view, t.open, t.share, t.kept)
	c.used.Store(int64(time.Since(t.start)))
	if old != nil {
		for i := range c.files {
			c.files[i].good.Store(old.files[i].good.Load())
		}
	}
	t.containers[view.ID] = c
	t.mu.Unlock()
	if old != nil {
		go old.close() // it waits for a rendering in progress
	}
	return c
}

// sameReadings leaves out what says nothing of the content: which files are
// bound, and where.
func sameReadings(a, b ledger.View) bool {
	a.Files, b.Files = nil, nil
	a.Rootfs, b.Rootfs = "", ""
	return reflect.DeepEqual(a, b)
}

// byID returns the container of a node. A worker that took a mount over meets
// nodes that it never looked up: then the whole ledger is read.
func (t *tree) byID(id uint64, alive func()) (*container, error) {
	c := t.known(id)
	if c == nil {
		if scan := t.readLedger(); scan != nil && !waitFor(scan, scanWait, alive) {
			return nil, errLate
		}
		if c = t.known(id); c == nil {
			return nil, unix.ESTALE
		}
	}
	c.used.Store(int64(time.Since(t.start)))
	return c, nil
}

func (t *tree) known(id uint64) *container {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.containers[id]
}

// readLedger reads all records, once for all who ask at the same time. It
// returns a channel that is closed when that is done, or nil where it was done
// just now.
func (t *tree) readLedger() <-chan struct{} {
	t.scanMu.Lock()
	defer t.scanMu.Unlock()
	if t.scan != nil {
		return t.scan
	}
	if time.Since(t.scanned) < scanAge {
		return nil
	}
	done := make(chan struct{})
	t.scan = done
	go func() {
		defer close(done)
		// Unreadable records are no reason to leave the others.
		records, _ := t.store.List()
		var listing []entry
		for _, r := range records {
			if r.View != nil && r.View.ID != 0 {
				t.add(viewOf(r))
				listing = append(listing, entry{node: dirNode(r.View.ID), next: r.View.ID + 2, name: r.Key})
			}
		}
		sortEntries(listing)
		t.scanMu.Lock()
		defer t.scanMu.Unlock()
		t.scan, t.scanned, t.listing = nil, time.Now(), listing
	}()
	return done
}

// entry is a name in a directory of the tree.
type entry struct {
	node, next uint64
	name       string
	kind       layout.Kind
}

// list returns the entries of a directory from the given offset on. Offsets
// derive from ids and not from positions, so that a listing which a successor
// goes on with leaves nothing out.
func (t *tree) list(node, offset uint64, alive func()) ([]entry, error) {
	all := []entry{
		{node: node, next: 1, name: "."},
		{node: rootNode, next: 2, name: ".."},
	}
	p, ok := t.location(node)
	switch {
	case node == rootNode:
		if scan := t.readLedger(); scan != nil && !waitFor(scan, scanWait, alive) {
			return nil, errLate
		}
		t.scanMu.Lock()
		all = append(all, t.listing...)
		t.scanMu.Unlock()
	case !ok || p.kind != layout.Directory:
		return nil, unix.ENOTDIR
	case p.file < 0 && !p.deep:
		for i, f := range t.files {
			e := entry{node: fileNode(p.id, i), next: uint64(i) + 3, name: f.Name}
			if !f.Directory {
				e.kind = layout.File
			}
			all = append(all, e)
		}
	default:
		directory := t.path(p)
		names, err := t.names(p.id, directory, alive)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if n, ok := t.layout.Find(directory + "/" + name); ok {
				all = append(all, entry{node: belowNode(p.id, n), next: n.Number() + 3, name: name, kind: n.Kind()})
			}
		}
		sortEntries(all)
	}
	return slices.DeleteFunc(all, func(e entry) bool { return e.next <= offset }), nil
}

// names are the names in a directory of a container.
func (t *tree) names(id uint64, directory string, alive func()) ([]string, error) {
	c, err := t.byID(id, alive)
	if err != nil {
		return nil, err
	}
	v, err := c.read(c.below(directory+"/"), contentAge, alive)
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(v.data)), nil
}

// find returns the node of a name in a container's directory, or in one of the
// directories in it, and how long the kernel may believe that it is there.
func (t *tree) find(p location, name string, alive func()) (attributes, time.Duration, error) {
	if p.kind != layout.Directory {
		return attributes{}, 0, unix.ENOTDIR
	}
	if p.file < 0 && !p.deep {
		for i, f := range t.files {
			if f.Name != name {
				continue
			}
			if f.Optional {
				if _, err := t.names(p.id, name, alive); err != nil {
					return attributes{}, 0, err
				}
			}
			a := attributes{node: fileNode(p.id, i)}
			if !f.Directory {
				a.kind = layout.File
			}
			return a, forever, nil
		}
		return attributes{}, 0, unix.ENOENT
	}
	directory := t.path(p)
	n, known := t.layout.Find(directory + "/" + name)
	if !known || p.id >= maxBelowID {
		return attributes{}, 0, unix.ENOENT
	}
	names, err := t.names(p.id, directory, alive)
	if err != nil {
		return attributes{}, 0, err
	}
	if !slices.Contains(names, name) {
		return attributes{}, 0, unix.ENOENT
	}
	valid := forever
	if t.layout.OfCPU(n) { // they follow quota and cpuset
		valid = contentAge
	}
	return attributes{node: belowNode(p.id, n), kind: n.Kind()}, valid, nil
}

// sweep forgets containers whose record is gone and that nobody reads any more.
func (t *tree) sweep() {
	records, err := t.store.List()
	if err != nil {
		return // an unreadable record may be the one
	}
	known := map[uint64]bool{}
	for _, r := range records {
		if r.View != nil {
			known[r.View.ID] = true
		}
	}
	now := int64(time.Since(t.start))
	var gone []*container
	t.mu.Lock()
	for id, c := range t.containers {
		if !known[id] && now-c.used.Load() > int64(idleAge) {
			delete(t.containers, id)
			gone = append(gone, c)
		}
	}
	t.mu.Unlock()
	for _, c := range gone {
		go c.close()
	}
}

func (t *tree) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.containers)
}
