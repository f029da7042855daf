// Package nic finds a host's network interface, moves it into a container's
// network namespace, configures it there, and brings it back as it was.
//
// The way in is [Find], [Snapshot], [Attach]; the way back is [GiveBack], which
// undoes any part of an attach, also one that was cut short by a kill, and may
// run any number of times. What connects them is a [ledger.NIC]: the caller has
// it on disk before Attach, and Attach has it saved again as soon as the NIC is
// in the container.
//
// The package takes what it is told for granted as far as authority goes: who
// may have which NIC is the caller's to decide. What it refuses on its own
// account are NICs that the host cannot spare ([RefusedError]).
//
// It never changes a namespace but through handles and threads of its own, so
// it may be used from any goroutine.
package nic
