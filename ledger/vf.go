package ledger

// VF says which virtual function a NIC of a vf pool is, what its physical function
// was told for the container, and what that was before.
type VF struct {
	// PF is the kernel's name of the PF's device, such as 0000:3b:00.0.
	PF string `json:"pf"`
	// Index is the VF's number there: N of the virtfnN that it is.
	Index int `json:"index"`
	// Before has the members that Set has, with the values to go back to.
	Before VFSettings `json:"before,omitzero"`
	Set    VFSettings `json:"set,omitzero"`
	// Refused names what the driver refused of a request that puts up with it.
	Refused []string `json:"refused,omitempty"`
}

// VFSettings are settings that a PF has for a VF, as rtnetlink(7) has them in
// IFLA_VF_INFO; those that are not touched are absent.
type VFSettings struct {
	MAC        string  `json:"mac,omitempty"`
	VLAN       *VLAN   `json:"vlan,omitempty"`
	Rate       *VFRate `json:"rate,omitempty"`
	SpoofCheck *bool   `json:"spoofchk,omitempty"`
	Trust      *bool   `json:"trust,omitempty"`
	// LinkState is "auto", "enable" or "disable".
	LinkState string `json:"link_state,omitempty"`
}

// Empty reports whether no setting is touched.
func (s VFSettings) Empty() bool { return s == VFSettings{} }

// VLAN is the tag that a PF puts on a VF's frames. An ID of 0 is none.
type VLAN struct {
	ID  int `json:"id"`
	QoS int `json:"qos,omitempty"`
	// Protocol is "802.1q" or "802.1ad".
	Protocol string `json:"protocol,omitempty"`
}

// VFRate is what a VF may send, in Mbit/s. 0 is no guarantee, and no limit.
type VFRate struct {
	Min uint32 `json:"min"`
	Max uint32 `json:"max"`
}
