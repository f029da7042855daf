package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxGroups bounds the groups below the container's that Tasks looks into: a
// container with an engine of its own may have thousands.
const maxGroups = 256

// Tasks appends the ids of the container's threads to dst, at most limit of
// them, and says how many there are in all; where the container has more, or
// more groups than are looked into, the total comes from the pids controller
// if the host has it. The ids are those of this process's pid namespace.
func (r *Reader) Tasks(dst []int, limit int) (tids []int, total int, err error) {
	c := &r.tasks
	if c.version == 0 {
		return dst, 0, c.err
	}
	w := taskWalk{tids: dst, room: limit, name: "tasks"}
	if c.version == 2 {
		w.name = "cgroup.threads"
	}
	s := r.borrow()
	defer r.giveBack(s)
	if err := w.walk(c.groups[0].dir, s.buf); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s: %w", c.groups[0].dir, ErrGone)
		}
		return dst, 0, err
	}
	total = w.seen
	if w.cut && c.name == controllerPids {
		text, err := r.read(c, 0, 0, "pids.current", s)
		if err == nil {
			if n, _ := LeadingNumber(text); n < 1<<31 {
				total = max(total, int(n))
			}
		} else if !errors.Is(err, errAbsent) {
			return dst, 0, err
		}
	}
	return w.tids, total, nil
}

// taskWalk lists the tasks of a group and the groups below it.
type taskWalk struct {
	name   string
	tids   []int
	room   int // how many more tids are wanted
	seen   int
	groups int
	cut    bool // something was left out
}

func (w *taskWalk) walk(dir string, buf []byte) error {
	w.groups++
	err := w.list(dir, buf)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if links(info) == 2 {
		return nil // kernfs counts a link for every directory below: none
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if w.room <= 0 || w.groups >= maxGroups {
			w.cut = true
			return nil
		}
		// A group that goes away while we look had no task.
		if err := w.walk(dir+"/"+e.Name(), buf); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// list takes the tasks of one group.
func (w *taskWalk) list(dir string, buf []byte) error {
	f, err := openPlain(dir + "/" + w.name)
	if err != nil {
		return err
	}
	defer f.Close()
	kept := 0 // the start of a line that the last read cut in two
	for {
		n, err := f.Read(buf[kept:])
		text := buf[:kept+n]
		for {
			i := bytes.IndexByte(text, '\n')
			if i < 0 {
				break
			}
			if tid, digits := LeadingNumber(text[:i]); digits > 0 && tid > 0 && tid < 1<<31 {
				w.seen++
				if w.room > 0 {
					w.tids = append(w.tids, int(tid))
					w.room--
				} else {
					w.cut = true
				}
			}
			text = text[i+1:]
		}
		kept = copy(buf, text)
		switch {
		case errors.Is(err, io.EOF), w.cut:
			return nil
		// ENODEV: removed since the open. EOPNOTSUPP: a v2 group of invalid
		// type, which has no tasks.
		case isGoneOrInvalid(err):
			return nil
		case err != nil:
			return fmt.Errorf("list tasks: %w", err)
		case kept == len(buf):
			return fmt.Errorf("list tasks of %s: a line without end", dir)
		}
	}
}
