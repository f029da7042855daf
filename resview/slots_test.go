package resview

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func fill(s *Slots, i int, unique uint64, tries uint32) {
	b := s.slot(i).request()
	clear(b)
	le.PutUint32(b, 56)
	le.PutUint32(b[4:], opGetattr)
	le.PutUint64(b[8:], unique)
	le.PutUint64(b[16:], rootNode)
	s.slot(i).tries().Store(tries)
}

func TestSlotsAreShared(t *testing.T) {
	s := newSlots(t)
	fd, err := unix.Dup(s.FD())
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenSlots(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.beat()
	other.setReady(3)
	fill(other, 17, 99, 0)
	if s.Beat() != 1 || s.Ready() != 3 || s.slot(17).unique().Load() != 99 {
		t.Error("the other mapping's writes are not seen")
	}
}

func TestForeignMemoryIsRefused(t *testing.T) {
	for _, size := range []int64{0, slotsMemory, slotsMemory + 4096} {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Ftruncate(fd, size); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSlots(fd); !errors.Is(err, ErrLayout) {
			t.Errorf("%d bytes of zeros: %v", size, err)
		}
		unix.Close(fd)
	}
}

func TestPendingPutsTheLeastTriedFirst(t *testing.T) {
	s := newSlots(t)
	fill(s, 3, 1, 4)
	fill(s, 20, 2, 0)
	fill(s, 60, 3, 1)
	got := s.pending()
	if len(got) != 3 || got[0] != 20 || got[1] != 60 || got[2] != 3 {
		t.Errorf("pending = %v", got)
	}
}

func TestStuck(t *testing.T) {
	s := newSlots(t)
	before := s.Progress()
	fill(s, 16, 5, 0)
	s.slot(16).thread().Store(77)
	first := s.Progress()
	if before.Stuck(&first, 1) != nil {
		t.Error("a request that has just come is stuck")
	}
	second := s.Progress()
	if threads := first.Stuck(&second, 1); !slices.Equal(threads, []int{77}) || first.Stuck(&second, 0) != nil {
		t.Errorf("a request that stays is not stuck, or in the wrong group: %v", threads)
	}
	s.slot(16).progress().Add(1)
	third := s.Progress()
	if second.Stuck(&third, 1) != nil {
		t.Error("a request that is waited for is stuck")
	}
}

func TestReplayAnswersAndGivesUp(t *testing.T) {
	slots := newSlots(t)
	s := server(t, newStore(t), slots, &fakes{}, 2)
	s.config.FD = null(t)
	fill(slots, 1, 10, 0)
	fill(slots, 2, 11, maxTries)
	fill(slots, 3, 12, 0)
	le.PutUint32(slots.slot(3).request(), 1<<30) // torn
	fill(slots, 4, 13, maxTries)
	le.PutUint32(slots.slot(4).request()[4:], opForget)
	s.replayAll(slots.pending(), 0)
	if left := slots.pending(); len(left) != 0 {
		t.Errorf("left in slots: %v", left)
	}
	got := make([]byte, 4096)
	n, err := unix.Pread(s.config.FD, got, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[uint64]int32{}
	for b := got[:n]; len(b) > 0; b = b[le.Uint32(b):] {
		codes[le.Uint64(b[8:])] = int32(le.Uint32(b[4:]))
	}
	want := map[uint64]int32{10: 0, 11: -int32(unix.EIO), 12: -int32(unix.EIO)}
	if len(codes) != len(want) {
		t.Errorf("replies %v, want %v", codes, want)
	}
	for unique, code := range want {
		if codes[unique] != code {
			t.Errorf("reply to %d: %d, want %d", unique, codes[unique], code)
		}
	}
	if _, replayed := slots.Requests(); replayed != 4 {
		t.Errorf("%d replayed", replayed)
	}
}
