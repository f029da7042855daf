package lifecycle

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"candor.dev/candor/ledger"
	"candor.dev/candor/nic"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// Node is the machine as candor works on it. Its methods run in pid 1's mount
// namespace ([statedir.InHostMounts]).
type Node struct {
	StateDir string
	Log      *slog.Logger

	store  *ledger.Store
	bootID string
}

// OpenNode prepares the state directory and opens the ledger in it.
func OpenNode(stateDir string, log *slog.Logger) (*Node, error) {
	if err := statedir.Prepare(stateDir); err != nil {
		return nil, err
	}
	store, err := ledger.Open(stateDir)
	if err != nil {
		return nil, err
	}
	return newNode(stateDir, log, store)
}

// LookAt opens a node only to look at it, so that nothing is made: not even the
// state directory, without which the ledger is empty.
func LookAt(stateDir string) (*Node, error) {
	return newNode(stateDir, slog.New(slog.DiscardHandler), ledger.Look(stateDir))
}

func newNode(stateDir string, log *slog.Logger, store *ledger.Store) (*Node, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	return &Node{StateDir: stateDir, Log: log, store: store, bootID: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the container of a record runs. A record of another
// boot names a pid of a kernel that is gone: whoever has it now is a stranger.
func (n *Node) Alive(r *ledger.Record) bool { return r.BootID == n.bootID && r.Owner.Alive() }

// Store is the node's ledger.
func (n *Node) Store() *ledger.Store { return n.store }

// hostPin is the name of the pin of the namespace that a record's NICs came
// from. It matters where the engine runs in a network namespace of its own.
func hostPin(key string) string { return key + ".host" }

// initNetns opens the network namespace of a container's init. The pidfd that
// is opened first, and asked again at the end, proves that the pid was not
// given to another process in between.
func initNetns(owner ledger.Process) (*nic.Namespace, error) {
	pidfd, err := owner.OpenPidfd()
	if err != nil {
		return nil, fmt.Errorf("init %d: %w", owner.PID, err)
	}
	defer pidfd.Close()
	ns, err := nic.Open(fmt.Sprintf("/proc/%d/ns/net", owner.PID))
	if err != nil {
		return nil, err
	}
	if !owner.Alive() {
		return nil, errors.Join(fmt.Errorf("init %d: %w", owner.PID, os.ErrProcessDone), ns.Close())
	}
	return ns, nil
}

// isHostNetns reports whether the init of a container is in the network
// namespace that this process or pid 1 runs in.
//
// Pid 1's is compared by the files that each namespace has of its own below
// /proc/PID/net: /proc/1/ns/net cannot be opened without ptrace rights over
// pid 1, which a root that lacks one of its capabilities does not have.
func isHostNetns(owner ledger.Process, ns, host *nic.Namespace) (bool, error) {
	if ns.ID() == host.ID() {
		return true, nil
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/net/dev", owner.PID))
	if err != nil {
		return false, fmt.Errorf("compare network namespace with pid 1's: %w", err)
	}
	hosts, err := os.Stat("/proc/1/net/dev")
	if err != nil {
		return false, fmt.Errorf("compare network namespace with pid 1's: %w", err)
	}
	return os.SameFile(theirs, hosts), nil
}

// isPid1s reports whether a network namespace is known to be pid 1's, which lives as
// long as anything that could give a NIC back to it, and so needs no pin. Of pid 1's
// nothing is known to a root that lacks one of its capabilities.
func isPid1s(ns ledger.Namespace) bool {
	var st unix.Stat_t
	err := unix.Stat("/proc/1/ns/net", &st)
	return err == nil && ns == ledger.Namespace{Device: st.Dev, Inode: st.Ino}
}

// hostNamespace opens the namespace that a record's NICs came from: our own,
// pid 1's, or, when both are others, the one that was pinned.
func (n *Node) hostNamespace(r *ledger.Record) (*nic.Namespace, error) {
	var errs []error
	for _, open := range []func() (*nic.Namespace, error){
		nic.Current,
		func() (*nic.Namespace, error) { return nic.Open("/proc/1/ns/net") },
		func() (*nic.Namespace, error) { return n.openPin(hostPin(r.Key)) },
	} {
		ns, err := open()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ns.ID() == r.HostNetns {
			return ns, nil
		}
		errs = append(errs, ns.Close())
	}
	return nil, fmt.Errorf("the network namespace that the nics came from (inode %d) is gone: %w", r.HostNetns.Inode, errors.Join(errs...))
}

// recordedNamespace opens the network namespace that the record names, by its pin
// or by the init.
func (n *Node) recordedNamespace(r *ledger.Record) (*nic.Namespace, error) {
	var errs []error
	for _, open := range []func() (*nic.Namespace, error){
		func() (*nic.Namespace, error) { return n.openPin(r.Key) },
		func() (*nic.Namespace, error) { return initNetns(r.Owner) },
	} {
		ns, err := open()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ns.ID() == r.Netns {
			return ns, nil
		}
		errs = append(errs, ns.Close())
	}
	return nil, fmt.Errorf("the network namespace of the record (%s) is gone: %w", inode(r.Netns), errors.Join(errs...))
}

// inode names a namespace as ls -i and lsns do.
func inode(ns ledger.Namespace) string { return fmt.Sprintf("inode %d", ns.Inode) }

func (n *Node) openPin(name string) (*nic.Namespace, error) {
	f, err := statedir.OpenPin(n.StateDir, name)
	if err != nil {
		return nil, err
	}
	return nic.FromFile(f)
}
