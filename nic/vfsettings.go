package nic

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// The words of a record for a VLAN's protocol and a VF's link state, and what they
// are in linux/if_ether.h and linux/if_link.h.
const (
	tag8021Q  = "802.1q"
	tag8021AD = "802.1ad"
)

func linkStates() []string {
	return []string{nl.IFLA_VF_LINK_STATE_AUTO: "auto", nl.IFLA_VF_LINK_STATE_ENABLE: "enable", nl.IFLA_VF_LINK_STATE_DISABLE: "disable"}
}

// vfSettle is how long a PF may take until it shows what it was told, and a VF
// until it has the MAC: i40e and iavf do it later, in a queue.
const vfSettle = 2 * time.Second

// PlanVF takes down what a PF says of a VF with an interface now, for the settings that are wanted,
// and checks what can be known before anything is touched. A VF that has no MAC
// gets one, always the same (docker-sriov-plugin#29: those of mlx5 may have none).
// It changes nothing.
func PlanVF(host *Namespace, vf VF, want ledger.VFSettings) (*ledger.VF, error) {
	pf, info, err := host.vfInfo(vf.PF, vf.Index)
	if err != nil {
		if want.Empty() && !hasNoMAC(vf.Link.Attrs().HardwareAddr) {
			return &ledger.VF{PF: vf.PF, Index: vf.Index}, nil // its PF need not be reached
		}
		return nil, err
	}
	if want.MAC == "" && hasNoMAC(vf.Link.Attrs().HardwareAddr) {
		want.MAC = stableMAC(pf, vf.Index).String()
	}
	if r := want.Rate; r != nil {
		both := ledger.VFRate{Min: cmp.Or(r.Min, info.MinTxRate), Max: cmp.Or(r.Max, info.MaxTxRate)}
		if both.Max != 0 && both.Min > both.Max {
			return nil, fmt.Errorf("%s: PF %s has a rate of %d to %d Mbit/s for VF %d, and one of %d to %d is none",
				rateField(*r), pf.Attrs().Name, info.MinTxRate, info.MaxTxRate, vf.Index, both.Min, both.Max)
		}
		want.Rate = &both
	}
	return &ledger.VF{PF: vf.PF, Index: vf.Index, Set: want, Before: shown(want, info)}, nil
}

// shown returns what a PF shows for the settings that are touched.
func shown(touched ledger.VFSettings, info netlink.VfInfo) (now ledger.VFSettings) {
	if touched.MAC != "" {
		now.MAC = info.Mac.String()
	}
	if touched.VLAN != nil {
		now.VLAN = &ledger.VLAN{ID: info.Vlan, QoS: info.Qos, Protocol: tag8021Q}
		if info.Vlan != 0 && info.VlanProto == unix.ETH_P_8021AD {
			now.VLAN.Protocol = tag8021AD
		}
	}
	if touched.Rate != nil {
		now.Rate = &ledger.VFRate{Min: info.MinTxRate, Max: info.MaxTxRate}
	}
	if touched.SpoofCheck != nil {
		now.SpoofCheck = &info.Spoofchk
	}
	if touched.Trust != nil && info.Trust <= 1 { // all ones where the driver has none
		on := info.Trust == 1
		now.Trust = &on
	}
	if states := linkStates(); touched.LinkState != "" && info.LinkState < uint32(len(states)) {
		now.LinkState = states[info.LinkState]
	}
	return now
}

// hasNoMAC reports whether an address is all zeros, or none.
func hasNoMAC(mac net.HardwareAddr) bool { return bytes.Count(mac, []byte{0}) == len(mac) }

// stableMAC is an address for a VF that has none: locally administered, and the
// same for the same VF of the same PF.
func stableMAC(pf netlink.Link, index int) net.HardwareAddr {
	of := pf.Attrs().PermHWAddr
	if len(of) == 0 {
		of = pf.Attrs().HardwareAddr
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "candor %s vf %d", of, index))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x03 | 0x02 // unicast, locally administered (IEEE 802)
	return mac
}

// MACTaken says who on the host has a MAC address beside the VF itself: another
// interface, or another VF of the same PF. It is "" where nobody has.
func MACTaken(host *Namespace, vf VF, mac net.HardwareAddr) (string, error) {
	links, err := host.links()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		attrs := l.Attrs()
		if vf.Link != nil && attrs.Index == vf.Link.Attrs().Index {
			continue
		}
		if bytes.Equal(attrs.HardwareAddr, mac) || bytes.Equal(attrs.PermHWAddr, mac) {
			return "interface " + attrs.Name, nil
		}
	}
	if pf := pfLinkOf(links, vf.PF); pf != nil {
		others, err := host.vfsOf(pf)
		if err != nil {
			return "", err
		}
		for _, other := range others {
			if other.ID != vf.Index && bytes.Equal(other.Mac, mac) {
				return fmt.Sprintf("VF %d of %s", other.ID, pf.Attrs().Name), nil
			}
		}
	}
	return "", nil
}

// checkPF refuses what a VF's PF cannot do, as far as the kernel can tell. Not all
// drivers refuse an MTU above the PF's, and then the frames are lost.
func (a *attach) checkPF() error {
	if a.rec.VF == nil || a.cfg.MTU <= a.rec.MTU {
		return nil
	}
	links, err := a.host.links()
	if err != nil {
		return err
	}
	if pf := pfLinkOf(links, a.rec.VF.PF); pf != nil && a.cfg.MTU > pf.Attrs().MTU {
		return fmt.Errorf("mtu %d: its PF %s has one of %d", a.cfg.MTU, pf.Attrs().Name, pf.Attrs().MTU)
	}
	return nil
}

// vfSetting is one setting that a PF can be told of a VF.
type vfSetting struct {
	// name is that of the request's field.
	name string
	set  func(netlink.Link) error
	is   func(netlink.VfInfo) bool
}

// vfSettings returns what has to be told for the settings that are wanted. The
// order is the one that most drivers take: the MAC before "spoofchk on", which
// checks it, and trust before the link comes up.
func (n *Namespace) vfSettings(index int, want ledger.VFSettings) (list []vfSetting) {
	h := n.handle
	if v := want.VLAN; v != nil {
		list = append(list, vfSetting{"vlan", func(pf netlink.Link) error {
			if v.Protocol == tag8021AD {
				return h.LinkSetVfVlanQosProto(pf, index, v.ID, v.QoS, unix.ETH_P_8021AD)
			}
			return h.LinkSetVfVlanQos(pf, index, v.ID, v.QoS)
		}, func(now netlink.VfInfo) bool { return *shown(want, now).VLAN == *v }})
	}
	if mac, err := net.ParseMAC(want.MAC); err == nil {
		list = append(list, vfSetting{"mac", func(pf netlink.Link) error {
			return h.LinkSetVfHardwareAddr(pf, index, mac)
		}, func(now netlink.VfInfo) bool { return bytes.Equal(now.Mac, mac) }})
	}
	if r := want.Rate; r != nil {
		list = append(list, vfSetting{rateField(*r), func(pf netlink.Link) error {
			err := h.LinkSetVfRate(pf, index, int(r.Min), int(r.Max))
			if errors.Is(err, unix.EOPNOTSUPP) && r.Min == 0 {
				return h.LinkSetVfTxRate(pf, index, int(r.Max)) // a driver without a least rate
			}
			return err
		}, func(now netlink.VfInfo) bool { return now.MinTxRate == r.Min && now.MaxTxRate == r.Max }})
	}
	if on := want.SpoofCheck; on != nil {
		list = append(list, vfSetting{"spoofchk", func(pf netlink.Link) error {
			return h.LinkSetVfSpoofchk(pf, index, *on)
		}, func(now netlink.VfInfo) bool { return now.Spoofchk == *on }})
	}
	if on := want.Trust; on != nil {
		list = append(list, vfSetting{"trust", func(pf netlink.Link) error {
			return h.LinkSetVfTrust(pf, index, *on)
		}, func(now netlink.VfInfo) bool { return now.Trust == number(*on) }})
	}
	if state := slices.Index(linkStates(), want.LinkState); state >= 0 {
		list = append(list, vfSetting{"link-state", func(pf netlink.Link) error {
			return h.LinkSetVfState(pf, index, uint32(state))
		}, func(now netlink.VfInfo) bool { return now.LinkState == uint32(state) }})
	}
	return list
}

func rateField(r ledger.VFRate) string {
	if r.Min != 0 {
		return "min-tx-rate"
	}
	return "max-tx-rate"
}

func number(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// SettingError says that a PF does not take a setting of its VF.
type SettingError struct {
	// Setting is the field of the request.
	Setting string
	// PF is the name of its interface, Driver that of its driver.
	PF, Driver string
	Err        error
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: PF %s (driver %s) does not take it: %v", e.Setting, e.PF, e.Driver, e.Err)
}

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// tellPF has a PF take the settings of a VF, reads them back, and returns what it
// did not take; err is why nothing could be told at all. What the PF shows already
// is told again only where again is set.
//
// What is refused is tried a second time after the others: some devices take a MAC
// only while spoofchk is off, others refuse a zero one then (LXD met both).
func (n *Namespace) tellPF(ctx context.Context, device string, index int, want ledger.VFSettings, again bool) (refused []*SettingError, err error) {
	pf, now, err := n.vfInfo(device, index)
	if err != nil {
		return nil, err
	}
	var left []vfSetting
	for _, s := range n.vfSettings(index, want) {
		if again || !s.is(now) {
			left = append(left, s)
		}
	}
	failed := map[string]error{}
	for range 2 {
		for _, s := range left {
			failed[s.name] = retryBusy(ctx, func() error { return s.set(pf) })
		}
		left = slices.DeleteFunc(left, func(s vfSetting) bool { return failed[s.name] == nil })
	}
	list := n.vfSettings(index, want)
	for end := time.Now().Add(vfSettle); ; {
		if now, err = n.infoOf(pf, index); err != nil {
			return nil, err
		}
		waits := slices.ContainsFunc(list, func(s vfSetting) bool { return failed[s.name] == nil && !s.is(now) })
		if !waits || time.Now().After(end) || sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	for _, s := range list {
		err := failed[s.name]
		if err == nil && !s.is(now) {
			err = errors.New("it says yes and does not show it")
		}
		if err == nil {
			continue
		}
		driver, _, noDriver := driverOf(n, pf.Attrs().Name)
		refused = append(refused, &SettingError{Setting: s.name, PF: pf.Attrs().Name, Driver: driver, Err: errors.Join(err, noDriver)})
	}
	return refused, nil
}

// retryBusy asks a driver again that is busy with something else (sriov-cni does
// so for two seconds).
func retryBusy(ctx context.Context, do func() error) error {
	for end := time.Now().Add(vfSettle); ; {
		err := do()
		busy := errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN)
		if !busy || time.Now().After(end) || sleep(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
}

// setVFSettings is the step of an attach that tells the PF what the record says.
func (a *attach) setVFSettings(ctx context.Context) error {
	vf := a.rec.VF
	if vf == nil || vf.Set.Empty() {
		return nil
	}
	refused, err := a.host.tellPF(ctx, vf.PF, vf.Index, vf.Set, true)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range refused {
		vf.Refused = append(vf.Refused, r.Error())
		errs = append(errs, r)
	}
	if len(errs) > 0 && !a.cfg.BestEffort {
		return fmt.Errorf("%w: leave it out, or ask for best-effort", errors.Join(errs...))
	}
	return nil
}

// takeMAC is the step after: the interface takes the MAC that its PF took for it.
func (a *attach) takeMAC(ctx context.Context) error {
	vf := a.rec.VF
	if vf == nil || vf.Set.MAC == "" || wasRefused(vf, "mac") {
		return nil
	}
	mac, err := net.ParseMAC(vf.Set.MAC)
	if err != nil {
		return err
	}
	return a.host.takeMAC(ctx, a.link.Attrs().Index, mac)
}

// takeMAC gives a VF's interface, which is down, the MAC that its PF has for it.
// igbvf asked for it when it went down; some drivers have to be told (mlx5); and
// others refuse what the PF has set (i40e: sriov-cni#106) until the VF is reset.
func (n *Namespace) takeMAC(ctx context.Context, index int, mac net.HardwareAddr) error {
	for end := time.Now().Add(vfSettle); ; {
		link, has, err := n.withMAC(index, mac)
		if err != nil || has {
			return err
		}
		refused := n.handle.LinkSetHardwareAddr(link, mac)
		if refused != nil {
			if err := n.reset(link); err != nil {
				return err
			}
		}
		// Most have it now: a pause before the first look was a tenth of an attach.
		if _, has, err := n.withMAC(index, mac); err != nil || has {
			return err
		}
		if time.Now().After(end) {
			if refused == nil {
				refused = errors.New("it says yes and does not show it")
			}
			return fmt.Errorf("its interface does not take the MAC %s that its PF has for it: %w", mac, refused)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// withMAC returns an interface and whether it has the MAC.
func (n *Namespace) withMAC(index int, mac net.HardwareAddr) (netlink.Link, bool, error) {
	link, err := n.linkByIndex(index)
	if err != nil {
		return nil, false, err
	}
	if link == nil {
		return nil, false, errors.New("it has gone")
	}
	return link, bytes.Equal(link.Attrs().HardwareAddr, mac), nil
}

// reset takes an interface that is down up and down again.
func (n *Namespace) reset(link netlink.Link) error {
	return errors.Join(n.handle.LinkSetUp(link), n.handle.LinkSetDown(link))
}

// tellMACEarly tells a PF the MAC that it had for a VF before the VF's interface goes
// down on its way home, when it asks for it: that spares it a reset. The other
// settings wait until it is out of the container, which is not to be seen in another
// VLAN for a moment. What fails here [restoreVF] tries again, and says so.
func tellMACEarly(host *Namespace, rec *ledger.NIC) {
	vf := rec.VF
	if vf == nil || vf.Set.MAC == "" || wasRefused(vf, "mac") {
		return
	}
	pf, err := host.pfOf(vf.PF)
	mac, bad := net.ParseMAC(vf.Before.MAC)
	if err == nil && bad == nil {
		_ = host.handle.LinkSetVfHardwareAddr(pf, vf.Index, mac)
	}
}

// restoreVF tells a PF what it had for the VF before. A VF that is lost may be another
// one's by now: then nothing is told, unless each setting is still as candor set it, or
// as it was before, where giving back was cut short.
func restoreVF(ctx context.Context, host *Namespace, rec *ledger.NIC, lost bool) error {
	vf := rec.VF
	if vf == nil || vf.Set.Empty() {
		return nil
	}
	if lost {
		_, now, err := host.vfInfo(vf.PF, vf.Index)
		if err != nil {
			return nil //nolint:nilerr // the VF is gone with all that was set
		}
		if !ours(vf, now) {
			return nil
		}
	}
	refused, err := host.tellPF(ctx, vf.PF, vf.Index, vf.Before, false)
	errs := []error{err}
	for _, r := range refused {
		if !wasRefused(vf, r.Setting) {
			errs = append(errs, r)
		}
	}
	return errors.Join(errs...)
}

// ours reports whether what a PF shows of a VF is candor's work and nobody else's.
func ours(vf *ledger.VF, info netlink.VfInfo) bool {
	now, set, before := shown(vf.Set, info), vf.Set, vf.Before
	for _, of := range [][3]any{
		{now.MAC, set.MAC, before.MAC},
		{now.VLAN, set.VLAN, before.VLAN},
		{now.Rate, set.Rate, before.Rate},
		{now.SpoofCheck, set.SpoofCheck, before.SpoofCheck},
		{now.Trust, set.Trust, before.Trust},
		{now.LinkState, set.LinkState, before.LinkState},
	} {
		if !reflect.DeepEqual(of[0], of[1]) && !reflect.DeepEqual(of[0], of[2]) {
			return false
		}
	}
	return true
}

// wasRefused reports whether the driver refused a setting at the attach already.
func wasRefused(vf *ledger.VF, setting string) bool {
	return slices.ContainsFunc(vf.Refused, func(text string) bool { return strings.HasPrefix(text, setting+":") })
}
