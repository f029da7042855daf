package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"candor.dev/candor/cgroup"
)

// hugePool is the machine's pool of huge pages of one size.
type hugePool struct {
	size  cgroup.HugePageSize
	pages cached[uint64]
}

// hugePages is what a container has of the machine's pools.
type hugePages struct {
	// total, free and reserved count pages of the default size, as HugePages_*.
	total, free, reserved uint64
	// bytes are those of all sizes, as Hugetlb.
	bytes uint64
}

// openPools finds the machine's pools, that of the default size first.
func openPools(root string, defaultSize uint64) ([]*hugePool, error) {
	const dir = "sys/kernel/mm/hugepages"
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without huge pages
	} else if err != nil {
		return nil, err
	}
	var sizes []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "hugepages-")
		if kb, n := cgroup.LeadingNumber([]byte(digits)); ok && n > 0 && kb < 1<<40 && digits[n:] == "kB" {
			sizes = append(sizes, kb<<10)
		}
	}
	slices.SortFunc(sizes, func(a, b uint64) int {
		switch {
		case a == defaultSize:
			return -1
		case b == defaultSize || a > b:
			return 1
		}
		return -1
	})
	var pools []*hugePool
	for _, size := range cgroup.HugePageSizes(sizes...) {
		name := fmt.Sprintf("%s/hugepages-%dkB/nr_hugepages", dir, size.Bytes>>10)
		pools = append(pools, &hugePool{size: size, pages: source(root, name, hostReuse, parseCount)})
	}
	return pools, nil
}

// hugePages works out what the container has of the machine's pools: of a pool
// that no limit bounds all, as it has all of the memory without one; of one that
// no group's account tells of, none.
func (c *Container) hugePages(host *hostMemory, now time.Time) (hugePages, error) {
	var h hugePages
	for _, pool := range c.host.pools {
		pages, err := pool.pages.get(now)
		if err != nil {
			return hugePages{}, err
		}
		if pages == 0 {
			continue // and costs nothing
		}
		account, err := c.group().Hugetlb(&pool.size)
		if errors.Is(err, cgroup.ErrNoController) {
			continue
		} else if err != nil {
			return hugePages{}, err
		}
		h.add(&account, pages, pool.size.Bytes, pool.size.Bytes == host.HugePageSize)
	}
	return h, nil
}

// add takes the account of one size.
func (h *hugePages) add(account *cgroup.Hugetlb, pages, size uint64, isDefault bool) {
	total := min(pages, account.Limit/size)
	h.bytes += total * size
	if !isDefault {
		return
	}
	h.total = total
	h.free = min(total-min(account.Usage/size, total), account.OuterFree/size)
	h.reserved = min(account.Reserved/size, h.free)
}

// parseCount parses a file that holds one number.
func parseCount(text []byte) (uint64, error) {
	v, n := cgroup.LeadingNumber(text)
	if n == 0 {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return v, nil
}
