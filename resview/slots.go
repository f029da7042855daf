package resview

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The memory that supervisor and worker share: a header, 64 slots, and what
// [kept] describes. A worker
// reads its requests into the 16 slots of its generation, so that one which
// does not die at once (frozen, or in an uninterruptible sleep) can be followed
// by a successor that does not use the same ones.
const (
	slotCount      = 64
	slotGroups     = 4
	slotsPerGroup  = slotCount / slotGroups
	slotRequest    = 8192
	slotSize       = slotRequest + 4096
	slotsHeader    = 4096
	slotsMemory    = ringEnd
	slotsMagic     = 0x31524f444e4143 // "CANDOR1", the layout's version in it
	headerMagic    = 0
	headerBeat     = 64
	headerReady    = 128
	headerUndead   = 192
	privateTries   = slotRequest
	privateProg    = slotRequest + 4
	privateCount   = slotRequest + 8
	privateAnswers = slotRequest + 16
	privateThread  = slotRequest + 24
	uniqueOffset   = 8
)

// ErrLayout is returned for shared memory that another release laid out.
var ErrLayout = errors.New("resview: shared memory has another layout")

// Slots is the shared memory of one mount.
type Slots struct {
	fd  int
	mem []byte
}

// NewSlots makes the shared memory of a new mount.
func NewSlots() (*Slots, error) {
	fd, err := unix.MemfdCreate("candor-slots", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, slotsMemory); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("size the shared memory: %w", err)
	}
	s, err := mapSlots(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.word64(headerMagic).Store(slotsMagic)
	return s, nil
}

// OpenSlots maps the shared memory that a supervisor made. It owns fd from then
// on, unless it fails.
func OpenSlots(fd int) (*Slots, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	if st.Size != slotsMemory {
		return nil, ErrLayout
	}
	s, err := mapSlots(fd)
	if err != nil {
		return nil, err
	}
	if s.word64(headerMagic).Load() != slotsMagic {
		return nil, errors.Join(ErrLayout, unix.Munmap(s.mem))
	}
	return s, nil
}

// mapSlots maps the memory with every page of the slots in the page table. Where a page is
// not there while SIGKILL is pending, the kernel ends the request with EIO
// instead of copying it (measured: up to 180 EIO in 300 kills).
func mapSlots(fd int) (*Slots, error) {
	mem, err := unix.Mmap(fd, 0, slotsMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the shared memory: %w", err)
	}
	s := &Slots{fd: fd, mem: mem}
	for at := 0; at < handlesAt; at += 4096 {
		// MAP_POPULATE would map the pages for reading only. A write that
		// changes nothing, also when another worker writes there.
		s.word32(at + 4092).Add(0)
	}
	_ = unix.Mlock(mem[:handlesAt]) // best effort: RLIMIT_MEMLOCK may forbid it
	return s, nil
}

// FD is the memory's descriptor.
func (s *Slots) FD() int { return s.fd }

// Close unmaps the memory.
func (s *Slots) Close() error {
	return errors.Join(unix.Munmap(s.mem), unix.Close(s.fd))
}

func (s *Slots) word64(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&s.mem[at])) }

func (s *Slots) word32(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&s.mem[at])) }

// Beat returns the number of heartbeats of all workers so far.
func (s *Slots) Beat() uint64 { return s.word64(headerBeat).Load() }

func (s *Slots) beat() { s.word64(headerBeat).Add(1) }

// Ready returns the generation of the last worker that began to serve.
func (s *Slots) Ready() uint64 { return s.word64(headerReady).Load() }

func (s *Slots) setReady(generation uint64) { s.word64(headerReady).Store(generation) }

// Group is the group of slots that a generation uses.
func Group(generation uint64) int { return int(generation % slotGroups) }

// SetUndead tells the next worker which groups belong to workers that were
// killed but are not dead yet, one bit per group.
func (s *Slots) SetUndead(groups uint32) { s.word32(headerUndead).Store(groups) }

func (s *Slots) undead() uint32 { return s.word32(headerUndead).Load() }

// Requests returns how many requests were read, and how many of them a
// successor answered.
func (s *Slots) Requests() (read, replayed uint64) {
	for i := range slotCount {
		read += s.slot(i).private64(privateCount).Load()
		replayed += s.slot(i).private64(privateAnswers).Load()
	}
	return read, replayed
}

// Progress is a picture of the requests being worked on.
type Progress [slotCount]struct {
	unique   uint64
	progress uint32
	thread   uint32
}

// Progress takes the picture.
func (s *Slots) Progress() (p Progress) {
	for i := range p {
		p[i].unique = s.slot(i).unique().Load()
		p[i].progress = s.slot(i).progress().Load()
		p[i].thread = s.slot(i).thread().Load()
	}
	return p
}

// Stuck returns the threads of those requests of the group that were in work at
// both times with nothing done for them in between.
func (p *Progress) Stuck(later *Progress, group int) (threads []int) {
	for i := group * slotsPerGroup; i < (group+1)*slotsPerGroup; i++ {
		if p[i].unique != 0 && p[i] == later[i] {
			threads = append(threads, int(p[i].thread))
		}
	}
	return threads
}

// slot is where one request lies from its read(2) until it is answered.
type slot struct {
	slots *Slots
	at    int
}

func (s *Slots) slot(i int) slot { return slot{slots: s, at: slotsHeader + i*slotSize} }

func (s slot) request() []byte {
	return s.slots.mem[s.at : s.at+slotRequest : s.at+slotRequest]
}

// unique is the request's number in its header, 0 in an empty slot. The kernel
// never uses a number again on one connection.
func (s slot) unique() *atomic.Uint64 { return s.slots.word64(s.at + uniqueOffset) }

// tries counts how many workers died or may have died of the request.
func (s slot) tries() *atomic.Uint32 { return s.slots.word32(s.at + privateTries) }

// progress changes while a worker waits for something with a deadline: such a
// request is not stuck.
func (s slot) progress() *atomic.Uint32 { return s.slots.word32(s.at + privateProg) }

// thread is the id of the thread that serves the slot.
func (s slot) thread() *atomic.Uint32 { return s.slots.word32(s.at + privateThread) }

func (s slot) private64(at int) *atomic.Uint64 { return s.slots.word64(s.at + at) }

// pending returns the slots that hold a request, those first that were tried
// least: a request that kills its worker must not take the others with it.
func (s *Slots) pending() []int {
	var found []int
	for i := range slotCount {
		if s.slot(i).unique().Load() != 0 {
			found = append(found, i)
		}
	}
	slices.SortStableFunc(found, func(a, b int) int {
		return int(s.slot(a).tries().Load()) - int(s.slot(b).tries().Load())
	})
	return found
}
