// Package ledger keeps the record of what each container holds: written before
// anything of the host is touched, erased after all of it was given back.
//
// One file per container lies in STATE_DIR/ledger. Whoever changes a record
// holds its [Lock]; whoever chooses a device holds the allocator's lock too
// (order: allocator first, then the container's).
package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"
)

// Version is the version of the record's format. A reader takes Version and
// Version-1; a newer one is answered by [VersionError] and left alone.
//
// 2 has VF: a candor that does not know it would leave the PF's settings as they
// are.
const Version = 2

// State says how far the way of a container has come.
type State string

// The states of a record, in their order.
const (
	// Intent: written before the first change; some, all or none of what
	// the record names may have been done.
	Intent State = "intent"
	// Attached: everything that the record names is in place.
	Attached State = "attached"
	// Pending: attached, but for a limit that waits for a network which
	// the engine adds after create.
	Pending State = "pending"
)

// Record is what one container holds of the node.
type Record struct {
	Version int       `json:"version"`
	Key     string    `json:"key"`
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Caller  string    `json:"caller,omitempty"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	// BootID is /proc/sys/kernel/random/boot_id at the time of writing. A
	// record of another boot describes nothing that still exists.
	BootID string `json:"boot_id"`
	// Owner is the container's init.
	Owner Process `json:"owner"`
	// Netns is the container's network namespace; HostNetns is the one the
	// NICs came from and go back to.
	Netns     Namespace `json:"netns,omitzero"`
	HostNetns Namespace `json:"host_netns,omitzero"`
	// HostIsPid1s says that HostNetns is pid 1's, which is not pinned.
	HostIsPid1s bool `json:"host_is_pid1s,omitempty"`
	// SandboxID is the pod's sandbox, for the containers of a pod.
	SandboxID string  `json:"sandbox_id,omitempty"`
	NICs      []NIC   `json:"nics,omitempty"`
	Egress    *Egress `json:"egress,omitempty"`
	View      *View   `json:"view,omitempty"`
}

// Namespace names a namespace by its nsfs file. The zero value is none.
type Namespace struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// NIC is a host NIC that a container holds, with all that is needed to put it
// back as it was.
type NIC struct {
	Pool string `json:"pool"`
	Kind string `json:"kind"` // "hostnic" or "vf"
	// Interface is the NIC's name in the container.
	Interface string `json:"interface"`
	// TransientName is the name under which the NIC moves; no other
	// interface of the node can have it.
	TransientName string `json:"transient_name"`
	// InnerIndex is the NIC's ifindex in the container, 0 until it is known.
	InnerIndex int `json:"inner_index,omitempty"`
	// Given is nil until the NIC is attached, and in records from before it was
	// taken down.
	Given *Given `json:"given,omitempty"`

	// The rest is the NIC as it was on the host.

	Name string `json:"name"`
	// Index is the ifindex on the host before the move.
	Index int `json:"index"`
	// PermanentMAC is empty for virtual devices, which have none.
	PermanentMAC string `json:"permanent_mac,omitempty"`
	// ParentDevice and ParentBus are the kernel's names of the device below,
	// such as 0000:3b:02.1 and pci; empty for virtual devices.
	ParentDevice string   `json:"parent_device,omitempty"`
	ParentBus    string   `json:"parent_bus,omitempty"`
	Type         string   `json:"type,omitempty"` // rtnl link kind: veth, macvlan; empty for hardware
	MAC          string   `json:"mac"`
	AltNames     []string `json:"alt_names,omitempty"`
	Alias        string   `json:"alias,omitempty"`
	MTU          int      `json:"mtu"`
	TxQueueLen   int      `json:"tx_queue_len"`
	GSOMaxSize   uint32   `json:"gso_max_size,omitempty"`
	// Link is nil in records from before it was taken down.
	Link      *LinkSettings `json:"link,omitempty"`
	Up        bool          `json:"up"`
	Addresses []Address     `json:"addresses,omitempty"`
	Routes    []Route       `json:"routes,omitempty"`
	// Sysctls are per-interface settings that a move resets, by their path
	// below /proc/sys/net ("ipv4/conf/%s/rp_filter").
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// VF is nil for a NIC of a hostnic pool, also where that is a VF.
	VF *VF `json:"vf,omitempty"`
}

// Given is how a container was given a NIC.
type Given struct {
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Routes    []Route        `json:"routes,omitempty"`
	// Sources are the addresses from which the NIC's own routing table is used.
	Sources []netip.Addr `json:"sources,omitempty"`
	// Promisc and AllMulti are nil where they were not asked for.
	Promisc  *bool `json:"promisc,omitempty"`
	AllMulti *bool `json:"allmulti,omitempty"`
}

// LinkSettings are what a NIC takes with it when it moves, as whoever had it last
// set it: the next one would find a NIC without ARP, or one that listens to all.
type LinkSettings struct {
	// Flags are those of IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI and
	// IFF_MULTICAST that are set (netdevice(7)).
	Flags uint32 `json:"flags"`
	// Broadcast is the link's broadcast address.
	Broadcast string `json:"broadcast,omitempty"`
	Group     uint32 `json:"group,omitempty"`
	// Sizes in bytes, GSOMaxSegs in segments; 0 where the kernel has none.
	GSOMaxSegs     uint32 `json:"gso_max_segs,omitempty"`
	GROMaxSize     uint32 `json:"gro_max_size,omitempty"`
	GSOIPv4MaxSize uint32 `json:"gso_ipv4_max_size,omitempty"`
	GROIPv4MaxSize uint32 `json:"gro_ipv4_max_size,omitempty"`
	// Offloads are the features that are wanted, as the running kernel
	// numbers them (ETHTOOL_GFEATURES); none where there was no asking.
	Offloads []uint32 `json:"offloads,omitempty"`
}

// Address is an address of an interface.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`
	Peer      netip.Prefix `json:"peer,omitzero"`
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Label     string       `json:"label,omitempty"`
	Scope     int          `json:"scope,omitempty"`
	Flags     int          `json:"flags,omitempty"`
	// ValidSeconds and PreferredSeconds are 0 for "forever".
	ValidSeconds     int `json:"valid_seconds,omitempty"`
	PreferredSeconds int `json:"preferred_seconds,omitempty"`
}

// Route is a route through an interface, kernel-made ones left out.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Source      netip.Addr   `json:"source,omitzero"`
	Table       int          `json:"table,omitempty"`
	Metric      int          `json:"metric,omitempty"`
	Scope       int          `json:"scope,omitempty"`
	Protocol    int          `json:"protocol,omitempty"`
	Type        int          `json:"type,omitempty"`
	OnLink      bool         `json:"on_link,omitempty"`
	MTU         int          `json:"mtu,omitempty"`
}

// Egress is a container's egress limit.
type Egress struct {
	// LimitBits is in bits per second.
	LimitBits uint64 `json:"limit_bits"`
	// Devices are the shaped devices in the container; none while the
	// record is pending.
	Devices []ShapedDevice `json:"devices,omitempty"`
}

// ShapedDevice is a device in a container that carries candor's qdisc.
type ShapedDevice struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	// Leaf is the kind of the leaf qdisc: fq_codel or bfifo.
	Leaf string `json:"leaf"`
	// GSOMaxSize is the value set, in bytes; 0 where it was left alone.
	GSOMaxSize uint32 `json:"gso_max_size,omitempty"`
	// GSOMaxSizeBefore is what the device had before, in bytes.
	GSOMaxSizeBefore uint32 `json:"gso_max_size_before,omitempty"`
}

// View is the container's directory in the resource view.
type View struct {
	// ID is unique on the node until it reboots; the FUSE node ids derive
	// from it, so it is never used again.
	ID uint64 `json:"id"`
	// Cgroups are the paths of the container's cgroup below the root of
	// each hierarchy, by controller ("memory", "cpu", ...); "" is the
	// unified hierarchy.
	Cgroups map[string]string `json:"cgroups"`
	// BoottimeOffset is what the container's time namespace adds to the
	// host's boottime clock; 0 where it has none of its own.
	BoottimeOffset time.Duration `json:"boottime_offset,omitempty"`
	// MemoryRequest is the memory in bytes that the container asked for and
	// is shown, also where its cgroup's limit is above it; 0 is none.
	MemoryRequest uint64 `json:"memory_request,omitempty"`
	// Files are the paths in the container that are bound, such as
	// /proc/meminfo.
	Files []string `json:"files,omitempty"`
	// Rootfs is the container's root as its mount namespace names it
	// before pivot_root; after it, the same file is at /.
	Rootfs string `json:"rootfs,omitempty"`
	// Init is the record's Owner, for those who are given the view alone: if
	// it is moved, its cgroups are those that count.
	Init Process `json:"-"`
}

// Key names the record of the container id whose bundle is at the given path:
// two containerd namespaces, Docker and Podman may all run a container "c1" on
// one node. A key never begins with a dot, as an id of runc's may: files of such
// names are passed over by those who list a folder.
func Key(id, bundle string) string {
	if rest, hidden := strings.CutPrefix(id, "."); hidden {
		id, bundle = "_"+rest, id+"\x00"+bundle // not the key of the id "_..."
	}
	sum := sha256.Sum256([]byte(bundle))
	return id + "-" + hex.EncodeToString(sum[:5])
}
