package nic

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

const simulated = "netdevsim4711"

// newNetdevsim makes a simulated PF with VFs in the lab's host: it takes every
// setting, also those that few cards know, and shows them again.
func newNetdevsim(t *testing.T, l *lab, vfs int) {
	t.Helper()
	const bus = "/sys/bus/netdevsim"
	if exec.Command("modprobe", "-a", "ptp_mock", "netdevsim").Run() != nil {
		if _, err := os.Stat(bus); err != nil {
			t.Skip("needs the kernel's netdevsim: runs in the test guest")
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bus, path), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	number := strings.TrimPrefix(simulated, "netdevsim")
	// It appears in the namespace of whoever asks for it.
	if err := l.hostNS.Do(func() error { write("new_device", number+" 1"); return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { write("del_device", number) })
	l.eventually("the PF has an interface", func() bool {
		links, err := l.hostNS.links()
		return err == nil && pfLinkOf(links, simulated) != nil
	})
	write("devices/"+simulated+"/sriov_numvfs", fmt.Sprint(vfs))
}

func pointer[T any](v T) *T { return &v }

func (l *lab) vfShows(touched ledger.VFSettings, index int) ledger.VFSettings {
	l.t.Helper()
	_, info, err := l.hostNS.vfInfo(simulated, index)
	if err != nil {
		l.t.Fatal(err)
	}
	return shown(touched, info)
}

func TestVFSettingsAreToldToThePFAndBack(t *testing.T) {
	l := newLab(t, "veth")
	newNetdevsim(t, l, 3)
	for name, want := range map[string]ledger.VFSettings{
		"MAC":           {MAC: "02:00:00:00:00:aa"},
		"VLAN":          {VLAN: &ledger.VLAN{ID: 100, QoS: 3, Protocol: tag8021Q}},
		"VLAN, 802.1ad": {VLAN: &ledger.VLAN{ID: 4094, QoS: 7, Protocol: tag8021AD}},
		"rates":         {Rate: &ledger.VFRate{Min: 100, Max: 2000}},
		"spoofchk":      {SpoofCheck: pointer(true)},
		"trust":         {Trust: pointer(true)},
		"link disabled": {LinkState: "disable"},
		"link enabled":  {LinkState: "enable"},
		"all": {
			MAC: "02:00:00:00:00:bb", VLAN: &ledger.VLAN{ID: 5, Protocol: tag8021Q}, Rate: &ledger.VFRate{Min: 1, Max: 1},
			SpoofCheck: pointer(true), Trust: pointer(true), LinkState: "enable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			untouched := l.ip(l.host, "link show")
			_, info, err := l.hostNS.vfInfo(simulated, 1)
			if err != nil {
				t.Fatal(err)
			}
			rec := &ledger.NIC{VF: &ledger.VF{PF: simulated, Index: 1, Set: want, Before: shown(want, info)}}
			refused, err := l.hostNS.tellPF(t.Context(), simulated, 1, want, true)
			if err != nil || len(refused) > 0 {
				t.Fatal(err, refused)
			}
			if now := l.vfShows(want, 1); !reflect.DeepEqual(now, want) {
				t.Errorf("the PF shows %+v, want %+v", now, want)
			}
			for range 2 { // again changes nothing
				if err := restoreVF(t.Context(), l.hostNS, rec, false); err != nil {
					t.Error(err)
				}
			}
			if now := l.ip(l.host, "link show"); now != untouched {
				t.Errorf("afterwards: %s\nbefore: %s", now, untouched)
			}
		})
	}
}

// What somebody else has set meanwhile on a VF that is lost is theirs.
func TestSettingsOfALostVF(t *testing.T) {
	l := newLab(t, "veth")
	newNetdevsim(t, l, 1)
	set := ledger.VFSettings{VLAN: &ledger.VLAN{ID: 100, Protocol: tag8021Q}, Trust: pointer(true)}
	before := l.vfShows(set, 0)
	rec := &ledger.NIC{VF: &ledger.VF{PF: simulated, Index: 0, Set: set, Before: before}}
	for _, tt := range []struct {
		now, want ledger.VFSettings
	}{
		{set, before},
		// Giving back was cut short.
		{ledger.VFSettings{VLAN: before.VLAN, Trust: pointer(true)}, before},
		{
			ledger.VFSettings{VLAN: &ledger.VLAN{ID: 7, Protocol: tag8021Q}, Trust: pointer(true)},
			ledger.VFSettings{VLAN: &ledger.VLAN{ID: 7, Protocol: tag8021Q}, Trust: pointer(true)},
		},
	} {
		if _, err := l.hostNS.tellPF(t.Context(), simulated, 0, tt.now, true); err != nil {
			t.Fatal(err)
		}
		if err := restoreVF(t.Context(), l.hostNS, rec, true); err != nil {
			t.Error(err)
		}
		if now := l.vfShows(set, 0); !reflect.DeepEqual(now, tt.want) {
			t.Errorf("the PF shows %+v, want %+v", now, tt.want)
		}
	}
	rec.VF.PF = "0000:ff:00.0"
	if err := restoreVF(t.Context(), l.hostNS, rec, true); err != nil {
		t.Errorf("of a PF that is gone: %v", err)
	}
}

func TestPlanOfAVF(t *testing.T) {
	l := newLab(t, "veth")
	newNetdevsim(t, l, 2)
	link, err := l.hostNS.linkByName("ens5")
	if err != nil {
		t.Fatal(err)
	}
	vf := VF{PF: simulated, Index: 1, Link: link}
	// The bound that was not asked for stays as it is.
	limit := ledger.VFSettings{Rate: &ledger.VFRate{Max: 500}}
	if _, err := l.hostNS.tellPF(t.Context(), simulated, 1, limit, true); err != nil {
		t.Fatal(err)
	}
	plan, err := PlanVF(l.hostNS, vf, ledger.VFSettings{Rate: &ledger.VFRate{Min: 100}})
	if err != nil || *plan.Set.Rate != (ledger.VFRate{Min: 100, Max: 500}) || *plan.Before.Rate != *limit.Rate {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if _, err := PlanVF(l.hostNS, vf, ledger.VFSettings{Rate: &ledger.VFRate{Min: 501}}); err == nil || !strings.Contains(err.Error(), "501 to 500") {
		t.Errorf("error %v", err)
	}
	if _, err := PlanVF(l.hostNS, VF{PF: simulated, Index: 2, Link: link}, limit); err == nil || !strings.Contains(err.Error(), "does not list its VF 2") {
		t.Errorf("error %v", err)
	}
	// Without a wish the PF need not even be there; a VF without a MAC needs one.
	if plan, err := PlanVF(l.hostNS, VF{PF: "0000:ff:00.0", Link: link}, ledger.VFSettings{}); err != nil || !plan.Set.Empty() {
		t.Errorf("plan %+v, %v", plan, err)
	}
	link.Attrs().HardwareAddr = make(net.HardwareAddr, 6)
	first, err := PlanVF(l.hostNS, vf, ledger.VFSettings{})
	again, err2 := PlanVF(l.hostNS, vf, ledger.VFSettings{})
	mac, err3 := net.ParseMAC(first.Set.MAC)
	if err := errors.Join(err, err2, err3); err != nil || first.Set.MAC != again.Set.MAC || mac[0]&3 != 2 {
		t.Errorf("MACs %q and %q, %v", first.Set.MAC, again.Set.MAC, err)
	}
}

func TestBusyDriverIsAskedAgain(t *testing.T) {
	start, calls := time.Now(), 0
	err := retryBusy(t.Context(), func() error {
		if calls++; calls < 3 {
			return unix.EBUSY
		}
		return unix.EOPNOTSUPP
	})
	if !errors.Is(err, unix.EOPNOTSUPP) || calls != 3 || time.Since(start) > vfSettle {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// newBus is a PCI bus in a folder.
func newBus(t *testing.T) pciBus {
	t.Helper()
	b := pciBus(t.TempDir())
	for path, text := range map[string]string{
		"0000:3b:00.0/sriov_numvfs": "2", "0000:3b:00.0/sriov_totalvfs": "8",
		"0000:3b:00.0/vendor": "0x8086", "0000:3b:00.0/device": "0x10c9",
		"0000:3b:00.1/sriov_numvfs": "0", "0000:3b:00.1/sriov_totalvfs": "8",
		"0000:3b:00.1/vendor": "0x15b3", "0000:3b:00.1/device": "0x1017",
		"0000:3b:10.0/vendor": "0x8086", "0000:3b:10.2/vendor": "0x8086",
	} {
		path = filepath.Join(string(b), path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{
		"0000:3b:00.0/virtfn0": "../0000:3b:10.0", "0000:3b:00.0/virtfn1": "../0000:3b:10.2",
		"0000:3b:10.0/driver": "../../drivers/igbvf",
	} {
		if err := os.Symlink(to, filepath.Join(string(b), from)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestVFsThatASelectorMeans(t *testing.T) {
	l := newLab(t, "veth")
	b := newBus(t)
	for _, tt := range []struct {
		name string
		s    VFSelector
		want []int  // their numbers
		err  string // a part of it
	}{
		{"by address", VFSelector{PFs: []PFSelector{{Device: "0000:3b:00.0"}}}, []int{0, 1}, ""},
		{"by glob", VFSelector{PFs: []PFSelector{{Device: "0000:3b:*"}}}, []int{0, 1}, ""},
		{"by model", VFSelector{PFs: []PFSelector{{Device: "8086:10c9"}}}, []int{0, 1}, ""},
		{"by number", VFSelector{PFs: []PFSelector{{Device: "8086:*", VFs: []Range{{1, 7}}}}}, []int{1}, ""},
		{"by driver", VFSelector{PFs: []PFSelector{{Device: "*"}}, Drivers: []string{"igb*"}}, []int{0}, ""},
		{"two selectors of one PF", VFSelector{PFs: []PFSelector{{Device: "8086:*", VFs: []Range{{0, 0}}}, {Device: "*00.0", VFs: []Range{{1, 1}}}}}, []int{0, 1}, ""},
		{"no such PF", VFSelector{PFs: []PFSelector{{Device: "ens9"}}}, nil, "no PF of this node is ens9: it has 0000:3b:00.0, 0000:3b:00.1"},
		{"a PF without VFs", VFSelector{PFs: []PFSelector{{Device: "15b3:1017"}}}, nil, "0000:3b:00.1 has none: write a number into " + b.path("0000:3b:00.1", "sriov_numvfs")},
		{"no number of theirs", VFSelector{PFs: []PFSelector{{Device: "8086:*", VFs: []Range{{5, 7}}}}}, nil, "none of the 2 of 0000:3b:00.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vfs, err := b.find(l.hostNS, tt.s)
			if tt.err != "" {
				var none *NoVFError
				if !errors.As(err, &none) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, vf := range vfs {
				got = append(got, vf.Index)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	vfs, err := b.find(l.hostNS, VFSelector{PFs: []PFSelector{{Device: "8086:*"}}})
	if err != nil || vfs[0].Unusable != "it has no interface on the host (driver igbvf)" || vfs[1].Unusable != "it has no driver" {
		t.Errorf("%+v, %v", vfs, err)
	}
	if err := b.createVFs(t.Context(), l.hostNS, "0000:3b:00.1", 9); err == nil || !strings.Contains(err.Error(), "it can have 8") {
		t.Errorf("error %v", err)
	}
}
