package resview

import (
	"hash/crc32"
	"sync"
	"time"
)

// Beside the slots the shared memory keeps what open files are being read from:
// a ring of contents, and a table from file handle to content. A worker does not
// need it, as it has the contents in its own memory; its successor does, to go
// on with a content that a reader has seen the beginning of. Without it, a
// reader with a small buffer gets one content's head and another's tail when the
// worker dies in between (measured: 70 of 26,000 reads in a storm of kills).
//
// Nothing here is trusted: a worker may die in the middle of writing it. What
// does not fit together counts as absent.
const (
	keptHandles    = 1024
	keptWays       = 8 // entries that may be a given handle's
	keptHandleSize = 32
	keptRing       = 1 << 20
	keptHeader     = 24
	// maxKept bounds one content: a larger one would drive out all others.
	maxKept = keptRing / 8

	handlesAt = slotsHeader + slotCount*slotSize
	ringAt    = handlesAt + keptHandles*keptHandleSize
	ringEnd   = ringAt + keptRing

	headerRing    = 256 // where the ring is written next
	headerHandles = 320 // the last file handle
)

// kept is the ring and the table. One worker writes at a time.
type kept struct {
	slots *Slots
	mu    sync.Mutex
	last  uint64 // number of the last content of this worker
}

// handle returns the handle of a new open of a file. It counts on over all
// workers of a mount.
func (k *kept) handle() uint64 { return k.slots.word64(headerHandles).Add(1) }

func newKept(slots *Slots, generation uint64) *kept {
	return &kept{slots: slots, last: generation << 40}
}

// put keeps a content, and notes in it where it is.
func (k *kept) put(v *version) {
	size := (keptHeader + len(v.data) + 7) &^ 7
	if size > maxKept {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	at := int(k.slots.word64(headerRing).Load())
	if at%8 != 0 || at < ringAt || at+size > ringEnd {
		at = ringAt
	}
	k.last++
	number := k.slots.word64(at)
	number.Store(0)
	k.slots.word32(at + 8).Store(uint32(len(v.data)))
	k.slots.word32(at + 12).Store(checksum(v.data))
	k.slots.word64(at + 16).Store(uint64(v.at.UnixNano()))
	copy(k.slots.mem[at+keptHeader:], v.data)
	number.Store(k.last)
	k.slots.word64(headerRing).Store(uint64(at + size))
	v.number, v.keptAt = k.last, at
}

// open notes which content an open file is being read from.
func (k *kept) open(fh uint64, v *version) {
	if v.number == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.entry(fh)
	if at < 0 {
		// The oldest of more open files than there is room for gives way.
		at = bucketAt(fh)
		for i := range keptWays {
			if other := bucketAt(fh) + i*keptHandleSize; k.slots.word64(other).Load() < k.slots.word64(at).Load() {
				at = other
			}
		}
	}
	k.slots.word64(at).Store(0)
	k.slots.word64(at + 8).Store(v.number)
	k.slots.word64(at + 16).Store(uint64(v.keptAt))
	k.slots.word64(at).Store(fh)
}

// close forgets a file handle.
func (k *kept) close(fh uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at := k.entry(fh); at >= 0 {
		k.slots.word64(at).Store(0)
	}
}

// entry returns where the handle's entry is, or -1.
func (k *kept) entry(fh uint64) int {
	for i := range keptWays {
		if at := bucketAt(fh) + i*keptHandleSize; k.slots.word64(at).Load() == fh {
			return at
		}
	}
	return -1
}

// bucketAt is where the entries begin that may be a handle's.
func bucketAt(fh uint64) int {
	return handlesAt + int(fh%(keptHandles/keptWays))*keptWays*keptHandleSize
}

// find returns the content that the file handle was read from by the worker
// before, or nil.
func (k *kept) find(fh uint64) *version {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.entry(fh)
	if fh == 0 || at < 0 {
		return nil
	}
	number, where := k.slots.word64(at+8).Load(), int(k.slots.word64(at+16).Load())
	if where%8 != 0 || where < ringAt || where+keptHeader > ringEnd || k.slots.word64(where).Load() != number {
		return nil
	}
	length := int(k.slots.word32(where + 8).Load())
	if length > ringEnd-where-keptHeader {
		return nil
	}
	data := make([]byte, length)
	copy(data, k.slots.mem[where+keptHeader:])
	if checksum(data) != k.slots.word32(where+12).Load() {
		return nil
	}
	rendered := time.Unix(0, int64(k.slots.word64(where+16).Load()))
	return &version{data: data, at: rendered, number: number, keptAt: where}
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
