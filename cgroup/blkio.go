package cgroup

import (
	"bytes"
	"errors"
)

// DeviceIO is what a container did on one block device.
type DeviceIO struct {
	Major, Minor             uint32
	ReadBytes, ReadIOs       uint64
	WriteBytes, WriteIOs     uint64
	DiscardBytes, DiscardIOs uint64
}

const blkioFiles = 8

// blkioNames are v1's tables in pairs of bytes and operations. Which of them
// the kernel fills depends on the device's scheduler and on its version: bfq
// fills its own, everything else the throttle layer's, and newer kernels (seen
// on 6.18) the latter only for a device on which some group of the node has, or
// had, a throttle rule. The throttle layer's were not always recursive; CFQ's,
// the first, went with Linux 5.0.
func blkioNames() [blkioFiles]string {
	return [...]string{
		"blkio.io_service_bytes_recursive", "blkio.io_serviced_recursive",
		"blkio.bfq.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive",
		"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive",
		"blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced",
	}
}

// Blkio appends the container's I/O by device to dst. A host whose kernel
// accounts none gives none.
func (r *Reader) Blkio(dst []DeviceIO) ([]DeviceIO, error) {
	c := &r.blkio
	if c.version == 0 {
		return dst, nil
	}
	s := r.borrow()
	defer r.giveBack(s)
	if c.version == 2 {
		// Not that of a group above, where the controller is not enabled for the
		// container's own: what others did there is not the container's, and the
		// root's is the machine's.
		if len(c.groups) < 2 {
			return dst, nil
		}
		text, err := r.read(c, 0, 0, "io.stat", s)
		if errors.Is(err, errAbsent) {
			return dst, nil
		} else if err != nil {
			return dst, err
		}
		return parseIOStat(dst, text), nil
	}
	for file, name := range blkioNames() {
		text, err := r.read(c, 0, file, name, s)
		if errors.Is(err, errAbsent) {
			continue
		} else if err != nil {
			return dst, err
		}
		dst = parseBlkio(dst, text, file%2 == 1)
	}
	return dst, nil
}

// parseBlkio takes a v1 table ("8:0 Read 123") into dst. What two layers count
// of one device is the same I/O: the larger figure stands.
func parseBlkio(dst []DeviceIO, text []byte, operations bool) []DeviceIO {
	for len(text) > 0 {
		id, rest := nextField(text)
		kind, rest := nextField(rest)
		value, rest := nextField(rest)
		text = nextLine(rest)
		v, n := LeadingNumber(value)
		major, minor, ok := device(id)
		if !ok || n == 0 || v == 0 {
			continue
		}
		var into *uint64
		var d *DeviceIO
		dst, d = deviceIn(dst, major, minor)
		switch string(kind) {
		case "Read":
			into = pick(operations, &d.ReadIOs, &d.ReadBytes)
		case "Write":
			into = pick(operations, &d.WriteIOs, &d.WriteBytes)
		case "Discard":
			into = pick(operations, &d.DiscardIOs, &d.DiscardBytes)
		default: // Sync, Async and Total count the same again
			continue
		}
		*into = max(*into, v)
	}
	return dst
}

func pick(first bool, a, b *uint64) *uint64 {
	if first {
		return a
	}
	return b
}

// parseIOStat takes v2's io.stat ("8:0 rbytes=1 wbytes=2 ...") into dst.
func parseIOStat(dst []DeviceIO, text []byte) []DeviceIO {
	for len(text) > 0 {
		id, rest := nextField(text)
		if major, minor, ok := device(id); ok {
			var d *DeviceIO
			dst, d = deviceIn(dst, major, minor)
			for {
				var field []byte
				if field, rest = nextField(rest); len(field) == 0 {
					break
				}
				key, value, _ := bytes.Cut(field, []byte("="))
				v, _ := LeadingNumber(value)
				switch string(key) {
				case "rbytes":
					d.ReadBytes = v
				case "wbytes":
					d.WriteBytes = v
				case "dbytes":
					d.DiscardBytes = v
				case "rios":
					d.ReadIOs = v
				case "wios":
					d.WriteIOs = v
				case "dios":
					d.DiscardIOs = v
				}
			}
		}
		text = nextLine(rest)
	}
	return dst
}

// device parses "MAJOR:MINOR".
func device(b []byte) (major, minor uint32, ok bool) {
	a, n := LeadingNumber(b)
	if n == 0 || n >= len(b) || b[n] != ':' {
		return 0, 0, false
	}
	c, m := LeadingNumber(b[n+1:])
	if m == 0 || n+1+m != len(b) || a > 1<<12 || c > 1<<20 {
		return 0, 0, false
	}
	return uint32(a), uint32(c), true
}

// deviceIn finds the device in list, or appends it.
func deviceIn(list []DeviceIO, major, minor uint32) ([]DeviceIO, *DeviceIO) {
	for i := range list {
		if list[i].Major == major && list[i].Minor == minor {
			return list, &list[i]
		}
	}
	list = append(list, DeviceIO{Major: major, Minor: minor})
	return list, &list[len(list)-1]
}
