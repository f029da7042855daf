// Command reader reads files inside a container, from two servers in turn, and
// prints how long each open, read to the end and close took:
//
//	reader -rounds 2000 meminfo=/proc/meminfo,/lxcfs/proc/meminfo ...
//
// The first path is candor's. Which is read first changes every round.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// File is a file with the samples of both servers, in microseconds.
type File struct {
	Name   string    `json:"name"`
	Candor []float64 `json:"candor"`
	Peer   []float64 `json:"peer"`

	paths [2]string
}

func main() {
	rounds := flag.Int("rounds", 1000, "how often each file is read")
	pause := flag.Duration("pause", 0, "pause before each read, so that nothing is reused")
	only := flag.Int("only", -1, "read from one side only: 0 is candor's, 1 the peer's")
	flag.Parse()
	if err := run(flag.Args(), *rounds, *pause, *only); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func run(args []string, rounds int, pause time.Duration, only int) error {
	var files []*File
	for _, arg := range args {
		name, paths, ok := strings.Cut(arg, "=")
		a, b, ok2 := strings.Cut(paths, ",")
		if !ok || !ok2 {
			return fmt.Errorf("%s: not NAME=PATH,PATH", arg)
		}
		files = append(files, &File{Name: name, paths: [2]string{a, b}})
	}
	buf := make([]byte, 64<<10)
	for round := range rounds {
		for _, f := range files {
			for i := range 2 {
				side := (i + round) & 1
				if only >= 0 && side != only {
					continue
				}
				time.Sleep(pause)
				us, err := read(f.paths[side], buf)
				if err != nil {
					return err
				}
				if side == 0 {
					f.Candor = append(f.Candor, us)
				} else {
					f.Peer = append(f.Peer, us)
				}
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(files)
}

// read uses bare system calls: os.File would add its poller's.
func read(path string, buf []byte) (us float64, err error) {
	start := time.Now()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			unix.Close(fd)
			return 0, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
	}
	unix.Close(fd)
	return float64(time.Since(start)) / float64(time.Microsecond), nil
}
