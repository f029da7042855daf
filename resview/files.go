// Package resview serves the resource view: one FUSE tree per node with one
// directory per container, whose files show the container's own limits and
// usage in the place of the machine's.
//
// The worker that serves may be killed at any moment. Each request is read
// straight into a slot of memory that the supervisor shares with it ([Slots]),
// and the next worker answers again what still lies there. So every reply here
// is a function of the request and of the ledger alone: node ids derive from
// the record, file handles carry nothing that is needed.
//
// This package does not know what the files contain: [Container] is the seam.
package resview

import (
	"time"

	"candor.dev/candor/ledger"
)

// File is one file of the view.
type File struct {
	// Name is its name in the container's directory of the FUSE tree.
	Name string
	// Target is the absolute path in a container that it is bound over.
	Target string
}

// Files lists the files that every container's directory has. The position of
// a file is part of its node id: a file is added at the end, never in between.
func Files() []File {
	return []File{
		{"meminfo", "/proc/meminfo"},
		{"stat", "/proc/stat"},
		{"cpuinfo", "/proc/cpuinfo"},
		{"diskstats", "/proc/diskstats"},
		{"loadavg", "/proc/loadavg"},
		{"swaps", "/proc/swaps"},
		{"cpu-online", "/sys/devices/system/cpu/online"},
	}
}

// Container renders the files of one container. Different files may be rendered
// at the same time; Close is called once nothing is rendered any more.
type Container interface {
	// Render appends the content of the named file to dst, which it may
	// grow, and returns it.
	Render(dst []byte, file string, now time.Time) ([]byte, error)
	Close() error
}

// OpenFunc opens the container that a record's view describes.
type OpenFunc func(view ledger.View) (Container, error)
