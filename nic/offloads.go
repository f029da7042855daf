package nic

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFeatureBlocks is room for 256 features; Linux 6.18 has 64.
const maxFeatureBlocks = 8

// getFeatures is struct ethtool_gfeatures, setFeatures struct ethtool_sfeatures
// (linux/ethtool.h).
type getFeatures struct {
	command, size uint32
	blocks        [maxFeatureBlocks]struct{ available, requested, active, neverChanged uint32 }
}

type setFeatures struct {
	command, size uint32
	blocks        [maxFeatureBlocks]struct{ valid, requested uint32 }
}

// ifreqData is struct ifreq with a pointer.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// wanted are the features that are asked for, of those that can be set.
func (f *getFeatures) wanted() []uint32 {
	if f == nil {
		return nil
	}
	var bits []uint32
	for _, b := range f.blocks[:min(f.size, maxFeatureBlocks)] {
		bits = append(bits, b.requested&b.available)
	}
	return bits
}

// offloads asks for a link's features (ethtool -k). It returns nil for a device
// that cannot be asked.
func (n *Namespace) offloads(name string) (*getFeatures, error) {
	f := &getFeatures{command: unix.ETHTOOL_GFEATURES, size: maxFeatureBlocks}
	err := n.ethtool(name, unsafe.Pointer(f))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the offloads of %s: %w", name, err)
	}
	return f, nil
}

// setOffloads sets a link's features to what [Namespace.offloads] found wanted.
// Those that are so already, or cannot be set any more, are left alone.
func (n *Namespace) setOffloads(name string, want []uint32) error {
	if len(want) == 0 {
		return nil
	}
	now, err := n.offloads(name)
	if err != nil || now == nil {
		return err
	}
	set := &setFeatures{command: unix.ETHTOOL_SFEATURES, size: now.size}
	differs := false
	for i, b := range now.blocks[:min(now.size, maxFeatureBlocks, uint32(len(want)))] {
		set.blocks[i].valid = (b.requested ^ want[i]) & b.available
		set.blocks[i].requested = want[i]
		differs = differs || set.blocks[i].valid != 0
	}
	if !differs {
		return nil
	}
	return n.ethtool(name, unsafe.Pointer(set))
}

// ethtool makes one request of a driver; data is what SIOCETHTOOL takes.
func (n *Namespace) ethtool(name string, data unsafe.Pointer) error {
	if len(name) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req := ifreqData{data: data}
		copy(req.name[:], name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
			return errno
		}
		return nil
	})
}
