package request

import (
	"strconv"
	"strings"
)

// kind is the type that a field's value has in JSON.
type kind int

const (
	text kind = iota
	texts
	flag
	number
	routes       // list of objects
	flagOrTexts  // bool, or Multus's list of gateways
	notInCompact = routes
)

// value is what a field is set to: the member that its kind names.
type value struct {
	text   string
	flag   bool
	number int
	route  Route
}

// field is one field of a NIC. The same table serves both ways of writing one,
// so that they cannot come to differ.
type field struct {
	name string // in JSON
	// compact is the name in the compact form, where that is another: a list
	// is there written by repeating the key.
	compact string
	kind    kind
	set     func(n *NIC, v value) *Error
}

func (f field) compactName() string {
	if f.compact != "" {
		return f.compact
	}
	return f.name
}

// fields returns all fields of a NIC, in the order in which they are documented.
func fields() []field {
	return []field{
		{name: "pool", set: func(n *NIC, v value) *Error {
			n.Pool = v.text
			return checkPool(v.text)
		}},
		{name: "interface", set: func(n *NIC, v value) *Error {
			n.Interface = v.text
			return checkInterface(v.text)
		}},
		{name: "mac", set: func(n *NIC, v value) (err *Error) {
			n.MAC, err = parseMAC(v.text)
			return err
		}},
		{name: "ips", compact: "ip", kind: texts, set: func(n *NIC, v value) *Error {
			ip, err := parseIP(v.text)
			n.IPs = append(n.IPs, ip)
			return err
		}},
		{name: "gateway", kind: texts, set: addGateway},
		{name: "default-route", kind: flagOrTexts, set: func(n *NIC, v value) *Error {
			// An element of Multus's list, or the bool.
			if v.text != "" {
				n.DefaultRoute = true
				return addGateway(n, v)
			}
			n.DefaultRoute = v.flag
			return nil
		}},
		{name: "routes", kind: routes, set: func(n *NIC, v value) *Error {
			n.Routes = append(n.Routes, v.route)
			return nil
		}},
		{name: "mtu", kind: number, set: func(n *NIC, v value) *Error {
			n.MTU = v.number
			return between(v.number, 68, 65535)
		}},
		{name: "promisc", kind: flag, set: func(n *NIC, v value) *Error {
			n.Promisc = &v.flag
			return nil
		}},
		{name: "allmulti", kind: flag, set: func(n *NIC, v value) *Error {
			n.AllMulti = &v.flag
			return nil
		}},
		{name: "vlan", kind: number, set: func(n *NIC, v value) *Error {
			n.VLAN = &v.number
			return between(v.number, 0, 4094)
		}},
		{name: "qos", kind: number, set: func(n *NIC, v value) *Error {
			n.QoS = &v.number
			return between(v.number, 0, 7)
		}},
		{name: "proto", set: func(n *NIC, v value) *Error {
			n.Proto = v.text
			return oneOf(v.text, "802.1q", "802.1ad")
		}},
		{name: "spoofchk", kind: flag, set: func(n *NIC, v value) *Error {
			n.SpoofChk = &v.flag
			return nil
		}},
		{name: "trust", kind: flag, set: func(n *NIC, v value) *Error {
			n.Trust = &v.flag
			return nil
		}},
		{name: "link-state", set: func(n *NIC, v value) *Error {
			n.LinkState = v.text
			return oneOf(v.text, "auto", "enable", "disable")
		}},
		{name: "min-tx-rate", set: func(n *NIC, v value) (err *Error) {
			n.MinTxRate, err = parseRate(v.text)
			return err
		}},
		{name: "max-tx-rate", set: func(n *NIC, v value) (err *Error) {
			n.MaxTxRate, err = parseRate(v.text)
			return err
		}},
		{name: "best-effort", kind: flag, set: func(n *NIC, v value) *Error {
			n.BestEffort = v.flag
			return nil
		}},
	}
}

func addGateway(n *NIC, v value) *Error {
	gw, err := parseAddr(v.text)
	n.Gateway = append(n.Gateway, gw)
	return err
}

func between(v, low, high int) *Error {
	if v < low || v > high {
		return &Error{
			Value: strconv.Itoa(v),
			Rule:  "must be " + strconv.Itoa(low) + " to " + strconv.Itoa(high),
		}
	}
	return nil
}

func oneOf(v string, allowed ...string) *Error {
	for _, a := range allowed {
		if v == a {
			return nil
		}
	}
	e := &Error{Value: v, Rule: "must be one of " + strings.Join(allowed, ", ")}
	if v == "" {
		e.Rule = "is empty: it must be one of " + strings.Join(allowed, ", ")
	}
	e.Suggestion = Nearest(v, allowed)
	return e
}

// unknownField refuses a field that does not exist in this way of writing.
func unknownField(name string, known []string) *Error {
	e := &Error{Value: name, Rule: "is not a field"}
	if name == "" {
		e.Rule = "a field has no name"
	}
	if near := Nearest(name, known); near != "" {
		e.Suggestion = near
	} else {
		e.Rule += " (" + strings.Join(known, ", ") + ")"
	}
	return e
}
