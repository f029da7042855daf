package policy

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"candor.dev/candor/request"
)

// PF says which physical functions a vf pool has, and which of their VFs.
type PF struct {
	// Device is a glob (path.Match) for the PF's interface or PCI address, or a
	// model's PCI ids, as in "8086:10c9".
	Device string
	// VFs are the numbers of the VFs; none is all.
	VFs []Range
}

// Range is a range of numbers, both ends included.
type Range struct{ First, Last int }

func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func contains(list []Range, n int) bool {
	return slices.ContainsFunc(list, func(r Range) bool { return r.First <= n && n <= r.Last })
}

// VFPool is what only a pool of kind [KindVF] has.
type VFPool struct {
	PFs []PF
	// NumVFs is how many VFs a PF that has none gets; 0 leaves it without.
	NumVFs int
	// VLAN is the one of a VF that asks for none; nil leaves it as it is. VLANs
	// are those that may be asked for.
	VLAN  *int
	VLANs []Range
	// MaxTxRate is the highest rate that may be asked for, 0 any; MinTxRate is the
	// highest guarantee, 0 none.
	MinTxRate, MaxTxRate request.Rate
}

// VF is how a VF is set up for a container. What nobody asked for is nil, 0 or "".
type VF struct {
	VLAN                 *int
	QoS                  int
	Proto                string
	SpoofChk, Trust      *bool
	LinkState            string
	MinTxRate, MaxTxRate request.Rate
	// BestEffort takes the VF also where its PF refuses one of these.
	BestEffort bool
}

// The words of a pool's permit key: what a container may ask for only where the
// pool says so, since with each of them it can see or forge others' traffic.
const (
	permitTrust    = "trust"
	permitSpoofing = "spoofchk-off"
	permitPromisc  = "promisc"
	permitAllMulti = "allmulti"
)

func permits() []string { return []string{permitTrust, permitSpoofing, permitPromisc, permitAllMulti} }

// maxVFs is more than any PF has (16 bits of routing ids).
const maxVFs = 1 << 16

// vfPool makes a VFPool of what the file says. Its errors begin with the key.
func (s poolSettings) vfPool() (pool VFPool, err error) {
	for _, text := range s.PFs {
		pf, err := parsePF(text)
		if err != nil {
			return VFPool{}, fmt.Errorf("pfs: %w", err)
		}
		pool.PFs = append(pool.PFs, pf)
	}
	if n := s.NumVFs; n != nil {
		if *n < 1 || *n > maxVFs {
			return VFPool{}, fmt.Errorf("numvfs: %d must be 1 to %d", *n, maxVFs)
		}
		pool.NumVFs = int(*n)
	}
	if v := s.VLAN; v != nil {
		if *v < 0 || *v > 4094 {
			return VFPool{}, fmt.Errorf("vlan: %d must be 0 to 4094", *v)
		}
		id := int(*v)
		pool.VLAN = &id
	}
	for _, text := range s.VLANs {
		r, err := parseRange(text, 4094)
		if err != nil {
			return VFPool{}, fmt.Errorf("vlans: %w", err)
		}
		pool.VLANs = append(pool.VLANs, r)
	}
	for _, r := range []struct {
		key  string
		from string
		to   *request.Rate
	}{{"min_tx_rate", s.MinTxRate, &pool.MinTxRate}, {"max_tx_rate", s.MaxTxRate, &pool.MaxTxRate}} {
		if r.from == "" {
			continue
		}
		if *r.to, err = request.ParseRate(r.from); err != nil {
			return VFPool{}, fmt.Errorf("%s: %w", r.key, err)
		}
	}
	return pool, nil
}

// parsePF reads a PF with the numbers of its VFs, as in "ens1f0#0-3,6".
func parsePF(text string) (PF, error) {
	device, numbers, some := strings.Cut(text, "#")
	pf := PF{Device: device}
	if err := checkGlob(device); err != nil {
		return PF{}, err
	}
	if !some {
		return pf, nil
	}
	for part := range strings.SplitSeq(numbers, ",") {
		r, err := parseRange(part, maxVFs-1)
		if err != nil {
			return PF{}, fmt.Errorf("%q: %w", text, err)
		}
		pf.VFs = append(pf.VFs, r)
	}
	return pf, nil
}

func parseRange(text string, most int) (Range, error) {
	first, last, two := strings.Cut(text, "-")
	if !two {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 31)
	to, err2 := strconv.ParseUint(last, 10, 31)
	if err != nil || err2 != nil || from > to || to > uint64(most) {
		return Range{}, fmt.Errorf(`%q is neither a number nor a range such as "0-3", up to %d`, text, most)
	}
	return Range{int(from), int(to)}, nil
}

func checkPermit(word string) error {
	if slices.Contains(permits(), word) {
		return nil
	}
	if near := request.Nearest(word, permits()); near != "" {
		return fmt.Errorf("%q is unknown; did you mean %q?", word, near)
	}
	return fmt.Errorf("%q is unknown: one of %s", word, strings.Join(permits(), ", "))
}

// checkPermits refuses what a container may have only by the pool's word.
func (pool Pool) checkPermits(n request.NIC) error {
	for _, f := range []struct {
		asked  string
		is     bool
		permit string
	}{
		{`"trust": true`, n.Trust != nil && *n.Trust, permitTrust},
		{`"spoofchk": false`, n.SpoofChk != nil && !*n.SpoofChk, permitSpoofing},
		{`"promisc": true`, n.Promisc != nil && *n.Promisc, permitPromisc},
		{`"allmulti": true`, n.AllMulti != nil && *n.AllMulti, permitAllMulti},
	} {
		if f.is && !slices.Contains(pool.Permit, f.permit) {
			return fmt.Errorf("%s is more than the pool permits: it would have to say permit = [%q]", f.asked, f.permit)
		}
	}
	return nil
}

// grantVF decides on the settings of a VF.
func (pool Pool) grantVF(n request.NIC) (*VF, error) {
	vf := &VF{
		VLAN: n.VLAN, Proto: n.Proto, SpoofChk: n.SpoofChk, Trust: n.Trust, LinkState: n.LinkState,
		MinTxRate: n.MinTxRate, MaxTxRate: n.MaxTxRate, BestEffort: n.BestEffort,
	}
	if n.QoS != nil {
		vf.QoS = *n.QoS
	}
	own := pool.VF.VLAN
	switch {
	case n.VLAN == nil:
		vf.VLAN = own
	case own != nil && *own == *n.VLAN, contains(pool.VF.VLANs, *n.VLAN):
	case len(pool.VF.VLANs) == 0:
		return nil, fmt.Errorf("vlan %d: the pool has no vlans, so that none can be asked for", *n.VLAN)
	default:
		return nil, fmt.Errorf("vlan %d is none of the pool's (%s)", *n.VLAN, ranges(pool.VF.VLANs))
	}
	if most := pool.VF.MaxTxRate; most != 0 && n.MaxTxRate > most {
		return nil, fmt.Errorf("max-tx-rate %s: the pool's max_tx_rate is %s", n.MaxTxRate, most)
	}
	switch most := pool.VF.MinTxRate; {
	case n.MinTxRate == 0:
	case most == 0:
		return nil, fmt.Errorf("min-tx-rate %s: the pool has no min_tx_rate, so that no guarantee can be asked for", n.MinTxRate)
	case n.MinTxRate > most:
		return nil, fmt.Errorf("min-tx-rate %s: the pool's min_tx_rate is %s", n.MinTxRate, most)
	}
	return vf, nil
}

// checkAssigned refuses a MAC address that the pool does not let its users take.
func (pool Pool) checkAssigned(mac net.HardwareAddr) error {
	switch {
	case len(mac) == 0:
		return nil
	case len(pool.MACs) == 0:
		return errors.New("mac: the pool has no macs, so that none can be asked for")
	case !matches(pool.MACs, mac.String()):
		return fmt.Errorf("mac %s is none of the pool's (%s)", mac, strings.Join(pool.MACs, ", "))
	}
	return nil
}

func ranges(list []Range) string {
	texts := make([]string, len(list))
	for i, r := range list {
		texts[i] = r.String()
	}
	return strings.Join(texts, ", ")
}
