package cgroup

import (
	"errors"
	"strconv"
)

// Hugetlb is what a container may use, and uses, of the huge pages of one size,
// in bytes.
type Hugetlb struct {
	// Limit is the smallest limit of the container's group and the groups
	// above it, on pages or on promises of them; NoLimit where none is set.
	Limit uint64
	// Usage are the pages that the container's group holds.
	Usage uint64
	// Reserved are those that it was promised (by mmap(2)) and has not taken
	// yet; 0 on kernels that do not account promises to groups (before 5.7).
	Reserved uint64
	// OuterFree is what the limits of the groups above leave; NoLimit without
	// such a limit.
	OuterFree uint64
}

// The hugetlb controller's files of one size.
const (
	hugetlbUsageFile = iota
	hugetlbLimitFile
	hugetlbReservedUsageFile
	hugetlbReservedLimitFile
	hugetlbSizeFiles
)

// maxHugePageSizes is how many sizes a reader reads: x86-64 has two, arm64 four.
const maxHugePageSizes = 4

// HugePageSize is one of the sizes of huge pages that the machine has.
type HugePageSize struct {
	// Bytes is the size.
	Bytes uint64

	place int
	names [2][hugetlbSizeFiles]string // by version
}

// HugePageSizes prepares the sizes, in bytes, that [Reader.Hugetlb] is asked for:
// all that the machine has, always in the same order. Of more than four it takes
// the first.
func HugePageSizes(bytes ...uint64) []HugePageSize {
	var sizes []HugePageSize
	for i, b := range bytes {
		if i == maxHugePageSizes {
			break
		}
		// As the kernel names them (mm/hugetlb_cgroup.c: mem_fmt).
		name := "hugetlb." + strconv.FormatUint(b>>10, 10) + "KB"
		switch {
		case b >= 1<<30:
			name = "hugetlb." + strconv.FormatUint(b>>30, 10) + "GB"
		case b >= 1<<20:
			name = "hugetlb." + strconv.FormatUint(b>>20, 10) + "MB"
		}
		sizes = append(sizes, HugePageSize{Bytes: b, place: i, names: [2][hugetlbSizeFiles]string{
			{name + ".usage_in_bytes", name + ".limit_in_bytes", name + ".rsvd.usage_in_bytes", name + ".rsvd.limit_in_bytes"},
			{name + ".current", name + ".max", name + ".rsvd.current", name + ".rsvd.max"},
		}})
	}
	return sizes
}

// Hugetlb reads the container's huge pages of one size. [ErrNoController]: no
// group of the container's accounts them.
func (r *Reader) Hugetlb(size *HugePageSize) (Hugetlb, error) {
	h := Hugetlb{Limit: NoLimit, OuterFree: NoLimit}
	c := &r.hugetlb
	if c.version == 0 {
		return h, c.err
	}
	s := r.borrow()
	defer r.giveBack(s)
	own := -1
	for g := range c.groups {
		usage, err := r.hugetlbValue(g, size, hugetlbUsageFile, s)
		if errors.Is(err, errAbsent) {
			continue // a v2 group without the controller, or the root
		} else if err != nil {
			return Hugetlb{}, err
		}
		limit, err := r.hugetlbLimit(g, size, s)
		if err != nil {
			return Hugetlb{}, err
		}
		h.Limit = min(h.Limit, limit)
		if own < 0 {
			own, h.Usage = g, usage
		} else if limit != NoLimit {
			h.OuterFree = min(h.OuterFree, sub(limit, usage))
		}
	}
	if own < 0 {
		return h, errNoFile(c, size.names[c.version-1][hugetlbUsageFile])
	}
	reserved, err := r.hugetlbValue(own, size, hugetlbReservedUsageFile, s)
	if err == nil {
		// Charged from the promise to the unmapping, whether taken or not.
		h.Reserved = sub(reserved, h.Usage)
	} else if !errors.Is(err, errAbsent) {
		return Hugetlb{}, err
	}
	return h, nil
}

// hugetlbLimit reads the smaller of a group's two limits.
func (r *Reader) hugetlbLimit(g int, size *HugePageSize, s *scratch) (uint64, error) {
	smallest := NoLimit
	for _, file := range [...]int{hugetlbLimitFile, hugetlbReservedLimitFile} {
		v, err := r.hugetlbValue(g, size, file, s)
		if err == nil {
			smallest = min(smallest, v)
		} else if !errors.Is(err, errAbsent) {
			return 0, err
		}
	}
	return smallest, nil
}

func (r *Reader) hugetlbValue(g int, size *HugePageSize, file int, s *scratch) (uint64, error) {
	text, err := r.read(&r.hugetlb, g, size.place*hugetlbSizeFiles+file, size.names[r.hugetlb.version-1][file], s)
	if err != nil {
		return 0, err
	}
	return limit(text), nil
}
