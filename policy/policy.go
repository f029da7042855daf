// Package policy is the node's word on what containers may have: the file
// /etc/candor/config.toml with the drop-ins of config.d beside it, read anew at
// every use, and the decision on each request.
//
// Nothing is granted that the policy does not name. A file that is broken, or
// that others than root could have written, grants nothing at all. The package
// reads files and decides; it knows neither devices nor containers.
package policy

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"time"

	"candor.dev/candor/request"
)

// DefaultPath is where the policy is when nobody says otherwise.
const DefaultPath = "/etc/candor/config.toml"

// DefaultStateDir is where candor keeps its state when the policy does not say.
const DefaultStateDir = "/run/candor"

// The kinds of pools.
const (
	KindHostNIC = "hostnic"
	KindVF      = "vf"
)

// Policy is the node's policy, checked.
type Policy struct {
	// Path is the main file, as given to Load.
	Path string
	// Missing says that there is no policy: neither the file nor a drop-in.
	// The other fields are the defaults then.
	Missing bool
	// StateDir is an absolute path; the default is [DefaultStateDir].
	StateDir string
	// BinDir is an absolute path, or "": hooks and daemon are then looked
	// for beside the running executable and in /usr/libexec/candor.
	BinDir       string
	Pools        map[string]Pool
	ResourceView ResourceView
	Egress       Egress
	Metrics      Metrics
}

// ResourceView says how the node handles the resource view.
type ResourceView struct {
	// Enabled is what a container gets that does not ask; true by default.
	Enabled bool
	// Required makes a view that cannot be had an error.
	Required bool
	// Pressure shows containers their own /proc/pressure, which cannot be
	// written to: no program can set a trigger there.
	Pressure bool
}

// Egress bounds what containers may ask of the network.
type Egress struct {
	// MaxLimit is the highest limit that may be asked for; 0 is any.
	MaxLimit request.Rate
	// Uplink is the host interface that guarantees are shaped on; "" is none.
	Uplink string
	// Capacity is what the uplink carries; 0 is unknown.
	Capacity request.Rate
}

// Metrics says where the node's metrics can be asked for, beside the socket in
// the state directory.
type Metrics struct {
	// Listen is an address and port for TCP; the zero value is none.
	Listen netip.AddrPort
}

// Pool is a set of devices, what its users get by default, and who they are.
type Pool struct {
	Name string
	// File is where the pool is defined.
	File string
	// Kind is KindHostNIC or KindVF.
	Kind string
	// MACs (lower case), Names, PCI and Drivers are globs (path.Match) for
	// the NICs of a hostnic pool, at least one of which has to match. In a vf
	// pool MACs are for those that may be asked for, Drivers for the VFs'.
	MACs, Names, PCI, Drivers []string
	// VF is for a vf pool.
	VF VFPool
	// Permit are what a container may ask for only where its pool says so.
	Permit []string
	// Subnets bound the addresses that may be asked for: with none, no
	// address may be.
	Subnets []netip.Prefix
	// Gateways, Routes and MTU (bytes, 0 = as it is) are defaults.
	Gateways []netip.Addr
	Routes   []request.Route
	MTU      int
	// Wait is how long a NIC of a hostnic pool may take to appear on the
	// host; 0 is not at all.
	Wait time.Duration
	// Allow are globs (path.Match) for the callers; with none, nobody.
	Allow []string
}

// Load reads the policy: the file at path, then config.d/*.toml beside it in
// the order of their names. A setting in a later file replaces that of an
// earlier one; a pool may stand in one of them only. Without any file, the
// defaults come back with Missing set. An error names the file and, where it is
// one of syntax, the line.
//
// A file other than [DefaultPath] was named by somebody: that it is missing is
// an error, wrapping [fs.ErrNotExist]. All errors are of type [*BrokenError].
func Load(path string) (*Policy, error) {
	p, err := load(path, 0)
	if err == nil && p.Missing && path != DefaultPath {
		err = fmt.Errorf("config %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, &BrokenError{err}
	}
	return p, nil
}

// load is Load for files of another owner than root.
func load(path string, owner uint32) (*Policy, error) {
	p := &Policy{Path: path, Missing: true, StateDir: DefaultStateDir, Pools: make(map[string]Pool)}
	p.ResourceView.Enabled = true

	dropIns, err := listDropIns(filepath.Join(filepath.Dir(path), "config.d"), owner)
	if err != nil {
		return nil, err
	}
	for i, name := range append([]string{path}, dropIns...) {
		data, found, err := readFile(name, owner)
		if err != nil {
			return nil, err
		}
		if !found && i == 0 {
			continue
		}
		p.Missing = false
		settings, err := decode(name, data)
		if err != nil {
			return nil, err
		}
		if err := p.merge(name, settings); err != nil {
			return nil, err
		}
	}
	return p, nil
}
