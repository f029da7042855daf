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

func (c *Container) gatherDiskstats(dst []byte, now time.Time) ([]byte, error) {
	s := c.host.borrow()
	defer c.host.giveBack(s)
	var err error
	if s.devices, err = c.group.Blkio(s.devices[:0]); err != nil {
		return dst, err
	}
	disks, err := c.host.disks.get(now)
	if err != nil {
		return dst, err
	}
	if !allNamed(s.devices, disks) { // a device that came since
		if disks, err = c.host.disks.within(hostReuse, now); err != nil {
			return dst, err
		}
	}
	return appendDiskstats(dst, s.devices, disks), nil
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

// appendDiskstats renders /proc/diskstats in the host's order, for the devices
// that the container did something on. Merges, times and queue lengths are not
// accounted to groups and are 0.
func appendDiskstats(dst []byte, devices []cgroup.DeviceIO, disks []hostDisk) []byte {
	const sector = 512
	for _, disk := range disks {
		for i := range devices {
			d := &devices[i]
			if d.Major != disk.major || d.Minor != disk.minor {
				continue
			}
			if d.ReadIOs|d.WriteIOs|d.DiscardIOs|d.ReadBytes|d.WriteBytes|d.DiscardBytes == 0 {
				continue
			}
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
		}
	}
	return dst
}
