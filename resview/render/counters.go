package render

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// What a container was shown cannot always be told from readings alone: a load is
// an average over the past, a time that was dealt out by another quota stays where
// it was, and the highest process id may be that of a process that is gone. The
// next worker has to go on with it, so it lies in a file of the container's own:
// two halves for each part, written in turn, each with a checksum. A worker may die
// in the middle of writing one; the other is whole then.

// The parts of a container's counters.
const (
	counterStat = iota
	counterTasks
	counterLoad
	counterParts
)

const (
	// counterHalf is room for the times of 2,500 CPUs. The file has holes.
	counterHalf = 256 << 10
	// counterHeader is magic, checksum, sequence number, number of words.
	counterHeader = 4 * wordSize
	// counterMagic is the first word of a half; it changes with the format.
	counterMagic = 0x31544e55_4f434443 // "CDCOUNT1"
	wordSize     = 8
)

// ErrCounters says that counters cannot be kept: they begin anew after the death
// of this process.
var ErrCounters = errors.New("keep the counters of a container")

// counters is the file of one container.
type counters struct {
	dir  int // descriptor of the directory, -1 where nothing is kept
	name string

	mu  sync.Mutex
	fd  int // descriptor + 1; 0 is closed
	seq [counterParts]uint64
	buf []byte
}

// KeepCounters makes the containers that are opened from now on go on with what a
// process before this one has counted and kept in that directory, which is made
// where there is none. The files are named after the containers' View.ID.
func (h *Host) KeepCounters(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %w", ErrCounters, err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: open %s: %w", ErrCounters, dir, err)
	}
	h.counters = os.NewFile(uintptr(fd), dir)
	return nil
}

// SweepCounters removes the counters of containers that alive does not name. It is
// called once the directory was read: counters come after the container's record.
func (h *Host) SweepCounters(alive func() (map[uint64]bool, error)) error {
	if h.counters == nil {
		return nil
	}
	if _, err := h.counters.Seek(0, 0); err != nil {
		return fmt.Errorf("%w: rewind %s: %w", ErrCounters, h.counters.Name(), err)
	}
	names, err := h.counters.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCounters, err)
	}
	if len(names) == 0 {
		return nil
	}
	known, err := alive()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		id, err := strconv.ParseUint(name, 10, 64)
		if err != nil || known[id] {
			continue
		}
		if err := unix.Unlinkat(int(h.counters.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("%w: remove %s/%s: %w", ErrCounters, h.counters.Name(), name, err))
		}
	}
	return errors.Join(errs...)
}

// countersOf returns the counters of a container.
func (h *Host) countersOf(id uint64) *counters {
	c := &counters{dir: -1, name: strconv.FormatUint(id, 10)}
	if h.counters != nil {
		c.dir = int(h.counters.Fd())
	}
	return c
}

// put keeps the words of a part.
func (c *counters) put(part int, words ...uint64) error {
	if c.dir < 0 || counterHeader+len(words)*wordSize > counterHalf {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.open(unix.O_CREAT); err != nil {
		return fmt.Errorf("%w: open %s: %w", ErrCounters, c.name, err)
	}
	c.seq[part]++
	b := c.buf[:0]
	for _, word := range [...]uint64{counterMagic, 0, c.seq[part], uint64(len(words))} {
		b = binary.NativeEndian.AppendUint64(b, word)
	}
	for _, word := range words {
		b = binary.NativeEndian.AppendUint64(b, word)
	}
	binary.NativeEndian.PutUint64(b[wordSize:], uint64(checksum(b)))
	c.buf = b
	if _, err := unix.Pwrite(c.fd-1, b, halfAt(part, c.seq[part])); err != nil {
		return fmt.Errorf("%w: write %s: %w", ErrCounters, c.name, err)
	}
	return nil
}

// get returns the words that were kept last of a part, none where there are none.
func (c *counters) get(part int) (words []uint64) {
	if c.dir < 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open(0) != nil {
		return nil // nothing was kept, or it is out of reach, and put says so
	}
	for half := range uint64(2) {
		b := make([]byte, counterHeader)
		word := func(i uint64) uint64 { return binary.NativeEndian.Uint64(b[i*wordSize:]) }
		if n, err := unix.Pread(c.fd-1, b, halfAt(part, half)); err != nil || n < counterHeader ||
			word(0) != counterMagic || word(2) <= c.seq[part] || word(3) > (counterHalf-counterHeader)/wordSize {
			continue
		}
		b = make([]byte, counterHeader+word(3)*wordSize)
		if n, err := unix.Pread(c.fd-1, b, halfAt(part, half)); err != nil || n < len(b) || word(1) != uint64(checksum(b)) {
			continue
		}
		c.seq[part], words = word(2), make([]uint64, word(3))
		for i := range words {
			words[i] = word(counterHeader/wordSize + uint64(i))
		}
	}
	return words
}

func (c *counters) open(flags int) error {
	if c.fd > 0 {
		return nil
	}
	fd, err := unix.Openat(c.dir, c.name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0o600)
	if err == nil {
		c.fd = fd + 1
	}
	return err
}

// close gives up the descriptor; the next put opens it again.
func (c *counters) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd == 0 {
		return nil
	}
	err := unix.Close(c.fd - 1)
	c.fd = 0
	return err
}

// halfAt is where a part's half for a sequence number begins in the file.
func halfAt(part int, seq uint64) int64 { return (int64(part)*2 + int64(seq%2)) * counterHalf }

// checksum is that of a half, without the word of the checksum.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:wordSize], table), table, b[2*wordSize:])
}
