package render

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"candor.dev/candor/cgroup"
)

// followState is how a container's groups are followed.
type followState struct {
	mu     sync.Mutex
	at     time.Time
	text   string            // what /proc/PID/cgroup of init said last
	groups map[string]string // that are read now
	buf    []byte
}

// group gives the reader of the container's groups.
func (c *Container) group() *cgroup.Reader { return c.reader.Load() }

// follow goes on with the groups that the container's init is in now, if it was
// moved. An init that cannot be asked, or whose groups cannot be seen from here, is
// where it was.
func (c *Container) follow(now time.Time) {
	f := &c.followed
	if c.view.Init.PID <= 0 || !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if age := now.Sub(f.at); !f.at.IsZero() && age >= 0 && age < Reuse {
		return
	}
	f.at = now
	if f.buf == nil {
		f.buf = make([]byte, 16<<10)
	}
	text := c.host.readProc(strconv.Itoa(c.view.Init.PID)+"/cgroup", f.buf)
	// Whether it is still init's only when it was read.
	if len(text) == 0 || len(text) == len(f.buf) || string(text) == f.text || !c.view.Init.Alive() {
		return
	}
	f.text = string(text)
	if err := c.moveTo(text); err != nil {
		c.host.note(fmt.Errorf("follow the cgroups of view %d: %w", c.view.ID, err))
	}
}

// moveTo goes on with the groups that the text of init's cgroup file names.
func (c *Container) moveTo(text []byte) error {
	is, err := cgroup.ParseProc(text)
	if err != nil {
		return err
	}
	groups := followed(c.view.Cgroups, c.followed.groups, is)
	if maps.Equal(groups, c.followed.groups) {
		return nil
	}
	reader, err := c.host.hierarchies.Open(groups)
	if err != nil {
		return err
	}
	c.followed.groups = groups
	return c.reader.Swap(reader).Close()
}

// followed gives the groups by which the container goes: those recorded at its
// start, then those that are read now, as long as its init is in them or below; an
// init such as systemd moves itself into a group below its own. The root group is
// the machine's and no container's.
func followed(recorded, read, is map[string]string) map[string]string {
	groups := maps.Clone(read)
	for controller, group := range recorded {
		switch now, known := is[controller]; {
		case !known || now == "/" || inside(now, group):
			groups[controller] = group
		case !inside(now, read[controller]):
			groups[controller] = now
		}
	}
	return groups
}

// inside reports whether a group is the other one or below it.
func inside(group, other string) bool {
	rest, ok := strings.CutPrefix(group, strings.TrimSuffix(other, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
