package nic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/ledger"
)

// carrierWait is how long a NIC gets to find its link again after it was down
// for the move. Copper takes one to three seconds; what is announced without
// carrier is lost, but addresses and routes work as soon as it comes.
const carrierWait = 2 * time.Second

// undoTime is what undoing may take when the attach's own time has run out.
const undoTime = 3 * time.Second

// minMTUv6 is the smallest MTU with IPv6 (RFC 8200); below it the kernel takes
// IPv6 off the interface.
const minMTUv6 = 1280

// Config is how a NIC is to be in the container.
type Config struct {
	// Addresses with the lengths of their subnets' prefixes.
	Addresses []netip.Prefix
	// KeepAddresses keeps the addresses that the NIC has on the host, for
	// good, beside Addresses. Its routes stay behind.
	KeepAddresses bool
	// Gateways: at most one per address family, of a family of which the NIC
	// gets an address. See [Config.DefaultRoute].
	Gateways []netip.Addr
	// DefaultRoute gives the default routes the metric that engines give
	// theirs; a namespace that has one already is an error. Without it the
	// metric is 4096: any other default route wins, whenever it comes. Either
	// way what is sent from the NIC's addresses leaves through the NIC.
	DefaultRoute bool
	Routes       []Route
	// MTU in bytes; 0 leaves it.
	MTU int
	// Promisc and AllMulti are the flags IFF_PROMISC and IFF_ALLMULTI; nil leaves
	// them.
	Promisc, AllMulti *bool
	// BestEffort attaches a VF also where its PF refuses a setting: the record
	// says which.
	BestEffort bool
}

// Route is a route through the NIC. Without a gateway the destination is on the
// link. A gateway outside the NIC's subnets is taken to be on the link.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
	// Metric is 0 for the kernel's default.
	Metric int
	// Table is 0 for the main table. To another one no rule leads: whoever
	// asks for it makes them. From 10000 on they are candor's own.
	Table int
}

// Attach moves the NIC of the record from the host to the target namespace and
// configures it there, as rec.Interface. The record, made by [Snapshot], has to
// be on disk already; save is called once the NIC's index in the container is in
// it; at the end the record has what the container was given. Where Attach returns
// an error it has undone its own work.
func Attach(ctx context.Context, host, target *Namespace, rec *ledger.NIC, cfg Config, save func() error) error {
	a := &attach{host: host, target: target, rec: rec, cfg: cfg, save: save}
	return a.run(ctx)
}

// attach is one Attach under way.
type attach struct {
	host, target *Namespace
	rec          *ledger.NIC
	cfg          Config
	save         func() error

	link      netlink.Link // as it was at the start of the latest step that looked
	addresses []ledger.Address
	// given is what is done of what the record will have as such.
	given ledger.Given
	// late says that the carrier came after the NIC was up, when nobody heard
	// what the kernel announced.
	late bool

	// passed, when set, is told of each step that is done: tests stop there.
	passed func(step string)
}

// step is one step of an attach. what reads as a sentence with the NIC in it.
type step struct {
	name, what string
	do         func(context.Context) error
}

func (a *attach) run(ctx context.Context) (err error) {
	if err := a.check(); err != nil {
		return err
	}
	// One inverse for all steps: giving back is written for any state that a
	// kill may leave, so an error finds nothing that it cannot undo.
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		if undo := GiveBack(ctx, a.host, []*Namespace{a.target}, a.rec); undo != nil {
			err = errors.Join(err, fmt.Errorf("undo it: %w", undo))
		}
	}()
	for _, s := range []step{
		{"vf", "set up nic %s as a VF", a.setVFSettings},
		{"down", "take down nic %s", a.takeDown},
		{"mac", "have nic %s take its MAC", a.takeMAC},
		{"altnames", "drop the altnames of nic %s that are taken in the container", a.dropAltNames},
		{"move", "move nic %s into the container", a.move},
		{"save", "save where nic %s is", func(context.Context) error { return a.save() }},
		{"rename", "name nic %s in the container", a.rename},
		{"mtu", "set the MTU of nic %s", a.setMTU},
		{"flags", "set the flags of nic %s", a.setFlags},
		{"sysctls", "set up nic %s", a.setSysctls},
		{"addresses", "give nic %s its addresses", a.addAddresses},
		{"up", "bring up nic %s", a.bringUp},
		{"routes", "give nic %s its routes", a.addRoutes},
		{"announce", "announce the addresses of nic %s", a.announce},
	} {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf(s.what+": %w", labelOf(a.rec), err)
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf(s.what+": %w", labelOf(a.rec), err)
		}
		if a.passed != nil {
			a.passed(s.name)
		}
	}
	a.given.MTU = cmp.Or(a.cfg.MTU, a.rec.MTU)
	a.given.Promisc, a.given.AllMulti = a.cfg.Promisc, a.cfg.AllMulti
	a.rec.Given = &a.given
	return nil
}

// check finds what is wrong with the request before anything is touched.
func (a *attach) check() error {
	refuse := func(err error) error { return fmt.Errorf("attach nic %s: %w", labelOf(a.rec), err) }
	if a.target.ID() == a.host.ID() {
		return &RefusedError{NIC: labelOf(a.rec), Reason: "the container has the host's network namespace"}
	}
	if err := errors.Join(checkName(a.rec.Interface), checkName(a.rec.TransientName)); err != nil {
		return refuse(err)
	}
	for _, p := range a.cfg.Addresses {
		a.addresses = append(a.addresses, ledger.Address{Prefix: p, Broadcast: broadcastOf(p)})
	}
	if a.cfg.KeepAddresses {
		a.addresses = append(a.addresses, keptAddresses(a.rec)...)
	}
	if err := checkRoutes(a.cfg, a.addresses); err != nil {
		return refuse(err)
	}
	mtu := a.rec.MTU
	if a.cfg.MTU != 0 {
		mtu = a.cfg.MTU
	}
	if a.has(netip.Addr.Is6) && mtu < minMTUv6 {
		return refuse(fmt.Errorf("an MTU of %d is too small for its IPv6 addresses: they need %d", mtu, minMTUv6))
	}
	if err := a.checkPF(); err != nil {
		return refuse(err)
	}
	link, err := a.host.linkByIndex(a.rec.Index)
	if err != nil {
		return refuse(err)
	}
	if link == nil || link.Attrs().Name != a.rec.Name || !isIt(a.rec, link) {
		return &NotFoundError{MAC: a.rec.MAC}
	}
	a.link = link
	return a.checkTarget(refuse)
}

// checkTarget asks what the kernel would answer later anyhow, while nothing has
// to be undone yet.
func (a *attach) checkTarget(refuse func(error) error) error {
	taken, err := a.target.linkByName(a.rec.Interface)
	if err != nil {
		return refuse(err)
	}
	if taken != nil {
		return refuse(a.nameTaken())
	}
	if !a.cfg.DefaultRoute {
		return nil
	}
	for _, gw := range a.cfg.Gateways {
		other, err := a.target.defaultRoute(gw)
		if err != nil {
			return refuse(err)
		}
		if other != "" {
			return refuse(fmt.Errorf("the container has a default route already, through %s: leave out default-route, or the other network", other))
		}
	}
	return nil
}

func (a *attach) nameTaken() error {
	return fmt.Errorf("the container has an interface %s already: ask for another name", a.rec.Interface)
}

func (a *attach) has(family func(netip.Addr) bool) bool {
	return slices.ContainsFunc(a.addresses, func(addr ledger.Address) bool { return family(addr.Prefix.Addr()) })
}

// keptAddresses are the NIC's addresses on the host as a container gets them:
// for good, since whoever renews them there cannot reach them any more, and
// without labels, which begin with a name of the host.
func keptAddresses(rec *ledger.NIC) []ledger.Address {
	var kept []ledger.Address
	for _, addr := range rec.Addresses {
		if addr.Prefix.Addr().Is6() && addr.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		kept = append(kept, ledger.Address{Prefix: addr.Prefix, Peer: addr.Peer, Broadcast: addr.Broadcast, Scope: addr.Scope})
	}
	return kept
}

// takeDown comes before all that is done to the interface itself: old kernels rename
// nothing that is up, and the move takes it down anyhow. The PF has been told by then:
// a VF asks it for its MAC when it goes down, and need not be reset for it.
func (a *attach) takeDown(context.Context) error {
	return a.host.handle.LinkSetDown(a.link)
}

// dropAltNames takes off what would make the move fail with EEXIST. All of them
// are in the record. The wanted name may be one of the NIC's own.
func (a *attach) dropAltNames(context.Context) error {
	for _, name := range a.link.Attrs().AltNames {
		taken, err := a.target.linkByName(name)
		if err != nil {
			return err
		}
		if taken == nil && name != a.rec.Interface {
			continue
		}
		if err := a.host.handle.LinkDelAltName(a.link, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (a *attach) move(ctx context.Context) error {
	if err := a.host.move(ctx, a.link.Attrs().Index, a.target, a.rec.TransientName, 0); err != nil {
		return err
	}
	link, err := a.target.linkByName(a.rec.TransientName)
	if err != nil {
		return err
	}
	if link == nil {
		return errors.New("it did not arrive")
	}
	// The index is the host's only where it was free in the target.
	a.link, a.rec.InnerIndex = link, link.Attrs().Index
	return nil
}

// rename gives the NIC its name inside. The transient name stays with it as an
// altname, by which giving back knows it again, whatever the container does to
// name and MAC, from another device that got its index.
func (a *attach) rename(context.Context) error {
	err := a.target.handle.LinkSetName(a.link, a.rec.Interface)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w (%w)", a.nameTaken(), err)
	}
	if err != nil {
		return err
	}
	err = a.target.handle.LinkAddAltName(a.link, a.rec.TransientName)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // Linux before 5.5
	}
	return err
}

func (a *attach) setMTU(context.Context) error {
	if a.cfg.MTU == 0 || a.cfg.MTU == a.link.Attrs().MTU {
		return nil
	}
	return a.target.handle.LinkSetMTU(a.link, a.cfg.MTU)
}

func (a *attach) setFlags(context.Context) error {
	var flags, change uint32
	for bit, on := range map[uint32]*bool{unix.IFF_PROMISC: a.cfg.Promisc, unix.IFF_ALLMULTI: a.cfg.AllMulti} {
		if on == nil {
			continue
		}
		change |= bit
		if *on {
			flags |= bit
		}
	}
	if change == 0 {
		return nil
	}
	return a.target.setFlags(a.link.Attrs().Index, flags, change)
}

// setSysctls has the kernel announce the addresses when the NIC comes up, now
// and later, and makes IPv6 do what static addresses mean: engines turn it off in
// namespaces without it; a router must not add addresses and default routes to
// those that were asked for; detection of duplicates would leave the link-local
// address, and with it neighbour discovery, unusable for a second.
func (a *attach) setSysctls(context.Context) error {
	set := map[string]string{}
	if a.has(netip.Addr.Is4) {
		set["ipv4/conf/%s/arp_notify"] = "1"
	}
	if a.has(netip.Addr.Is6) {
		set["ipv6/conf/%s/disable_ipv6"] = "0"
		set["ipv6/conf/%s/accept_ra"] = "0"
		set["ipv6/conf/%s/accept_dad"] = "0"
		set["ipv6/conf/%s/keep_addr_on_down"] = "1"
		set["ipv6/conf/%s/ndisc_notify"] = "1"
	}
	return a.target.setSysctls(a.rec.Interface, set)
}

func (a *attach) addAddresses(context.Context) error {
	for _, addr := range asAdded(a.addresses) {
		if addr.Prefix.Addr().Is6() {
			// Usable at once, instead of after a second of "tentative".
			addr.Flags |= unix.IFA_F_NODAD
		}
		if err := a.target.setAddress(a.link.Attrs().Index, addr, 0); err != nil {
			return fmt.Errorf("%s: %w", addr.Prefix, err)
		}
		a.given.Addresses = append(a.given.Addresses, addr.Prefix)
	}
	return nil
}

// bringUp waits for the carrier where there is something to announce.
func (a *attach) bringUp(ctx context.Context) error {
	if err := a.target.handle.LinkSetUp(a.link); err != nil {
		return err
	}
	if len(a.addresses) == 0 {
		return nil
	}
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		link, err := a.target.linkByIndex(a.link.Attrs().Index)
		if err != nil {
			return err
		}
		if link == nil {
			return errors.New("it has gone")
		}
		a.link = link
		// IFF_RUNNING alone lags behind the carrier, either way, until the kernel's
		// link watch gets round to it: on 6.1 up to a second.
		const up = unix.IFF_LOWER_UP | unix.IFF_RUNNING
		if carrier := link.Attrs().RawFlags&up == up; carrier || time.Since(start) > carrierWait {
			a.late = carrier && a.late
			return nil
		}
		a.late = true
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}
