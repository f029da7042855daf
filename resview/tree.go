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
	"golang.org/x/sys/unix"
)

// Node ids: the root is 1, a container's directory is its View.ID << 16, and
// its files follow from 1. Since a View.ID is never used twice, a node id never
// means another container's file, whatever the kernel still caches.
const (
	rootNode  = 1
	nodeShift = 16

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

// splitNode returns the container and the file of a node; file is -1 for the
// container's directory.
func splitNode(node uint64) (id uint64, file int, ok bool) {
	id, file = node>>nodeShift, int(node&(1<<nodeShift-1))-1
	return id, file, id != 0 && file < len(Files())
}

// tree finds containers by the key and by the id of their views.
type tree struct {
	store *ledger.Store
	open  OpenFunc
	share int
	kept  *kept
	start time.Time

	mu         sync.RWMutex
	containers map[uint64]*container

	scanMu  sync.Mutex
	scan    chan struct{} // closed when the reading in progress ends
	scanned time.Time
	listing []entry // of the root, as the last reading found it
}

func newTree(store *ledger.Store, open OpenFunc, share int, kept *kept) *tree {
	return &tree{
		store:      store,
		open:       open,
		share:      share,
		kept:       kept,
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
	return t.add(*r.View), nil
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
				t.add(*r.View)
				listing = append(listing, entry{node: dirNode(r.View.ID), next: r.View.ID + 2, name: r.Key, dir: true})
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
	dir        bool
}

// list returns the entries of a directory from the given offset on. Offsets
// derive from ids and not from positions, so that a listing which a successor
// goes on with leaves nothing out.
func (t *tree) list(node, offset uint64, alive func()) ([]entry, error) {
	all := []entry{
		{node: node, next: 1, name: ".", dir: true},
		{node: rootNode, next: 2, name: "..", dir: true},
	}
	if node == rootNode {
		if scan := t.readLedger(); scan != nil && !waitFor(scan, scanWait, alive) {
			return nil, errLate
		}
		t.scanMu.Lock()
		all = append(all, t.listing...)
		t.scanMu.Unlock()
	} else {
		id, _, _ := splitNode(node)
		for i, f := range Files() {
			all = append(all, entry{node: fileNode(id, i), next: uint64(i) + 3, name: f.Name})
		}
	}
	return slices.DeleteFunc(all, func(e entry) bool { return e.next <= offset }), nil
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
