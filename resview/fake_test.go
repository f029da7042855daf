package resview

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"candor.dev/candor/ledger"
)

// fakeContainer renders "view ID file NUMBER", the number growing each time.
type fakeContainer struct {
	view   ledger.View
	count  atomic.Int64
	fail   atomic.Bool
	hang   chan struct{} // a rendering waits for it when it is not nil
	closed atomic.Bool
	// hangs says which files do; nil is all of them.
	hangs     func(file string) bool
	rendering atomic.Int64
	takes     time.Duration
}

func (f *fakeContainer) Render(dst []byte, file string, _ time.Time) ([]byte, error) {
	f.rendering.Add(1)
	defer f.rendering.Add(-1)
	if f.hang != nil && (f.hangs == nil || f.hangs(file)) {
		<-f.hang
	}
	time.Sleep(f.takes)
	if f.fail.Load() {
		return nil, errors.New("no readings")
	}
	return fmt.Appendf(dst, "view %d %s %d\n", f.view.ID, file, f.count.Add(1)), nil
}

// List gives the files of two CPUs, and no pressure.
func (f *fakeContainer) List(dst []string, directory string, _ time.Time) ([]string, error) {
	if f.hang != nil {
		<-f.hang
	}
	switch directory {
	case "cpu":
		return append(dst, "online", "not-in-the-layout", "cpu0", "cpu5", "cpu6"), nil
	case "cpu/cpu5":
		return append(dst, "online", "node0", "topology"), nil
	case "cpu/cpu5/topology":
		return append(dst, "core_id", "core_cpus_list"), nil
	}
	return dst, fmt.Errorf("list %s: %w", directory, fs.ErrNotExist)
}

func (f *fakeContainer) Close() error {
	f.closed.Store(true)
	return nil
}

// fakes are the containers that a server under test has opened.
type fakes struct {
	byID map[uint64]*fakeContainer
}

func (f *fakes) open(view ledger.View) (Container, error) {
	if c := f.byID[view.ID]; c != nil {
		return c, nil
	}
	return nil, errors.New("no such container")
}

func (f *fakes) add(id uint64) *fakeContainer {
	c := &fakeContainer{view: ledger.View{ID: id}}
	if f.byID == nil {
		f.byID = map[uint64]*fakeContainer{}
	}
	f.byID[id] = c
	return c
}

func newSlots(t testing.TB) *Slots {
	t.Helper()
	s, err := NewSlots()
	if err != nil {
		t.Fatal(err)
	}
	// Not unmapped: a rendering that was left behind may still write there.
	return s
}

func newStore(t testing.TB) *ledger.Store {
	t.Helper()
	store, err := ledger.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func writeRecord(t testing.TB, store *ledger.Store, key string, view *ledger.View) {
	t.Helper()
	lock, err := store.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if err := lock.Write(&ledger.Record{Key: key, ID: key, View: view}); err != nil {
		t.Fatal(err)
	}
}

func eraseRecord(t testing.TB, store *ledger.Store, key string) {
	t.Helper()
	lock, err := store.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if err := lock.Erase(); err != nil {
		t.Fatal(err)
	}
}

// server returns a server that is asked by its methods and not by a kernel.
func server(t testing.TB, store *ledger.Store, slots *Slots, f *fakes, generation uint64) *Server {
	t.Helper()
	return NewServer(Config{FD: -1, Slots: slots, Generation: generation, Store: store, Open: f.open, Threads: 8})
}

func null(t testing.TB) int {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "replies"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}
