package nic

import (
	"fmt"
	"strings"

	"candor.dev/candor/ledger"
)

// NotFoundError says that no NIC of the host is the one asked for.
type NotFoundError struct {
	MAC string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("nic %s is not on this node", e.MAC)
}

// AmbiguousError says that several interfaces of the host have the address asked
// for and none of them stands out as the NIC itself.
type AmbiguousError struct {
	MAC   string
	Names []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("nic %s is ambiguous: %s have this address; give the one that is meant an address of its own",
		e.MAC, strings.Join(e.Names, ", "))
}

// RefusedError says that a NIC was found but must not be given away. NIC is
// empty where the request did not even name one.
type RefusedError struct {
	NIC    string
	Reason string
}

func (e *RefusedError) Error() string {
	if e.NIC == "" {
		return e.Reason
	}
	return fmt.Sprintf("nic %s cannot be given to a container: %s", e.NIC, e.Reason)
}

// LostError says that a NIC exists neither on the host nor in the container: a
// virtual one that died with the container's namespace, or a card that was
// pulled. There is nothing left to give back.
type LostError struct {
	NIC string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("nic %s is lost: it is neither on the host nor in the container", e.NIC)
}

// label names a NIC as users know it.
func label(mac, name string) string { return fmt.Sprintf("%s (%s)", mac, name) }

func labelOf(rec *ledger.NIC) string { return label(rec.MAC, rec.Name) }
