package request

import (
	"encoding/json"
	"net/netip"
	"strings"
)

// Annotations returns the request in its canonical form: [Parse] makes an equal
// value of it, and equal values give equal text. NICs are always written as the
// list of [KeyNICs]. An empty request gives an empty map.
func (r Request) Annotations() map[string]string {
	m := make(map[string]string)
	if len(r.NICs) > 0 {
		m[KeyNICs] = printNICs(r.NICs)
	}
	for key, rate := range map[string]Rate{
		KeyEgressLimit: r.EgressLimit, keyEgressGuarantee: r.EgressGuarantee, keyIngressLimit: r.IngressLimit,
	} {
		if rate != 0 {
			m[key] = rate.String()
		}
	}
	if r.ResourceView != Default {
		m[KeyResourceView] = r.ResourceView.String()
	}
	return m
}

// printedNIC is a NIC as it is printed: the fields in the order of their
// documentation, those that were not asked for left out.
type printedNIC struct {
	Pool         string         `json:"pool"`
	Interface    string         `json:"interface,omitempty"`
	MAC          string         `json:"mac,omitempty"`
	IPs          []string       `json:"ips,omitempty"`
	Gateway      []netip.Addr   `json:"gateway,omitempty"`
	DefaultRoute bool           `json:"default-route,omitempty"`
	Routes       []printedRoute `json:"routes,omitempty"`
	MTU          int            `json:"mtu,omitempty"`
	Promisc      *bool          `json:"promisc,omitempty"`
	AllMulti     *bool          `json:"allmulti,omitempty"`
	VLAN         *int           `json:"vlan,omitempty"`
	QoS          *int           `json:"qos,omitempty"`
	Proto        string         `json:"proto,omitempty"`
	SpoofChk     *bool          `json:"spoofchk,omitempty"`
	Trust        *bool          `json:"trust,omitempty"`
	LinkState    string         `json:"link-state,omitempty"`
	MinTxRate    string         `json:"min-tx-rate,omitempty"`
	MaxTxRate    string         `json:"max-tx-rate,omitempty"`
	BestEffort   bool           `json:"best-effort,omitempty"`
}

type printedRoute struct {
	Dst    netip.Prefix `json:"dst"`
	GW     *netip.Addr  `json:"gw,omitempty"`
	Metric int          `json:"metric,omitempty"`
	Table  int          `json:"table,omitempty"`
}

func printNICs(list []NIC) string {
	printed := make([]printedNIC, len(list))
	for i, n := range list {
		p := printedNIC{
			Pool: n.Pool, Interface: n.Interface, MAC: n.MAC.String(), Gateway: n.Gateway,
			DefaultRoute: n.DefaultRoute, MTU: n.MTU, Promisc: n.Promisc, AllMulti: n.AllMulti, BestEffort: n.BestEffort,
			VLAN: n.VLAN, QoS: n.QoS, Proto: n.Proto, SpoofChk: n.SpoofChk, Trust: n.Trust, LinkState: n.LinkState,
		}
		for _, ip := range n.IPs {
			p.IPs = append(p.IPs, ip.String())
		}
		for _, r := range n.Routes {
			route := printedRoute{Dst: r.Dst, Metric: r.Metric, Table: r.Table}
			if r.GW.IsValid() {
				route.GW = &r.GW
			}
			p.Routes = append(p.Routes, route)
		}
		if n.MinTxRate != 0 {
			p.MinTxRate = n.MinTxRate.String()
		}
		if n.MaxTxRate != 0 {
			p.MaxTxRate = n.MaxTxRate.String()
		}
		printed[i] = p
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // "<" is no danger here, but six bytes
	// Nothing in a printedNIC can fail to be encoded.
	_ = enc.Encode(printed)
	return strings.TrimSuffix(b.String(), "\n")
}
