package cgroup

import (
	"errors"
	"fmt"
	"strconv"
)

const cpusetFiles = 2

// Cpuset appends the ids of the CPUs that the container may run on to dst, in
// ascending order. None means that nothing restricts it.
func (r *Reader) Cpuset(dst []int) ([]int, error) {
	c := &r.cpuset
	if c.version == 0 {
		return dst, nil // a kernel without cpusets restricts nothing
	}
	s := r.borrow()
	defer r.giveBack(s)
	// The CPUs that tasks may really run on; before Linux 3.17 v1 has only
	// those that were asked for.
	names := [cpusetFiles]string{"cpuset.effective_cpus", "cpuset.cpus"}
	if c.version == 2 {
		names = [cpusetFiles]string{"cpuset.cpus.effective", ""}
	}
	for file, name := range names {
		if name == "" {
			continue
		}
		text, err := r.readNearest(c, file, name, s)
		if errors.Is(err, ErrNoController) {
			continue
		} else if err != nil {
			return dst, err
		}
		dst, err = ParseList(dst, text)
		if err != nil {
			return dst, fmt.Errorf("read %s of %s: %w", name, c.groups[0].dir, err)
		}
		return dst, nil
	}
	return dst, nil
}

// readNearest reads the file in the container's group, or the nearest one
// above that has it: a v2 controller that is not enabled for a group accounts
// and restricts it with the group above.
func (r *Reader) readNearest(c *controller, file int, name string, s *scratch) ([]byte, error) {
	for g := range c.groups {
		text, err := r.read(c, g, file, name, s)
		if !errors.Is(err, errAbsent) {
			return text, err
		}
	}
	return nil, errNoFile(c, name)
}

func errNoFile(c *controller, name string) error {
	return fmt.Errorf("%s: no %s in %s or above: %w", c.name, name, c.groups[0].dir, ErrNoController)
}

// ParseList appends the ids of a list such as "0-3,8" to dst (cpuset(7), "List
// format"). An empty list is none.
func ParseList(dst []int, text []byte) ([]int, error) {
	for len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == ' ') {
		text = text[:len(text)-1]
	}
	last := -1
	for len(text) > 0 {
		first, n := LeadingNumber(text)
		if n == 0 {
			return dst, fmt.Errorf("list: %q is not a number", text)
		}
		text = text[n:]
		end := first
		if len(text) > 0 && text[0] == '-' {
			if end, n = LeadingNumber(text[1:]); n == 0 {
				return dst, fmt.Errorf("list: %q is not a range", text)
			}
			text = text[1+n:]
		}
		if end >= maxCPUs || first > end || int(first) <= last {
			return dst, fmt.Errorf("list: %d-%d is out of range or order", first, end)
		}
		for id := int(first); id <= int(end); id++ {
			dst = append(dst, id)
		}
		last = int(end)
		if len(text) > 0 {
			if text[0] != ',' || len(text) == 1 {
				return dst, fmt.Errorf("list: %q after %d", text, last)
			}
			text = text[1:]
		}
	}
	return dst, nil
}

// AppendList appends ids, which ascend, in list format ("0-3,8").
func AppendList(dst []byte, ids []int) []byte {
	for i := 0; i < len(ids); {
		end := i
		for end+1 < len(ids) && ids[end+1] == ids[end]+1 {
			end++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(ids[i]), 10)
		if end > i {
			dst = append(dst, '-')
			dst = strconv.AppendInt(dst, int64(ids[end]), 10)
		}
		i = end + 1
	}
	return dst
}
