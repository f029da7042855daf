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
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if n, err := unix.Read(fd, buf); err == nil {
			values[name] = string(bytes.TrimSpace(buf[:n]))
		}
		unix.Close(fd)
	}
	return values, nil
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
		for _, key := range order {
			folder, file, ok := strings.Cut(key, "/%s/")
			if !ok || !slices.Contains(sysctlFolders[:], folder) || file != filepath.Base(file) {
				errs = append(errs, fmt.Errorf("setting %q is not one of an interface", key))
				continue
			}
			if now, err := readSysctl(folder, name, file); err == nil && now == set[key] {
				continue
			}
			if err := writeSysctl(filepath.Join(procSysNet, folder, name, file), set[key]); err != nil {
				errs = append(errs, fmt.Errorf("set to %s: %w", set[key], err))
			}
		}
		return errors.Join(errs...)
	})
}

func readSysctl(folder, name, file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(procSysNet, folder, name, file))
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}
