package ledger

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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

// One that is broken is told, and the others are listed.
func TestDamagedRecordsAreTold(t *testing.T) {
	s := open(t)
	l := lock(t, s, "good-1")
	if err := l.Write(&Record{Key: "good-1"}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty-1.json":    "",
		"cut-1.json":      `{"version": 1, "key": "cut-1", "nics": [{"mac": "52:54:00:00:00:01"`,
		"garbage-1.json":  "\x00\xff",
		"list-1.json":     "[]",
		"types-1.json":    `{"version": 1, "key": "types-1", "nics": 7}`,
		"copy-1.json":     `{"version": 1, "key": "good-1"}`,
		"escape-1.json":   `{"version": 1, "key": "../../etc/passwd"}`,
		"newer-1.json":    `{"version": 99, "mac": "52:54:00:00:00:99"}`,
		"versions-1.json": `{"version": "1"}`,
	} {
		if err := os.WriteFile(filepath.Join(s.dir(), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir(), "folder-1.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if len(list) != 1 || list[0].Key != "good-1" {
		t.Errorf("List = %v, want good-1", list)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 10 {
		t.Fatalf("List: %v, want 10 errors", err)
	}
	for _, err := range joined.Unwrap() {
		var unreadable *UnreadableError
		var version *VersionError
		if !errors.As(err, &unreadable) && !errors.As(err, &version) {
			t.Errorf("%v (%T) is neither an UnreadableError nor a VersionError", err, err)
		}
	}
	for _, mac := range []string{"52:54:00:00:00:01", "52:54:00:00:00:99"} {
		if Concerning(err, mac) == nil {
			t.Errorf("%s stands in a record that cannot be read, and is not found there", mac)
		}
	}
	if err := Concerning(err, "52:54:00:00:00:02"); err != nil {
		t.Errorf("no record names 52:54:00:00:00:02, and it is refused: %v", err)
	}
	if err := Concerning(errors.Join(fs.ErrPermission), "52:54:00:00:00:02"); err == nil {
		t.Error("a ledger that cannot be listed is taken for an empty one")
	}
}

// runc takes ids that begin with a dot.
func TestHiddenIDIsListed(t *testing.T) {
	s := open(t)
	for _, id := range []string{".c1", "_c1", ".tmp-1", ".c1.json"} {
		l := lock(t, s, Key(id, "/b"))
		if err := l.Write(&Record{Key: Key(id, "/b"), ID: id}); err != nil {
			t.Fatal(err)
		}
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 4 {
		t.Errorf("List = %d records, %v; want 4", len(list), err)
	}
}

func TestTidyTakesOnlyWhatNobodyNeeds(t *testing.T) {
	s := open(t)
	held := lock(t, s, "held-1")
	recorded := lock(t, s, "recorded-1")
	if err := recorded.Write(&Record{Key: "recorded-1"}); err != nil {
		t.Fatal(err)
	}
	if err := recorded.Unlock(); err != nil {
		t.Fatal(err)
	}
	// Killed while it wrote its first record; somebody is at the other one.
	for _, name := range []string{"dead-1.lock", "dead-1.json.tmp", "held-1.json.tmp"} {
		if err := os.WriteFile(filepath.Join(s.dir(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"held-1.json.tmp", "held-1.lock", "recorded-1.json", "recorded-1.lock"}; !slices.Equal(names, want) {
		t.Errorf("left are %v, want %v", names, want)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// What a killed writer left does not stay beside the record that is written next,
// nor after it.
func TestCutShortWriteIsForgotten(t *testing.T) {
	s := open(t)
	l := lock(t, s, "c1-1")
	if err := os.WriteFile(filepath.Join(s.dir(), "c1-1.json.tmp"), bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(&Record{Key: "c1-1", ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Read(); err != nil || r.ID != "c1" {
		t.Errorf("record %+v, %v", r, err)
	}
	if err := os.WriteFile(filepath.Join(s.dir(), "c1-1.json.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Erase(), l.Unlock()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.dir()); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
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
