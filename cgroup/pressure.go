package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// pressureFiles are the files of [PressureKinds].
const pressureFiles = 4

// PressureKinds are the resources whose shortage the kernel measures for each
// group of the unified hierarchy (Documentation/accounting/psi.rst).
func PressureKinds() [pressureFiles]string {
	return [...]string{"cpu", "io", "irq", "memory"}
}

// Pressure appends what the container's tasks waited for one of [PressureKinds]
// to dst, in the form of /proc/pressure. [ErrNoController]: the group has no
// such file; on v1 none has. The group is the container's own and none above it:
// the pressure of a larger group is not the container's.
func (r *Reader) Pressure(dst []byte, kind string) ([]byte, error) {
	c := &r.pressure
	for i, name := range PressureKinds() {
		if name != kind {
			continue
		}
		if c.version == 0 {
			return dst, c.err
		}
		// The root's is the machine's.
		if len(c.groups) < 2 {
			return dst, errNoFile(c, kind+".pressure")
		}
		s := r.borrow()
		defer r.giveBack(s)
		text, err := r.read(c, 0, i, kind+".pressure", s)
		// EOPNOTSUPP: switched off, for the machine or the group.
		if errors.Is(err, errAbsent) || errors.Is(err, unix.EOPNOTSUPP) {
			return dst, errNoFile(c, kind+".pressure")
		}
		return append(dst, text...), err
	}
	return dst, fmt.Errorf("pressure of %q: %w", kind, ErrNoController)
}
