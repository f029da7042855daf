package render

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"candor.dev/candor/cgroup"
)

const (
	// maxTasks is how many threads of a container are looked at; of a larger
	// one they are a sample.
	maxTasks = 1024
	// censusRest is how many times as long as a census took its result is
	// used: at most a hundredth of a CPU goes into counting one container.
	censusRest = 100
	// restAfter is when a reader that has asked the view is taken to sleep.
	restAfter = time.Millisecond
)

// tasks are a container's threads, by what they do.
type tasks struct {
	running int
	blocked int // uninterruptible
	total   int
	// lastPID is the highest process id seen in the container's pid namespace.
	// Ids are given out in order, so it also says how many there were.
	lastPID int
}

// censusState is a container's last census.
type censusState struct {
	mu   sync.Mutex
	at   time.Time
	cost time.Duration
	ok   bool
	last tasks
	tids []int
	buf  []byte
}

// restore takes the words that [Container.tasks] has kept.
func (s *censusState) restore(words []uint64) {
	if len(words) == 1 {
		s.last.lastPID = int(words[0])
	}
}

// tasks counts the container's threads, or gives the last count while it is
// fresh.
func (c *Container) tasks(now time.Time) (tasks, error) {
	s := &c.census
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.at); s.ok && age >= 0 && age < max(Reuse, censusRest*s.cost) {
		return s.last, nil
	}
	return c.countTasks(now)
}

// tasksAtRest is tasks without the readers that have just asked: one that the
// thread which answers has preempted still runs, and sleeps a moment later.
func (c *Container) tasksAtRest(now time.Time) (tasks, error) {
	first, err := c.tasks(now)
	if err != nil || first.running == 0 {
		return first, err
	}
	time.Sleep(restAfter)
	c.census.mu.Lock()
	defer c.census.mu.Unlock()
	return c.countTasks(now)
}

// countTasks takes the census, under its lock.
func (c *Container) countTasks(now time.Time) (tasks, error) {
	s := &c.census
	began := time.Now()
	var total int
	var err error
	s.tids, total, err = c.group().Tasks(s.tids[:0], maxTasks)
	if err != nil && !errors.Is(err, cgroup.ErrNoController) {
		return tasks{}, err
	}
	if s.buf == nil {
		s.buf = make([]byte, 2048)
	}
	count := tasks{total: total, lastPID: s.last.lastPID}
	newest := 0
	for _, tid := range s.tids {
		newest = max(newest, tid)
		switch c.host.taskState(tid, s.buf) {
		case 'R':
			count.running++
		case 'D':
			count.blocked++
		}
	}
	if seen := len(s.tids); seen > 0 && total > seen {
		count.running = count.running * total / seen
		count.blocked = count.blocked * total / seen
	}
	if newest > 0 {
		count.lastPID = max(count.lastPID, c.host.innerPID(newest, s.buf))
	}
	if count.lastPID > s.last.lastPID {
		c.host.note(c.counters.put(counterTasks, uint64(count.lastPID)))
	}
	s.last, s.at, s.ok, s.cost = count, now, true, time.Since(began)
	return count, nil
}

// taskState is the state letter of a thread, 0 for one that is gone. A thread
// that waits for the view itself, or is frozen, gives 'S'.
func (h *Host) taskState(tid int, buf []byte) byte {
	// Not /proc/TID/stat: that one adds up all threads of the process.
	id := strconv.Itoa(tid)
	dir := id + "/task/" + id
	text := h.readProc(dir+"/stat", buf)
	// The name, in parentheses, may contain anything.
	i := bytes.LastIndexByte(text, ')')
	if i < 0 || i+2 >= len(text) {
		return 0
	}
	state := text[i+2]
	if state == 'D' {
		// The readers of the view wait for it in this state, and so would each
		// count itself; a frozen (paused) task is shown in it, too, and is
		// no load to the kernel.
		wchan := string(h.readProc(dir+"/wchan", buf))
		if wchan == "request_wait_answer" || wchan == "__refrigerator" || strings.HasPrefix(wchan, "__fuse_") {
			return 'S'
		}
	}
	return state
}

// innerPID is the id of a thread in the pid namespace below the host's, 0 for
// one that is in the host's own: its ids would say what the host does.
func (h *Host) innerPID(tid int, buf []byte) int {
	text := h.readProc(strconv.Itoa(tid)+"/status", buf)
	_, rest, found := bytes.Cut(text, []byte("\nNSpid:"))
	if !found {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if fields := bytes.Fields(line); len(fields) > 1 {
		if v, n := cgroup.LeadingNumber(fields[1]); n > 0 && v < 1<<31 {
			return int(v)
		}
	}
	return 0
}

// readProc reads a file of the host's procfs, nil if it cannot be: tasks come
// and go.
func (h *Host) readProc(name string, buf []byte) []byte {
	fd, err := unix.Openat(h.proc, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}
