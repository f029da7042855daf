package ledger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lock(t *testing.T, s *Store, key string) *Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := s.Lock(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRecordIsReadBackAsWritten(t *testing.T) {
	s := open(t)
	want := &Record{
		Key: "c1-0011223344", ID: "c1", Bundle: "/b", State: Attached, Created: time.Unix(1, 0).UTC(), BootID: "boot",
		Owner: Process{PID: 7, StartTime: 9}, NICs: []NIC{{Pool: "cloud", MAC: "52:54:00:00:00:01", MTU: 1500, Up: true}},
		Egress: &Egress{LimitBits: 50e6}, View: &View{ID: 3, Cgroups: map[string]string{"memory": "/c1"}},
	}
	l := lock(t, s, want.Key)
	if err := l.Write(want); err != nil {
		t.Fatal(err)
	}
	got, err := l.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 {
		t.Errorf("List = %d records, %v; want 1", len(list), err)
	}
}

func TestLockOfAnotherKeyCannotWrite(t *testing.T) {
	l := lock(t, open(t), "a-1")
	defer l.Unlock()
	if err := l.Write(&Record{Key: "b-1"}); err == nil {
		t.Error("the lock of a-1 wrote b-1")
	}
}

func TestErasedRecordLeavesNoFile(t *testing.T) {
	s := open(t)
	l := lock(t, s, "c1-1")
	if err := l.Write(&Record{Key: "c1-1"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // erasing twice is no error
		if err := l.Erase(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir())
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := s.Read("c1-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read = %v, want not exist", err)
	}
}

// The lock's file is removed with the record; a waiter that holds the old inode
// must not believe that it has the lock.
func TestLockExcludesWhileRecordsComeAndGo(t *testing.T) {
	s := open(t)
	var held, most int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 30 {
				l, err := s.Lock(t.Context(), "c1-1")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held++
				most = max(most, held)
				mu.Unlock()
				if err := errors.Join(l.Write(&Record{Key: "c1-1"}), l.Erase()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				held--
				mu.Unlock()
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
}

func TestTryLockGivesUpWhereLockWaits(t *testing.T) {
	s := open(t)
	l := lock(t, s, "c1-1")
	if second, err := s.TryLock("c1-1"); second != nil || err != nil {
		t.Fatalf("TryLock = %v, %v; want nil, nil", second, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "c1-1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock = %v, want deadline exceeded", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	lock(t, s, "c1-1").Unlock()
}

func TestRecordOfNewerFormatIsLeftAlone(t *testing.T) {
	s := open(t)
	path := filepath.Join(s.dir(), "c1-1.json")
	if err := os.WriteFile(path, []byte(`{"version": 99, "new": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read("c1-1")
	var version *VersionError
	if !errors.As(err, &version) || version.Version != 99 {
		t.Errorf("Read = %v, want a VersionError of 99", err)
	}
	list, err := s.List()
	if len(list) != 0 || err == nil {
		t.Errorf("List = %v, %v; want none and an error", list, err)
	}
}

func TestViewIDsAreNeverGivenTwice(t *testing.T) {
	s := open(t)
	seen := map[uint64]bool{}
	for range 20 {
		release, err := s.LockAllocator(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.NextViewID()
		release()
		if err != nil || id == 0 || seen[id] {
			t.Fatalf("NextViewID = %d, %v; seen %v", id, err, seen[id])
		}
		seen[id] = true
	}
}

func TestKeyTellsBundlesApart(t *testing.T) {
	if Key("c1", "/run/a/c1") == Key("c1", "/run/b/c1") {
		t.Error("two bundles of one id have one key")
	}
	// Records outlive the candor that wrote them.
	if got, want := Key("c1", "/run/b/c1"), "c1-640a9e0d43"; got != want {
		t.Errorf("Key = %s, was %s in earlier releases", got, want)
	}
}
