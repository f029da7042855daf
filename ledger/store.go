package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names of files in the ledger. No key ends in one of the suffixes: it ends in
// the bundle's hash.
const (
	recordSuffix = ".json"
	lockSuffix   = ".lock"
	tempSuffix   = ".tmp"
)

// Store is the ledger of one node.
type Store struct {
	stateDir string
}

// VersionError is returned for a record that another release of candor wrote
// in a format that this one does not know. Such a record is left as it is.
type VersionError struct {
	Path    string
	Version int

	content []byte
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("ledger: %s has format %d, this candor knows %d: use the candor that wrote it", e.Path, e.Version, Version)
}

// UnreadableError is returned for a record that is damaged, or whose file bears
// another one's name. What it stands for is not known, so that it is left as it
// is, and whatever it names with it.
type UnreadableError struct {
	Path string
	Err  error

	content []byte
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("ledger: %s is damaged (%v): see what it names, then remove it", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *UnreadableError) Unwrap() error { return e.Err }

var errLocked = errors.New("ledger: lock is held")

// Open returns the ledger below the state directory, which has to exist.
func Open(stateDir string) (*Store, error) {
	s := &Store{stateDir: stateDir}
	if err := os.Mkdir(s.dir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	return s, nil
}

// Look returns the ledger below the state directory without making it: for
// those who only look. Where there is none, [Store.List] fails with an error
// wrapping [fs.ErrNotExist].
func Look(stateDir string) *Store { return &Store{stateDir: stateDir} }

func (s *Store) dir() string { return filepath.Join(s.stateDir, "ledger") }

func (s *Store) path(key string) string { return filepath.Join(s.dir(), key+recordSuffix) }

// Has reports whether there is a record of that key, one that can be read or not.
// Where there is no telling, there is one.
func (s *Store) Has(key string) bool {
	_, err := os.Lstat(s.path(key))
	return !errors.Is(err, fs.ErrNotExist)
}

// Read returns the record of that key, an error wrapping [fs.ErrNotExist] where
// there is none, or a [VersionError].
func (s *Store) Read(key string) (*Record, error) {
	path := s.path(key)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decode(path, key, b)
}

func decode(path, key string, b []byte) (*Record, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, &UnreadableError{Path: path, Err: err, content: b}
	}
	if head.Version > Version || head.Version < Version-1 || head.Version < 1 {
		return nil, &VersionError{Path: path, Version: head.Version, content: b}
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, &UnreadableError{Path: path, Err: err, content: b}
	}
	if r.Key != key {
		return nil, &UnreadableError{Path: path, Err: fmt.Errorf("it is the record of %q", r.Key), content: b}
	}
	return &r, nil
}

// Concerning returns what of the error of [Store.List] has to do with a text, such
// as a MAC address: a record that could not be read and names it, or an error of
// another kind; nil where neither is there. One damaged record shall not keep
// every other container from starting.
func Concerning(err error, text string) error {
	if err == nil {
		return nil
	}
	each := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		each = joined.Unwrap()
	}
	for _, err := range each {
		var content []byte
		var unreadable *UnreadableError
		var version *VersionError
		switch {
		case errors.As(err, &unreadable):
			content = unreadable.content
		case errors.As(err, &version):
			content = version.content
		default:
			return err
		}
		if bytes.Contains(bytes.ToLower(content), bytes.ToLower([]byte(text))) {
			return err
		}
	}
	return nil
}

// Tidy removes what processes left behind that were killed between two steps:
// locks without a record, and temporary files with them.
func (s *Store) Tidy() error {
	entries, err := os.ReadDir(s.dir())
	if err != nil {
		return fmt.Errorf("list ledger: %w", err)
	}
	var errs []error
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), lockSuffix)
		if !ok {
			continue
		}
		if _, err := os.Lstat(s.path(key)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := s.TryLock(key)
		if err == nil && lock != nil {
			err = lock.Unlock() // which removes them
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// List returns all records, in the order of their keys, and beside them the
// joined errors of those that could not be read, each an [UnreadableError] or a
// [VersionError]. It returns no record at all only if there is none, or with an
// error that is of another kind.
func (s *Store) List() ([]*Record, error) {
	entries, err := os.ReadDir(s.dir())
	if err != nil {
		return nil, fmt.Errorf("list ledger: %w", err)
	}
	var records []*Record
	var errs []error
	for _, e := range entries {
		key, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		r, err := s.Read(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // erased since the listing
		}
		if err != nil {
			if errors.Is(err, unix.EISDIR) {
				err = &UnreadableError{Path: s.path(key), Err: err}
			}
			errs = append(errs, err)
			continue
		}
		records = append(records, r)
	}
	return records, errors.Join(errs...)
}

// Lock is the right to change one record.
type Lock struct {
	store *Store
	key   string
	file  *os.File
}

// Lock takes the lock of a container's record, and waits for it until the
// context ends.
func (s *Store) Lock(ctx context.Context, key string) (*Lock, error) {
	f, err := lockFile(ctx, filepath.Join(s.dir(), key+lockSuffix))
	if err != nil {
		return nil, fmt.Errorf("lock record of %s: %w", key, err)
	}
	return &Lock{store: s, key: key, file: f}, nil
}

// TryLock is [Store.Lock] without waiting: it returns nil, nil where another
// holds the lock.
func (s *Store) TryLock(key string) (*Lock, error) {
	f, err := tryLockFile(filepath.Join(s.dir(), key+lockSuffix))
	if errors.Is(err, errLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock record of %s: %w", key, err)
	}
	return &Lock{store: s, key: key, file: f}, nil
}

// LockAllocator takes the node-wide lock under which devices are chosen. It is
// taken before any record's lock. The returned function releases it.
func (s *Store) LockAllocator(ctx context.Context) (release func(), err error) {
	f, err := lockFile(ctx, filepath.Join(s.stateDir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock allocator: %w", err)
	}
	return func() { f.Close() }, nil
}

// LockDevice takes the lock of one device, by its PCI address, for what takes long.
// It is taken before the allocator's. The returned function releases it.
func (s *Store) LockDevice(ctx context.Context, address string) (release func(), err error) {
	f, err := lockFile(ctx, filepath.Join(s.stateDir, "lock-"+filepath.Base(address)))
	if err != nil {
		return nil, fmt.Errorf("lock device %s: %w", address, err)
	}
	return func() { f.Close() }, nil
}

func lockFile(ctx context.Context, path string) (*os.File, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		f, err := tryLockFile(path)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", path, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// tryLockFile returns errLocked where another holds the lock. flock(2) and not
// a lease: the kernel drops it with a process that is killed.
func tryLockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		// The holder before us may have removed the file with its record:
		// then this is a lock on nothing.
		var held, named unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &held); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
		}
		if err := unix.Lstat(path, &named); err == nil && named.Ino == held.Ino && named.Dev == held.Dev {
			return f, nil
		}
		f.Close()
	}
}

// Read is [Store.Read] of the locked record.
func (l *Lock) Read() (*Record, error) { return l.store.Read(l.key) }

// Write puts the record on disk before it returns: temporary file, fsync,
// rename, fsync of the folder.
func (l *Lock) Write(r *Record) error {
	if r.Key != l.key {
		return fmt.Errorf("write record of %s: the lock is that of %s", r.Key, l.key)
	}
	r.Version = Version
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write record of %s: %w", r.Key, err)
	}
	if err := writeFile(l.store.path(r.Key), append(b, '\n')); err != nil {
		return fmt.Errorf("write record of %s: %w", r.Key, err)
	}
	return nil
}

// Erase removes the record. It is the last step of giving back. Erasing a
// record that is not there is no error.
func (l *Lock) Erase() error {
	if err := os.Remove(l.store.path(l.key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("erase record: %w", err)
	}
	return nil
}

// Unlock ends the lock. The lock's file goes where no record is left, and the
// temporary file of a writer that was killed before it: the lock leads there.
func (l *Lock) Unlock() error {
	path := l.store.path(l.key)
	var err error
	if _, statErr := os.Lstat(path); errors.Is(statErr, fs.ErrNotExist) {
		if err = os.Remove(path + tempSuffix); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(l.file.Name())
		}
	}
	return errors.Join(err, l.file.Close())
}

// NextViewID returns an id that no container of this boot has had. The caller
// holds the allocator's lock.
func (s *Store) NextViewID() (uint64, error) {
	path := filepath.Join(s.stateDir, "view-id")
	var last uint64
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("next view id: %w", err)
	default:
		if last, err = strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err != nil {
			return 0, fmt.Errorf("next view id: %s: %w", path, err)
		}
	}
	if err := writeFile(path, []byte(strconv.FormatUint(last+1, 10)+"\n")); err != nil {
		return 0, fmt.Errorf("next view id: %w", err)
	}
	return last + 1, nil
}

// writeFile replaces a file. Whoever writes it holds a lock, so that the temporary
// file has one name for all: what a killed writer leaves, the next one takes.
func writeFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
