package nic

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// procSysNet follows the network namespace of the thread that looks.
const procSysNet = "/proc/sys/net"

// sysctlFolders hold one folder per interface and one named default, from which
// a new interface, and one that arrives by a move, takes its values.
var sysctlFolders = [...]string{"ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh"}

// derived reports whether a file shows what another one, or the interface, says
// in other units, or cannot be written.
func derived(file string) bool {
	switch file {
	case "mtu", "mc_forwarding", "base_reachable_time", "retrans_time", "unres_qlen":
		return true
	}
	return false
}

// sysctls reads those settings of an interface that a move would reset: the ones
// that differ from the namespace's default. They are keyed as in
// [ledger.NIC].Sysctls.
func (n *Namespace) sysctls(name string) (map[string]string, error) {
	set := map[string]string{}
	err := n.Do(func() error {
		for _, folder := range sysctlFolders {
			values, err := readFolder(filepath.Join(procSysNet, folder, name))
			if err != nil {
				return err
			}
			// The neighbour tables have a default in the first namespace
			// only; elsewhere all their settings are taken down.
			usual, err := readFolder(filepath.Join(procSysNet, folder, "default"))
			if err != nil {
				return err
			}
			for file, value := range values {
				if common, ok := usual[file]; (!ok || common != value) && !derived(file) {
					set[folder+"/%s/"+file] = value
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read settings of %s: %w", name, err)
	}
	return set, nil
}

// readFolder reads all files of a folder, and none where there is no folder: the
// kernel has no IPv6, or the interface has none for its small MTU. What cannot be
// read is left out, as stable_secret is while it is not set.
//
// It is some 200 files for each start of a container: with os.ReadFile they take
// twice as long.
func readFolder(path string) (map[string]string, error) {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	values, buf := make(map[string]string, len(names)), make([]byte, 4096)
	for _, name := range names {
		if value, err := readFileAt(int(dir.Fd()), name, buf); err == nil {
			values[name] = value
		}
	}
	return values, nil
}

// readFileAt reads a file of one line, without what os.ReadFile does for others.
func readFileAt(dir int, name string, buf []byte) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", &os.PathError{Op: "read", Path: name, Err: err}
	}
	return string(bytes.TrimSpace(buf[:n])), nil
}

// setSysctls writes settings of an interface, where they are not so already:
// writing has side effects. It goes on past errors.
func (n *Namespace) setSysctls(name string, set map[string]string) error {
	if len(set) == 0 {
		return nil
	}
	// stable_secret before addr_gen_mode: setting the one changes the other.
	order := slices.SortedFunc(maps.Keys(set), func(a, b string) int {
		secretA, secretB := strings.HasSuffix(a, "/stable_secret"), strings.HasSuffix(b, "/stable_secret")
		switch {
		case secretA == secretB:
			return strings.Compare(a, b)
		case secretA:
			return -1
		default:
			return 1
		}
	})
	return n.Do(func() error {
		var errs []error
		buf := make([]byte, 4096)
		for _, key := range order {
			folder, file, ok := strings.Cut(key, "/%s/")
			if !ok || !slices.Contains(sysctlFolders[:], folder) || file != filepath.Base(file) {
				errs = append(errs, fmt.Errorf("setting %q is not one of an interface", key))
				continue
			}
			path := filepath.Join(procSysNet, folder, name, file)
			if now, err := readFileAt(unix.AT_FDCWD, path, buf); err == nil && now == set[key] {
				continue
			}
			if err := writeSysctl(path, set[key]); err != nil {
				errs = append(errs, fmt.Errorf("set to %s: %w", set[key], err))
			}
		}
		return errors.Join(errs...)
	})
}

func writeSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}
