package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec" //nolint:depguard // it runs itself, so that each reader is a process; nothing of candor imports it
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childCommand makes a process one of the readers.
const childCommand = "child"

// startIn is how long the readers are waited for before they all start.
const startIn = time.Millisecond

// order is what a reader is told, one line of JSON.
type order struct {
	Path  string
	Start time.Time
	Burst time.Duration // 0 is one read
}

// answer is what it says then.
type answer struct {
	Microseconds []float64
	Took         time.Duration
	Error        string
}

// process is a reader.
type process struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	orders  *json.Encoder
	answers *json.Decoder
}

func start(n int) (children []*process, err error) {
	for range n {
		cmd := exec.Command("/proc/self/exe", childCommand)
		// Go's scheduler interrupts what runs for 10 ms by a signal, and the kernel
		// would ask the server to interrupt the read: no other reader's does.
		cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("start a reader: %w", err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start a reader: %w", err)
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start a reader: %w", err)
		}
		children = append(children, &process{cmd, stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)})
	}
	return children, nil
}

// stop ends the readers.
func stop(children []*process) error {
	for _, c := range children {
		c.stdin.Close()
		if err := c.cmd.Wait(); err != nil {
			return fmt.Errorf("end a reader: %w", err)
		}
	}
	return nil
}

// child reads what it is told until nobody tells it any more.
func child() error {
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	samples, buf := make([]float64, 0, 1<<16), make([]byte, 64<<10)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		if err := answers.Encode(burst(o, samples[:0], buf)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// burst reads the file once, and again for as long as told.
func burst(o order, samples []float64, buf []byte) answer {
	path, err := unix.BytePtrFromString(o.Path)
	if err != nil {
		return answer{Error: fmt.Sprintf("%s: %v", o.Path, err)}
	}
	time.Sleep(time.Until(o.Start))
	began := time.Now()
	for from := began; ; {
		if err := read(path, buf); err != nil {
			return answer{Error: fmt.Sprintf("%s: %v", o.Path, err)}
		}
		now := time.Now()
		samples = append(samples, float64(now.Sub(from))/float64(time.Microsecond))
		if from = now; now.Sub(began) >= o.Burst {
			return answer{Microseconds: samples, Took: now.Sub(began)}
		}
	}
}

// read uses raw system calls: Go would have a thread of its own look after each one
// that takes longer than 20 us, and that thread takes the CPU from reader and server.
func read(path *byte, buf []byte) error {
	here := unix.AT_FDCWD
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(here), uintptr(unsafe.Pointer(path)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return e
	}
	for {
		n, _, e := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 || n == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0) // it was only read from
			if e != 0 {
				return e
			}
			return nil
		}
	}
}
