package resview

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"candor.dev/candor/ledger"
)

const (
	// contentAge is how long rendered content is given to further readers.
	contentAge = 100 * time.Millisecond
	// sizeAge is how long a size holds that was told: content for which
	// there is that much time left is what an open(2) after it will read.
	// The kernel may believe it for sizeSlack less, the time between the
	// open and its first read.
	sizeAge   = 60 * time.Millisecond
	sizeSlack = 20 * time.Millisecond
	// replayAge is how old content may be with which a request is answered
	// again.
	replayAge = 2 * time.Second
	// renderWait is how long a rendering may take before its readers get the
	// last good content. It counts from the rendering's begin: of one that
	// hangs, the first readers are kept waiting and no others.
	renderWait = 200 * time.Millisecond
	// firstWait is how long a reader waits where there is no content yet; then
	// the read fails. It is longer than the supervisor's patience with a silent
	// request, so the waiting thread says that it is alive.
	firstWait = time.Second
	// crowdWait replaces firstWait for readers above a container's share of
	// the threads. After a worker's death all readers of a container are in
	// this place: a slow machine must have made the first content by then.
	crowdWait = 500 * time.Millisecond
	// crowdAge is how old the last good content may be that such a reader gets
	// at once. For newer content than that it waits, but for less long than
	// others.
	crowdAge = time.Second
	// lostAfter is the age at which a rendering without content before it is
	// given up: nobody waits for it any more. On a starved machine a first
	// content takes seconds.
	lostAfter = 10 * time.Second
	// waitStep is how often a waiting thread says that it is alive.
	waitStep = 50 * time.Millisecond
	// maxPins bounds the contents that are kept for open files of one
	// container.
	maxPins = 512
	// maxBelow bounds the contents that are kept of what is in a container's
	// directories: who reads all of them reads each once.
	maxBelow = 32
)

var errLate = errors.New("rendering takes too long")

// version is content as it was rendered at one time. It is never changed.
type version struct {
	data []byte
	at   time.Time
	// number and keptAt say where it is in the shared memory; 0 is nowhere.
	number uint64
	keptAt int
}

// content is one file of one container, or the names in a directory.
type content struct {
	// name is the file's path below the container's directory; a directory's
	// ends with a slash.
	name string
	age  time.Duration // how long a content is given to further readers
	good atomic.Pointer[version]

	mu     sync.Mutex
	flight *flight // the rendering in progress
	err    error   // of the last rendering
	errAt  time.Time
}

// flight is a rendering in progress.
type flight struct {
	began time.Time
	done  chan struct{} // closed when it ends
}

// container is what the worker keeps for one container of the node.
type container struct {
	view  ledger.View
	open  OpenFunc
	files []content // of Files
	// belowMu guards belows: what is in the directories, by name.
	belowMu sync.Mutex
	belows  map[string]*content
	// share is the number of threads that may wait for this container's
	// renderers at a time: half of all. A reader above it gets the last good
	// content at once, but for what is too old, so that readers of one
	// container, in whatever number, leave threads for all others.
	share   int32
	waiting atomic.Int32
	used    atomic.Int64 // last use, in nanoseconds of the server's clock

	// renderMu is held for reading while something is rendered: one goroutine
	// per file at most, however many readers wait.
	renderMu sync.RWMutex
	openMu   sync.Mutex
	renderer Container
	closed   bool

	pinMu sync.Mutex
	pins  map[uint64]*version
	kept  *kept
}

func newContainer(view ledger.View, open OpenFunc, share int, kept *kept) *container {
	c := &container{
		view:   view,
		open:   open,
		files:  make([]content, len(Files())),
		belows: map[string]*content{},
		share:  int32(max(share, 1)),
		pins:   map[uint64]*version{},
		kept:   kept,
	}
	for i, f := range Files() {
		c.files[i].name, c.files[i].age = f.Name, cmp.Or(f.Age, contentAge)
	}
	return c
}

// below returns the content of what is in one of the directories. Where too many
// hang already it is one that cannot be had.
func (c *container) below(name string) *content {
	c.belowMu.Lock()
	defer c.belowMu.Unlock()
	f := c.belows[name]
	if f == nil {
		if len(c.belows) >= maxBelow && !c.evict() {
			return &content{name: name, err: errLate, errAt: time.Now()}
		}
		f = &content{name: name, age: contentAge}
		c.belows[name] = f
	}
	return f
}

// evict takes any one of the belows away; who reads it now has it. Those that are
// being rendered stay, or each time that somebody asked for one which hangs there
// would be a thread more.
func (c *container) evict() bool {
	for name, f := range c.belows {
		if !f.rendering() {
			delete(c.belows, name)
			return true
		}
	}
	return false
}

// content returns the content of a file or link.
func (t *tree) content(c *container, p location) *content {
	if p.file >= 0 {
		return &c.files[p.file]
	}
	return c.below(t.path(p))
}

// close lets the renderer go, once no rendering is in progress.
func (c *container) close() {
	c.renderMu.Lock()
	defer c.renderMu.Unlock()
	c.closed = true
	if c.renderer != nil {
		_ = c.renderer.Close() // of a container that is gone
		c.renderer = nil
	}
}

// read returns the file's content: not older than age if that can be had in
// time, else the last good one. alive is called now and then while it waits.
func (c *container) read(f *content, age time.Duration, alive func()) (*version, error) {
	good := f.good.Load()
	now := time.Now()
	if good != nil && now.Sub(good.at) < min(age, f.age) {
		return good, nil
	}
	f.mu.Lock()
	going := f.flight
	switch {
	case going != nil:
	case f.err != nil && now.Sub(f.errAt) < contentAge:
		err := f.err
		f.mu.Unlock()
		if good != nil {
			return good, nil
		}
		return nil, err
	default:
		going = &flight{began: now, done: make(chan struct{})}
		f.flight = going
		go c.render(f)
	}
	f.mu.Unlock()

	taken := now.Sub(going.began)
	wait := renderWait - taken
	crowded := c.waiting.Add(1) > c.share
	defer c.waiting.Add(-1)
	switch {
	case good != nil && (wait <= 0 || crowded && now.Sub(good.at) < crowdAge):
		return good, nil
	case good != nil && crowded:
		wait = min(wait, 2*waitStep)
	case good == nil && taken >= lostAfter:
		return nil, errLate
	case good == nil && crowded:
		wait = crowdWait
	case good == nil:
		wait = firstWait
	}
	if !waitFor(going.done, wait, alive) {
		if good != nil {
			return good, nil
		}
		return nil, errLate
	}
	if now := f.good.Load(); now != nil {
		return now, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.err
}

// waitFor waits until done is closed, at most for the given time, and reports
// whether it is. Time that passes while this thread gets no CPU counts little:
// then neither does whoever works for it.
func waitFor(done <-chan struct{}, wait time.Duration, alive func()) bool {
	timer := time.NewTimer(min(wait, waitStep))
	defer timer.Stop()
	for began := time.Now(); ; began = time.Now() {
		select {
		case <-done:
			return true
		case <-timer.C:
			if time.Since(began) < 2*waitStep {
				wait -= waitStep
			} else {
				wait -= waitStep / 4
			}
			if wait <= 0 {
				return false
			}
			alive()
			timer.Reset(min(wait, waitStep))
		}
	}
}

// render renders the file once. It runs on its own, so that readers can leave
// it behind at their deadline.
func (c *container) render(f *content) {
	data, err := c.renderNow(f.name, f.good.Load())
	v := &version{data: data, at: time.Now()}
	if err == nil {
		if !strings.HasSuffix(f.name, "/") { // nobody reads on in a listing
			c.kept.put(v)
		}
		f.good.Store(v)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.errAt = err, v.at
	close(f.flight.done)
	f.flight = nil
}

// rendering reports whether a rendering is in progress.
func (f *content) rendering() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flight != nil
}

func (c *container) renderNow(name string, last *version) (data []byte, err error) {
	c.renderMu.RLock()
	defer c.renderMu.RUnlock()
	// A renderer that panics on one container's odd cgroup file must not
	// take the whole node's view with it.
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("render: panic: %v", p)
		}
	}()
	r, err := c.opened()
	if err != nil {
		return nil, err
	}
	if directory, ok := strings.CutSuffix(name, "/"); ok {
		names, err := r.List(nil, directory, time.Now())
		return []byte(strings.Join(names, "\n")), err
	}
	size := 4096
	if last != nil {
		size = len(last.data) + len(last.data)/8
	}
	return r.Render(make([]byte, 0, size), name, time.Now())
}

func (c *container) opened() (Container, error) {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	if c.closed {
		return nil, errors.New("the container's view is closed")
	}
	if c.renderer == nil {
		r, err := c.open(c.view)
		if err != nil {
			return nil, err
		}
		c.renderer = r
	}
	return c.renderer, nil
}

// pin keeps the content that an open file is being read from, so that a reader
// with a small buffer gets one content and not parts of several.
func (c *container) pin(fh uint64, v *version) {
	c.pinMu.Lock()
	defer c.pinMu.Unlock()
	if _, ok := c.pins[fh]; !ok && len(c.pins) >= maxPins {
		for other := range c.pins {
			delete(c.pins, other) // any: its reader gets the rest of a newer content
			break
		}
	}
	c.pins[fh] = v
}

func (c *container) pinned(fh uint64) *version {
	c.pinMu.Lock()
	defer c.pinMu.Unlock()
	return c.pins[fh]
}

func (c *container) unpin(fh uint64) {
	c.pinMu.Lock()
	defer c.pinMu.Unlock()
	delete(c.pins, fh)
}

// readFile returns up to size bytes at the offset of an open file.
func (c *container) readFile(f *content, a readArgs, w work) ([]byte, error) {
	v := c.pinned(a.fh)
	if v == nil && (a.offset > 0 || w.replay) {
		// The worker that had it is dead.
		if v = c.kept.find(a.fh); v != nil {
			c.pin(a.fh, v)
		}
	}
	// The start of a file is as it is now, also for those who keep it open
	// and read it again (top). But where a dead worker may have answered just
	// that, the reader has to get the rest of the same.
	age := f.age
	if w.replay {
		age = replayAge
	}
	if v == nil || a.offset == 0 && time.Since(v.at) >= age {
		var err error
		if v, err = c.read(f, contentAge, w.alive); err != nil {
			return nil, err
		}
		c.pin(a.fh, v)
		c.kept.open(a.fh, v)
	}
	if a.offset >= uint64(len(v.data)) {
		return nil, nil
	}
	data := v.data[a.offset:]
	return data[:min(uint64(len(data)), uint64(a.size))], nil
}
