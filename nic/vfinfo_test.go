package nic

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// A VF of which the driver can say nothing just then is not in the list.
func TestVFsAreKnownByTheirNumberAndNotTheirPlace(t *testing.T) {
	list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST, nil)
	for _, number := range []uint32{0, 2, 5} {
		info := list.AddRtAttr(nl.IFLA_VF_INFO, nil)
		info.AddRtAttr(nl.IFLA_VF_MAC, append(nl.Uint32Attr(number), make([]byte, 32)...))
		info.AddRtAttr(nl.IFLA_VF_VLAN, append(nl.Uint32Attr(number), make([]byte, 8)...))
	}
	attributes := append(nl.NewRtAttr(unix.IFLA_NUM_VF, nl.Uint32Attr(6)).Serialize(), list.Serialize()...)
	if numbers, err := vfNumbers(attributes); err != nil || !slices.Equal(numbers, []int{0, 2, 5}) {
		t.Errorf("numbers %v, %v", numbers, err)
	}
	if numbers, err := vfNumbers(attributes[:len(attributes)-3]); err == nil && len(numbers) == 3 {
		t.Errorf("of a message that is cut: %v", numbers)
	}
}

// A driver without trust shows all ones: there is nothing to be put back.
func TestWhatADriverDoesNotHaveIsNotPutBack(t *testing.T) {
	on := true
	touched := ledger.VFSettings{Trust: &on}
	if before := shown(touched, netlink.VfInfo{Trust: ^uint32(0)}); before.Trust != nil {
		t.Errorf("before: trust %v", *before.Trust)
	}
	if before := shown(touched, netlink.VfInfo{Trust: 0}); before.Trust == nil || *before.Trust {
		t.Errorf("before: trust %v, want false", before.Trust)
	}
}
