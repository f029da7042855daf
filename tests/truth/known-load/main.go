// Known-load is the load of tests/truth/truth.bats: it does in a container what
// the test tells it, in amounts that are known without asking anybody, and it can
// be the only file of a container.
//
//	known-load obey DIR     carries out the orders that come through DIR/orders, a
//	                        named pipe, one a line; DIR/done then names the last
//	known-load read FILE... prints the files, each after a line "== FILE"
//
// The orders, sizes in MiB:
//
//	anonymous N        N of memory of its own, every page written
//	file N PATH        a file of N, written and on disk: page cache that is clean
//	shared N PATH      the same in a tmpfs: it stays, and there is no disk
//	direct N PATH      N written past the page cache, so that the disk sees them now
//	burn N             N threads that never rest
//	rest               no thread burns any more
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const mebibyte = 1 << 20

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "known-load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "obey":
		return obey(args[1])
	case len(args) > 1 && args[0] == "read":
		return show(args[1:])
	default:
		return errors.New("wants: obey DIR, or read and files")
	}
}

// obey never ends: a pipe that its last writer closed is opened anew.
func obey(dir string) error {
	var l load
	for {
		orders, err := os.Open(filepath.Join(dir, "orders"))
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(orders)
		for lines.Scan() {
			order := lines.Text()
			answer := order
			if err := l.carryOut(strings.Fields(order)); err != nil {
				answer = fmt.Sprintf("%s: %v", order, err)
			}
			if err := replace(filepath.Join(dir, "done"), answer); err != nil {
				return err
			}
		}
		if err := orders.Close(); err != nil {
			return err
		}
	}
}

// replace writes a file that nobody sees half of.
func replace(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

type load struct {
	held    [][]byte
	burning *atomic.Bool
}

func (l *load) carryOut(order []string) error {
	if len(order) == 1 && order[0] == "rest" {
		if l.burning != nil {
			l.burning.Store(false)
		}
		return nil
	}
	if len(order) < 2 {
		return errors.New("no such order")
	}
	n, err := strconv.Atoi(order[1])
	if err != nil || n <= 0 {
		return errors.New("no such amount")
	}
	switch what := order[0]; {
	case what == "anonymous" && len(order) == 2:
		return l.hold(n)
	case what == "file" && len(order) == 3:
		return write(order[2], n, 0)
	case what == "shared" && len(order) == 3:
		return write(order[2], n, 0)
	case what == "direct" && len(order) == 3:
		return write(order[2], n, unix.O_DIRECT)
	case what == "burn" && len(order) == 2:
		l.burn(n)
		return nil
	}
	return errors.New("no such order")
}

// hold maps memory itself: what Go's runtime has is its own business.
func (l *load) hold(mebibytes int) error {
	memory, err := unix.Mmap(-1, 0, mebibytes*mebibyte, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	l.held = append(l.held, memory)
	return nil
}

// write: the buffer is mapped for O_DIRECT, which wants whole sectors in memory, too.
func write(path string, mebibytes, flag int) (err error) {
	buffer, err := unix.Mmap(-1, 0, mebibyte, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(buffer)) }()
	for i := range buffer {
		buffer[i] = 'x'
	}
	// O_TRUNC: pages that another container left are in that one's account.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|flag, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for range mebibytes {
		if _, err := file.Write(buffer); err != nil {
			return err
		}
	}
	return file.Sync()
}

// burn: threads of their own, so that no scheduler but the kernel's divides the time.
func (l *load) burn(threads int) {
	burning := new(atomic.Bool)
	burning.Store(true)
	l.burning = burning
	runtime.GOMAXPROCS(threads + 2)
	for range threads {
		go func() {
			runtime.LockOSThread()
			for burning.Load() { // nothing: time is what it is to use
			}
		}()
	}
}

func show(files []string) error {
	out := bufio.NewWriter(os.Stdout)
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "== %s\n", name)
		_, err = io.Copy(out, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return out.Flush()
}
