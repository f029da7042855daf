// Package request is the grammar of candor's annotations: what a container may
// ask for, parsed strictly into typed values.
//
// An annotation is a request and nothing more. It is written by whoever runs the
// container, or by whoever built its image, and is treated as hostile: every
// value is bounded, every unknown key or field is an error, and nothing in it
// names a device, path or command of the host. Whether a request is granted is
// the business of package policy.
//
// The package does no I/O and knows neither the node nor its policy.
package request

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// Prefix is what all of candor's annotation keys begin with. Keys without it
// are others' and ignored.
const Prefix = "candor.dev/"

// The annotation keys.
const (
	KeyNIC             = Prefix + "nic"
	KeyNICs            = Prefix + "nics"
	KeyEgressLimit     = Prefix + "egress-limit"
	KeyResourceView    = Prefix + "resource-view"
	keyEgressGuarantee = Prefix + "egress-guarantee"
	keyIngressLimit    = Prefix + "ingress-limit"
	keyMemoryRequest   = Prefix + "memory-request"
	keyTuning          = Prefix + "tuning"
	keyVolumes         = Prefix + "volumes"
)

// Bounds of a request.
const (
	// MaxNICs is how many NICs a container may ask for.
	MaxNICs = 16
	// MaxValue is the length of an annotation's value, in bytes.
	MaxValue = 16 << 10
)

// Request is what the annotations of one container or pod ask for. The zero
// value asks for nothing.
type Request struct {
	NICs []NIC
	// EgressLimit is the ceiling of what leaves the container; 0 is no limit.
	EgressLimit Rate
	// EgressGuarantee and IngressLimit have their place here but are not
	// supported yet: Parse refuses their keys.
	EgressGuarantee Rate
	IngressLimit    Rate
	ResourceView    Switch
}

// Switch is a setting that may be left to the node.
type Switch int

// The values of a Switch.
const (
	Default Switch = iota // not asked: the node's default
	On
	Off
)

// String returns "on", "off" or "default".
func (s Switch) String() string {
	switch s {
	case On:
		return "on"
	case Off:
		return "off"
	default:
		return "default"
	}
}

// NIC is one network interface that is asked for.
type NIC struct {
	// Pool is the pool of the node's policy that the NIC is to come from.
	Pool string
	// Interface is its name in the container. Parse fills in "net0",
	// "net1", ... where none was asked for.
	Interface string
	// MAC selects the NIC in a hostnic pool and is assigned in a vf pool;
	// nil when not asked for.
	MAC net.HardwareAddr
	// IPs are the addresses that the NIC gets; none in a hostnic pool means
	// that it keeps those it had on the host.
	IPs []IP
	// Gateway holds at most one gateway of each family.
	Gateway []netip.Addr
	// DefaultRoute asks that Gateway carries the container's default route.
	DefaultRoute bool
	Routes       []Route
	// MTU in bytes; 0 when not asked for.
	MTU int
	// Promisc and AllMulti have the NIC take frames that are not for it; nil when
	// not asked for.
	Promisc, AllMulti *bool

	// The rest is for vf pools only.

	// VLAN is 0..4094 and QoS (the 802.1p priority) 0..7.
	VLAN, QoS *int
	// Proto is "802.1q" or "802.1ad"; "" when not asked for.
	Proto string
	// SpoofChk and Trust are the VF's settings of these names.
	SpoofChk, Trust *bool
	// LinkState is "auto", "enable" or "disable"; "" when not asked for.
	LinkState string
	// MinTxRate and MaxTxRate are 0 when not asked for.
	MinTxRate, MaxTxRate Rate
	// BestEffort attaches the NIC also where its PF's driver refuses a setting.
	BestEffort bool
}

// IP is an address that is asked for.
type IP struct {
	Addr netip.Addr
	// Bits is the prefix length, or -1 for that of the pool's subnet.
	Bits int
}

// String returns the address, with its prefix length if it has one.
func (ip IP) String() string {
	if ip.Bits < 0 {
		return ip.Addr.String()
	}
	return netip.PrefixFrom(ip.Addr, ip.Bits).String()
}

// Route is a route that is asked for.
type Route struct {
	Dst netip.Prefix
	// GW is the zero Addr where the destination is reached on the wire,
	// without a gateway.
	GW netip.Addr
	// Metric is 0 for the kernel's default.
	Metric int
	// Table is 1..252 or 256..9999; 0 is the main table.
	Table int
}

// Empty reports whether nothing is asked for.
func (r Request) Empty() bool {
	return len(r.NICs) == 0 && r.EgressLimit == 0 && r.EgressGuarantee == 0 &&
		r.IngressLimit == 0 && r.ResourceView == Default
}

// Asked says in a few words what the node's policy has to grant: "pool cloud",
// "pools cloud, fast and egress limit 50M"; "" where that is nothing.
func (r Request) Asked() string {
	var pools, parts []string
	for _, n := range r.NICs {
		if !slices.Contains(pools, n.Pool) {
			pools = append(pools, n.Pool)
		}
	}
	switch len(pools) {
	case 0:
	case 1:
		parts = append(parts, "pool "+pools[0])
	default:
		parts = append(parts, "pools "+strings.Join(pools, ", "))
	}
	if r.EgressLimit != 0 {
		parts = append(parts, "egress limit "+r.EgressLimit.String())
	}
	return strings.Join(parts, " and ")
}

// Parse reads a request out of the annotations of a container. Keys without
// [Prefix] are ignored. All errors are of type [*Error]; with several, the one
// of the first key in alphabetical order is returned.
func Parse(annotations map[string]string) (Request, error) {
	var r Request
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, Prefix) {
			continue
		}
		if err := r.parse(key, annotations[key]); err != nil {
			err.Key = key
			return Request{}, err
		}
	}
	if _, ok := annotations[KeyNIC]; ok {
		if _, ok := annotations[KeyNICs]; ok {
			return Request{}, &Error{Key: KeyNIC, Rule: "cannot stand beside " + KeyNICs + ": put all NICs into the list"}
		}
		if err := checkCut(r.NICs[0], annotations); err != nil {
			err.Key = KeyNIC
			return Request{}, err
		}
	}
	nameInterfaces(r.NICs)
	// What is printed names every interface and may be longer than what was
	// read; it has to pass for a value again.
	if len(annotations[KeyNICs]) > MaxValue/2 || len(annotations[KeyNIC]) > MaxValue/2 {
		if len(printNICs(r.NICs)) > MaxValue {
			return Request{}, tooLong(KeyNICs)
		}
	}
	return r, nil
}

func (r *Request) parse(key, value string) *Error {
	switch key {
	case keyEgressGuarantee, keyIngressLimit, keyMemoryRequest, keyTuning, keyVolumes:
		return &Error{Rule: "is not supported yet"}
	case KeyNIC, KeyNICs, KeyEgressLimit, KeyResourceView:
	default:
		return unknownKey(key)
	}
	switch {
	case len(value) > MaxValue:
		return tooLong(key)
	case value == "":
		return &Error{Rule: "is empty"}
	case !utf8.ValidString(value):
		return &Error{Value: value, Rule: "is not UTF-8"}
	}
	var err *Error
	switch key {
	case KeyNIC:
		var n NIC
		if n, err = parseCompact(value); err == nil {
			r.NICs = []NIC{n}
		}
	case KeyNICs:
		r.NICs, err = parseJSON(value)
	case KeyEgressLimit:
		r.EgressLimit, err = parseRate(value)
	case KeyResourceView:
		r.ResourceView, err = parseSwitch(value)
	}
	return err
}

func parseSwitch(value string) (Switch, *Error) {
	switch value {
	case "on":
		return On, nil
	case "off":
		return Off, nil
	}
	e := &Error{Value: value, Rule: `must be "on" or "off"`}
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "on", "true", "yes", "1", "enabled", "enable":
		e.Suggestion = "on"
	case "off", "false", "no", "0", "disabled", "disable":
		e.Suggestion = "off"
	}
	return Default, e
}

func unknownKey(key string) *Error {
	known := []string{
		"nic", "nics", "egress-limit", "resource-view", "egress-guarantee", "ingress-limit",
		"memory-request", "tuning", "volumes",
	}
	e := &Error{Rule: "is not an annotation that candor knows"}
	if near := Nearest(strings.TrimPrefix(key, Prefix), known); near != "" {
		e.Suggestion = Prefix + near
	} else {
		e.Rule += " (" + strings.Join(known, ", ") + ")"
	}
	return e
}

func tooLong(key string) *Error {
	return &Error{Key: key, Rule: "is longer than 16 KiB"}
}

// checkCut finds a value that a command line cut into pieces at its commas: what
// stood behind the first one has become annotations of its own. Without this,
// the container would be told that its request selects no NIC, which it can see
// that it does.
func checkCut(n NIC, annotations map[string]string) *Error {
	if n.MAC != nil || len(n.IPs) > 0 {
		return nil
	}
	for _, name := range []string{"mac", "ip"} {
		if _, ok := annotations[name]; ok {
			return &Error{
				Rule: `was cut at a comma by the command line: "` + name +
					`" stands there as an annotation of its own; separate the fields with ";"`,
			}
		}
	}
	return nil
}
