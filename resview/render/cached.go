package render

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// cached is what a file of the host says, kept for some time.
type cached[T any] struct {
	name   string
	maxAge time.Duration
	parse  func([]byte) (T, error)

	mu    sync.Mutex
	fd    int // descriptor + 1; 0 is closed
	buf   []byte
	at    time.Time
	ok    bool
	value T
}

// source describes a file below root. parse must keep nothing of its argument.
func source[T any](root, name string, maxAge time.Duration, parse func([]byte) (T, error)) cached[T] {
	return cached[T]{name: filepath.Join(root, name), maxAge: maxAge, parse: parse}
}

// get gives what the file says, as read at now or at most maxAge before. A file
// that cannot be read any more says what it said last.
func (c *cached[T]) get(now time.Time) (T, error) { return c.within(c.maxAge, now) }

// within is get with another age.
func (c *cached[T]) within(maxAge time.Duration, now time.Time) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.at); c.ok && age >= 0 && age < maxAge {
		return c.value, nil
	}
	text, err := c.read()
	if err == nil {
		var v T
		if v, err = c.parse(text); err == nil {
			c.value, c.at, c.ok = v, now, true
		}
	}
	if c.ok {
		return c.value, nil
	}
	return c.value, fmt.Errorf("read %s: %w", c.name, err)
}

// read reads the whole file into the buffer.
func (c *cached[T]) read() ([]byte, error) {
	if c.fd == 0 {
		fd, err := unix.Open(c.name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			return nil, err
		}
		c.fd = fd + 1
	}
	if c.buf == nil {
		c.buf = make([]byte, 4096)
	}
	length := 0
	for {
		if length == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		n, err := unix.Pread(c.fd-1, c.buf[length:], int64(length))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			c.closeFile()
			return nil, err
		case n == 0:
			return c.buf[:length], nil
		default:
			length += n
		}
	}
}

func (c *cached[T]) closeFile() {
	if c.fd > 0 {
		_ = unix.Close(c.fd - 1) // read-only: nothing can be lost
		c.fd = 0
	}
}

func (c *cached[T]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeFile()
}
