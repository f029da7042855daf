//go:build amd64

package crash

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// messageKinds are the first types of rtnetlink's groups of four: NEW, DEL, GET,
// SET (linux/rtnetlink.h), with the size of the header that follows.
var messageKinds = map[uint16]struct {
	name   string
	header int
}{
	unix.RTM_NEWLINK:     {"LINK", unix.SizeofIfInfomsg},
	unix.RTM_NEWADDR:     {"ADDR", unix.SizeofIfAddrmsg},
	unix.RTM_NEWROUTE:    {"ROUTE", unix.SizeofRtMsg},
	unix.RTM_NEWNEIGH:    {"NEIGH", 12},
	unix.RTM_NEWRULE:     {"RULE", 12},
	unix.RTM_NEWQDISC:    {"QDISC", 20},
	unix.RTM_NEWTCLASS:   {"TCLASS", 20},
	unix.RTM_NEWTFILTER:  {"TFILTER", 20},
	unix.RTM_NEWNSID:     {"NSID", 4},
	unix.RTM_NEWLINKPROP: {"LINKPROP", unix.SizeofIfInfomsg},
}

var linkAttributes = map[uint16]string{
	unix.IFLA_ADDRESS: "address", unix.IFLA_BROADCAST: "broadcast", unix.IFLA_IFNAME: "name", unix.IFLA_MTU: "mtu",
	unix.IFLA_MASTER: "master", unix.IFLA_TXQLEN: "txqlen", unix.IFLA_NET_NS_FD: "namespace", unix.IFLA_IFALIAS: "alias",
	unix.IFLA_GROUP: "group", unix.IFLA_XDP: "xdp", unix.IFLA_PROP_LIST: "altnames", unix.IFLA_NEW_IFINDEX: "index",
	unix.IFLA_GSO_MAX_SIZE: "gso_max_size", unix.IFLA_GSO_MAX_SEGS: "gso_max_segs", unix.IFLA_GRO_MAX_SIZE: "gro_max_size",
	unix.IFLA_GSO_IPV4_MAX_SIZE: "gso_ipv4_max_size", unix.IFLA_GRO_IPV4_MAX_SIZE: "gro_ipv4_max_size",
	unix.IFLA_VFINFO_LIST: "vf", unix.IFLA_LINKINFO: "kind",
}

// routeMessages says what rtnetlink messages do: RTM_GET* and the control messages
// change nothing.
func routeMessages(b []byte) (what string, changes bool) {
	var parts []string
	for len(b) >= unix.SizeofNlMsghdr {
		size, kind := int(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint16(b[4:])
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return "netlink: a message that is cut", true
		}
		if verb := (kind - unix.RTM_BASE) % 4; kind >= unix.RTM_BASE && verb != unix.RTM_GETLINK-unix.RTM_NEWLINK {
			parts = append(parts, routeMessage(kind, b[unix.SizeofNlMsghdr:size]))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return "netlink " + strings.Join(parts, ", "), len(parts) > 0
}

func routeMessage(kind uint16, b []byte) string {
	verb := (kind - unix.RTM_BASE) % 4
	of, ok := messageKinds[kind-verb]
	if !ok || len(b) < of.header {
		return fmt.Sprintf("message type %d", kind)
	}
	words := []string{"RTM_" + [...]string{"NEW", "DEL", "GET", "SET"}[verb] + of.name}
	attributes := parseAttributes(b[of.header:])
	switch kind - verb {
	case unix.RTM_NEWLINK, unix.RTM_NEWLINKPROP:
		words = append(words, linkChanges(b, attributes)...)
	case unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.RTM_NEWRULE:
		words = append(words, family(b[0]))
		if kind-verb == unix.RTM_NEWROUTE {
			words = append(words, table(b[4], attributes))
		}
	default:
		for _, a := range attributes {
			if a.kind == unix.TCA_KIND {
				words = append(words, strings.TrimRight(string(a.value), "\x00"))
			}
		}
	}
	return strings.Join(words, " ")
}

// linkChanges names what a message changes of a link: its flags and attributes.
func linkChanges(header []byte, attributes []attribute) []string {
	var words []string
	flags, mask := binary.LittleEndian.Uint32(header[8:]), binary.LittleEndian.Uint32(header[12:])
	switch {
	case mask&unix.IFF_UP != 0 && flags&unix.IFF_UP != 0:
		words = append(words, "up")
	case mask&unix.IFF_UP != 0:
		words = append(words, "down")
	case mask != 0:
		words = append(words, "flags")
	}
	for _, a := range attributes {
		word := cmp.Or(linkAttributes[a.kind], fmt.Sprintf("attribute-%d", a.kind))
		if a.kind == unix.IFLA_VFINFO_LIST {
			word += vfSettings(a.value)
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}

// vfSettings names what a PF is told of its VFs (linux/if_link.h).
func vfSettings(list []byte) (words string) {
	for _, of := range parseAttributes(list) {
		for _, a := range parseAttributes(of.value) {
			words += " " + cmp.Or(map[uint16]string{
				nl.IFLA_VF_MAC: "mac", nl.IFLA_VF_VLAN: "vlan", nl.IFLA_VF_VLAN_LIST: "vlan", nl.IFLA_VF_TX_RATE: "max rate", nl.IFLA_VF_RATE: "rate",
				nl.IFLA_VF_SPOOFCHK: "spoofchk", nl.IFLA_VF_TRUST: "trust", nl.IFLA_VF_LINK_STATE: "link-state",
			}[a.kind], fmt.Sprintf("attribute-%d", a.kind))
		}
	}
	return words
}

func family(f byte) string {
	switch f {
	case unix.AF_INET:
		return "IPv4"
	case unix.AF_INET6:
		return "IPv6"
	}
	return fmt.Sprintf("family %d", f)
}

func table(small byte, attributes []attribute) string {
	number := uint32(small)
	for _, a := range attributes {
		if a.kind == unix.RTA_TABLE && len(a.value) == 4 {
			number = binary.LittleEndian.Uint32(a.value)
		}
	}
	if number == unix.RT_TABLE_MAIN {
		return "main table"
	}
	return "another table"
}

type attribute struct {
	kind  uint16
	value []byte
}

func parseAttributes(b []byte) []attribute {
	var list []attribute
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.LittleEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		kind := binary.LittleEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		list = append(list, attribute{kind, b[unix.SizeofRtAttr:size]})
		b = b[min((size+3)&^3, len(b)):]
	}
	return list
}
