package render

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"candor.dev/candor/cgroup"
)

// hostDisk is a block device of the host.
type hostDisk struct {
	major, minor uint32
	name         string
}

// parseDisks takes numbers and names from /proc/diskstats.
func parseDisks(text []byte) ([]hostDisk, error) {
	disks := make([]hostDisk, 0, bytes.Count(text, []byte("\n")))
	for line := range strings.Lines(string(text)) { // the names are parts of one string
		major, line := nextWord(line)
		minor, line := nextWord(line)
		name, _ := nextWord(line)
		if name == "" {
			continue
		}
		ma, err1 := strconv.ParseUint(major, 10, 32)
		mi, err2 := strconv.ParseUint(minor, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		disks = append(disks, hostDisk{uint32(ma), uint32(mi), name})
	}
	return disks, nil
}

func nextWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \n")
	if i := strings.IndexAny(s, " \n"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// readDisks reads the container's I/O into s.devices, and gives the disks that
// bear their numbers.
func (c *Container) readDisks(s *scratch, now time.Time) (disks []hostDisk, err error) {
	if s.devices, err = c.group().Blkio(s.devices[:0]); err != nil {
		return nil, err
	}
	if disks, err = c.host.disks.get(now); err != nil {
		return nil, err
	}
	if !allNamed(s.devices, disks) { // a device that came since
		return c.host.disks.within(hostReuse, now)
	}
	return disks, nil
}

func allNamed(devices []cgroup.DeviceIO, disks []hostDisk) bool {
	for i := range devices {
		if !slices.ContainsFunc(disks, func(d hostDisk) bool {
			return d.major == devices[i].Major && d.minor == devices[i].Minor
		}) {
			return false
		}
	}
	return true
}

// eachDisk calls f with the disks that the container did something on, in the
// host's order.
func eachDisk(devices []cgroup.DeviceIO, disks []hostDisk, f func(disk *hostDisk, d *cgroup.DeviceIO)) {
	for i := range disks {
		for j := range devices {
			d := &devices[j]
			if d.Major != disks[i].major || d.Minor != disks[i].minor {
				continue
			}
			if d.ReadIOs|d.WriteIOs|d.DiscardIOs|d.ReadBytes|d.WriteBytes|d.DiscardBytes != 0 {
				f(&disks[i], d)
			}
		}
	}
}

// sector is the unit of block I/O in the kernel's files, in bytes.
const sector = 512

// sectorsOf adds up what appendDiskstats shows as read and written.
func sectorsOf(devices []cgroup.DeviceIO, disks []hostDisk) (read, written uint64) {
	eachDisk(devices, disks, func(_ *hostDisk, d *cgroup.DeviceIO) {
		read += d.ReadBytes / sector
		written += d.WriteBytes / sector
	})
	return read, written
}

// appendDiskstats renders /proc/diskstats. Merges, times and queue lengths are
// not accounted to groups and are 0.
func appendDiskstats(dst []byte, devices []cgroup.DeviceIO, disks []hostDisk) []byte {
	eachDisk(devices, disks, func(disk *hostDisk, d *cgroup.DeviceIO) {
		dst = appendPadded(dst, uint64(disk.major), 4)
		dst = append(dst, ' ')
		dst = appendPadded(dst, uint64(disk.minor), 7)
		dst = append(dst, ' ')
		dst = append(dst, disk.name...)
		// Documentation/admin-guide/iostats.rst: 17 fields since Linux 5.5.
		for _, v := range [...]uint64{
			d.ReadIOs, 0, d.ReadBytes / sector, 0,
			d.WriteIOs, 0, d.WriteBytes / sector, 0,
			0, 0, 0,
			d.DiscardIOs, 0, d.DiscardBytes / sector, 0,
			0, 0,
		} {
			dst = append(dst, ' ')
			dst = strconv.AppendUint(dst, v, 10)
		}
		dst = append(dst, '\n')
	})
	return dst
}
