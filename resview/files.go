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
	// Directory marks a directory; package layout says what it may hold.
	Directory bool
	// Within is the name of a directory that shows the same: the file is bound
	// only where that one cannot be had.
	Within string
	// Optional marks what not every container has: it is looked for when the
	// kernel asks.
	Optional bool
	// Age is how long a content is given to further readers; 0 is 100 ms.
	Age time.Duration
}

// Pressure is the name of the file of [Files] that is bound only if asked for.
const Pressure = "pressure"

// Files lists the files that every container's directory has. The position of
// a file is part of its node id: a file is added at the end, never in between.
func Files() []File {
	return []File{
		{Name: "meminfo", Target: "/proc/meminfo"},
		{Name: "stat", Target: "/proc/stat"},
		{Name: "cpuinfo", Target: "/proc/cpuinfo"},
		{Name: "diskstats", Target: "/proc/diskstats"},
		{Name: "loadavg", Target: "/proc/loadavg"},
		{Name: "swaps", Target: "/proc/swaps"},
		// Running containers that an earlier release started have this one.
		{Name: "cpu-online", Target: "/sys/devices/system/cpu/online", Within: "cpu"},
		{Name: "vmstat", Target: "/proc/vmstat"},
		{Name: "zoneinfo", Target: "/proc/zoneinfo"},
		{Name: "slabinfo", Target: "/proc/slabinfo"},
		{Name: "cpu", Target: "/sys/devices/system/cpu", Directory: true},
		{Name: "node", Target: "/sys/devices/system/node", Directory: true},
		{Name: Pressure, Target: "/proc/pressure", Directory: true, Optional: true},
		// Programs time with it. It counts in hundredths of a second.
		{Name: "uptime", Target: "/proc/uptime", Age: 10 * time.Millisecond},
	}
}

// Container renders the files of one container. Different files may be rendered
// at the same time; Close is called once nothing is rendered any more.
type Container interface {
	// Render appends the content of a file of [Files], or of one in a directory
	// by its path ("cpu/cpu3/online"), to dst, which it may grow, and returns
	// it. Of a link it is the target.
	Render(dst []byte, file string, now time.Time) ([]byte, error)
	// List appends the names in a directory, such as "cpu/cpu3", to dst.
	// [fs.ErrNotExist]: the container does not have it.
	List(dst []string, directory string, now time.Time) ([]string, error)
	Close() error
}

// OpenFunc opens the container that a record's view describes.
type OpenFunc func(view ledger.View) (Container, error)

// Store tells which containers there are: candor's ledger, or what a platform
// keeps of its own. Of a record the Key is looked at, which names the container's
// directory below the mount; the View, nil for a container that has none; and the
// Owner, whose cgroups are followed when it is moved, zero for one that never is.
//
// A View.ID must never mean another container for as long as the mount is there,
// not after a restart either, and a worker's successor has to be told the same as
// the worker was. Both methods are called from several goroutines at a time, and
// while readers wait.
type Store interface {
	// Read returns the record of that key; an error that wraps [fs.ErrNotExist]
	// where there is none.
	Read(key string) (*ledger.Record, error)
	// List returns all records that can be read, and an error beside them where
	// there are others.
	List() ([]*ledger.Record, error)
}

var _ Store = (*ledger.Store)(nil)
