// Command packets sends from network namespaces to another one, and prints how much
// arrives and what CPU time that costs, a JSON line for each payload:
//
//	packets -from /proc/7/ns/net,/proc/8/ns/net -to /run/netns/peer -address 10.1.2.1 \
//	        -path candor 1 64 256 bulk
//
// There is a sender in each namespace. A number is UDP with that many bytes a packet,
// as fast as goes; bulk is TCP. Both ends are this process, whose CPU time, with that
// of ksoftirqd, is all that the packets cost: the kernel does its part in the time of
// whoever sends or receives. So the machine may do other things meanwhile, but the
// fewer the better. The receivers have the last CPU for themselves; the senders share
// the others.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	basePort = 9000
	// batch is how many packets one system call takes: what is measured is the
	// network, and not the way into the kernel.
	batch = 64
	// block is what TCP is given at a time.
	block = 128 << 10
	// buffer of a receiving socket: what comes while its reader is not running.
	buffer = 8 << 20
)

// sample is what is printed.
type sample struct {
	Path    string `json:"path"`
	Senders int    `json:"senders"`
	Payload string `json:"payload"`
	// Rate is in packets per second, or in Gbit/s of payload; CPU in ns for each
	// packet, or in ms for each Gbit.
	Rate float64 `json:"rate"`
	CPU  float64 `json:"cpu"`
	// Lost is the part of the packets that was sent and did not arrive.
	Lost float64 `json:"lost"`
}

type options struct {
	path    string
	from    []string
	devices []string
	to      string
	address netip.Addr
	warmup  time.Duration
	window  time.Duration
}

func main() {
	var o options
	var from, devices, address string
	flag.StringVar(&o.path, "path", "", "what the packets' way is called")
	flag.StringVar(&from, "from", "", "files of the senders' network namespaces, with commas")
	flag.StringVar(&devices, "devices", "", "the senders' devices, with commas; without, whatever the route says")
	flag.StringVar(&o.to, "to", "", "file of the receivers' network namespace")
	flag.StringVar(&address, "address", "", "the receivers' IPv4 address")
	flag.DurationVar(&o.warmup, "warmup", 50*time.Millisecond, "time before the measured one")
	flag.DurationVar(&o.window, "window", 150*time.Millisecond, "the time that is measured")
	flag.Parse()
	o.from = strings.Split(from, ",")
	o.devices = make([]string, len(o.from))
	if devices != "" {
		o.devices = strings.Split(devices, ",")
	}
	var err error
	if o.address, err = netip.ParseAddr(address); err == nil && (len(o.devices) != len(o.from) || flag.NArg() == 0) {
		err = errors.New("usage: packets -from NETNS,... -to NETNS -address A [-devices D,...] PAYLOAD, one or more")
	}
	for i := 0; err == nil && i < flag.NArg(); i++ {
		err = o.measure(flag.Arg(i), basePort+i*len(o.from))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "packets:", err)
		os.Exit(1)
	}
}

// counter counts for one sender or receiver, in a cache line of its own.
type counter struct {
	atomic.Uint64
	_ [56]byte
}

func sum(counters []counter) (n uint64) {
	for i := range counters {
		n += counters[i].Load()
	}
	return n
}

// measure prints the sample of one payload.
func (o *options) measure(payload string, port int) error {
	size := 0
	if payload != "bulk" {
		var err error
		if size, err = strconv.Atoi(payload); err != nil || size < 1 {
			return fmt.Errorf("payload %q is neither a number of bytes nor bulk", payload)
		}
	}
	ends, err := o.connect(size, port)
	if err != nil {
		return err
	}
	defer ends.close()
	// Go's own work is none of the network's: no collection, and threads enough for
	// all that wait in the kernel.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*len(o.from) + 2))
	sent, received := make([]counter, len(o.from)), make([]counter, len(o.from))
	stop := &atomic.Bool{}
	done := make(chan error, 2*len(o.from))
	for i := range o.from {
		go work(runtime.NumCPU()-1, done, func() error { return receive(ends.receivers[i], size, &received[i], stop) })
		go work(i%max(1, runtime.NumCPU()-1), done, func() error { return send(ends.senders[i], size, &sent[i], stop) })
	}
	softirqs := ksoftirqds()
	time.Sleep(o.warmup)
	type reading struct {
		at             time.Time
		sent, received uint64
		cpu            time.Duration
	}
	read := func() reading { return reading{time.Now(), sum(sent), sum(received), cpuTime(softirqs)} }
	before := read()
	time.Sleep(o.window)
	after := read()
	stop.Store(true)
	for range 2 * len(o.from) {
		if err := <-done; err != nil {
			return err
		}
	}
	arrived, cpu := float64(after.received-before.received), float64(after.cpu-before.cpu)
	if arrived == 0 {
		return fmt.Errorf("%s: nothing arrives at %s", o.path, o.address)
	}
	s := sample{Path: o.path, Senders: len(o.from), Payload: payload, Rate: arrived / after.at.Sub(before.at).Seconds(), CPU: cpu / arrived}
	if size == 0 {
		// Bytes.
		s.Rate *= 8e-9
		s.CPU *= 1e9 / 8 / float64(time.Millisecond)
	} else if gone := float64(after.sent - before.sent); gone > 0 {
		s.Lost = max(0, 1-arrived/gone)
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// work runs fn on a thread of its own, on one CPU.
func work(cpu int, done chan<- error, fn func() error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		done <- fmt.Errorf("run on CPU %d: %w", cpu, err)
		return
	}
	done <- fn()
}

// ends are the sockets.
type ends struct{ senders, receivers []int }

func (e *ends) close() {
	for _, fd := range append(e.senders, e.receivers...) {
		unix.Close(fd)
	}
}

// connect opens the sockets in their namespaces: TCP where the size is 0.
func (o *options) connect(size, port int) (*ends, error) {
	e := &ends{}
	for i := range o.from {
		to := &unix.SockaddrInet4{Port: port + i, Addr: o.address.As4()}
		receiver, err := within(o.to, func() (int, error) { return listen(to, size == 0) })
		if err != nil {
			e.close()
			return nil, fmt.Errorf("receive at %s: %w", o.address, err)
		}
		sender, err := within(o.from[i], func() (int, error) { return dial(to, o.devices[i], size == 0) })
		if err == nil && size == 0 {
			listener := receiver
			receiver, _, err = unix.Accept(listener)
			unix.Close(listener)
		}
		if err == nil {
			err = setTimeout(receiver)
		}
		e.receivers, e.senders = append(e.receivers, receiver), append(e.senders, sender)
		if err != nil {
			e.close()
			return nil, fmt.Errorf("send to %s from %s: %w", o.address, o.from[i], err)
		}
	}
	return e, nil
}

// within runs fn in a network namespace, on a thread that ends with it.
func within(namespace string, fn func() (int, error)) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f, openErr := os.Open(namespace)
		if err = openErr; err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			fd, err = fn()
		}
	}()
	<-done
	return fd, err
}

func socket(tcp bool) (int, error) {
	if tcp {
		return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
}

func listen(at *unix.SockaddrInet4, tcp bool) (int, error) {
	fd, err := socket(tcp)
	if err != nil {
		return -1, err
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, at))
	if err == nil && tcp {
		err = unix.Listen(fd, 1)
	} else if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	}
	return fd, err
}

func dial(to *unix.SockaddrInet4, device string, tcp bool) (int, error) {
	fd, err := socket(tcp)
	if err == nil && device != "" {
		err = unix.BindToDevice(fd, device)
	}
	if err == nil {
		err = unix.Connect(fd, to)
	}
	return fd, err
}

// setTimeout has a receiver look up now and then: that it is to stop nobody sends.
func setTimeout(fd int) error {
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// messages are batch messages of so many bytes.
func messages(size int) []message {
	m := make([]message, batch)
	for i := range m {
		vector := &unix.Iovec{Base: unsafe.SliceData(make([]byte, size))}
		vector.SetLen(size)
		m[i].header.Iov = vector
		m[i].header.SetIovlen(1)
	}
	return m
}

// send sends until it is to stop. It counts packets, or bytes where the size is 0.
func send(fd, size int, count *counter, stop *atomic.Bool) error {
	var data []byte
	var many []message
	if size == 0 {
		data = make([]byte, block)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
			return err
		}
	} else {
		many = messages(size)
	}
	for !stop.Load() {
		var n int
		var err error
		if size == 0 {
			n, err = unix.Write(fd, data)
		} else {
			n, err = several(unix.SYS_SENDMMSG, fd, many)
		}
		if err != nil && !transient(err) {
			return fmt.Errorf("send: %w", err)
		}
		count.Add(uint64(max(n, 0)))
	}
	return nil
}

// receive takes what comes, until it is to stop.
func receive(fd, size int, count *counter, stop *atomic.Bool) error {
	data, many := make([]byte, 2*block), messages(max(size, 1))
	for !stop.Load() {
		var n int
		var err error
		if size == 0 {
			n, err = unix.Read(fd, data)
		} else {
			n, err = several(unix.SYS_RECVMMSG, fd, many)
		}
		if err != nil && !transient(err) {
			return fmt.Errorf("receive: %w", err)
		}
		count.Add(uint64(max(n, 0)))
	}
	return nil
}

// transient errors are a timeout, a signal, a queue that is full, and an answer to an
// earlier packet.
func transient(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ECONNREFUSED)
}

// several sends or receives up to batch messages.
func several(call uintptr, fd int, many []message) (int, error) {
	flags := 0
	if call == unix.SYS_RECVMMSG {
		flags = unix.MSG_WAITFORONE
	}
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&many[0])), uintptr(len(many)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// cpuTime is that of this process and of ksoftirqd, which does what nobody's time
// slice was left for.
func cpuTime(ksoftirqds []int) time.Duration {
	total := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	for _, pid := range ksoftirqds {
		// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers_types.h.
		total += clock(int32(^pid<<3 | 2))
	}
	return total
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// ksoftirqds returns the pids of ksoftirqd, one for each CPU.
func ksoftirqds() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(comm), "ksoftirqd/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
