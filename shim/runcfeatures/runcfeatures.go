// Package runcfeatures knows what an OCI runtime's binary can do, and asks each
// binary once.
package runcfeatures

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"candor.dev/candor/statedir"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

// Features is what candor wants to know of a runtime. The zero value is a
// runtime of which nothing is known.
type Features struct {
	// TimeNamespace says that the runtime makes time namespaces:
	// linux.namespaces of its features lists "time".
	TimeNamespace bool `json:"time_namespace"`
}

// Ask asks the binary at that path for its features, as `runc features` prints
// them (features.md of runtime-spec). It is the caller's, because a shim may
// not wait for children as others do: its reaper takes their exit away.
type Ask func(ctx context.Context, binary string) (*features.Features, error)

// Of returns the features of the binary at that path. They are kept below the
// state directory under the file's identity, so that another runtime at the
// same path is asked anew. A runtime that cannot be asked is an error; that the
// answer cannot be kept is none.
func Of(ctx context.Context, stateDir, binary string, ask Ask) (Features, error) {
	name, err := identity(binary)
	if err != nil {
		return Features{}, err
	}
	path := filepath.Join(stateDir, "runc-features", name)
	var f Features
	if err := statedir.InHostMounts(func() (err error) {
		f, err = load(path)
		return err
	}); err == nil {
		return f, nil
	}
	all, err := ask(ctx, binary)
	if err != nil {
		return Features{}, fmt.Errorf("ask %s for its features: %w", binary, err)
	}
	if all.Linux != nil {
		f.TimeNamespace = slices.Contains(all.Linux.Namespaces, string(specs.TimeNamespace))
	}
	_ = statedir.InHostMounts(func() error { return store(stateDir, path, f) })
	return f, nil
}

// identity names the file behind a path as it is now.
func identity(binary string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(binary, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: binary, Err: err}
	}
	return fmt.Sprintf("%x-%x-%x-%x.%09d.json", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec), nil
}

func load(path string) (Features, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Features{}, err
	}
	var f Features
	return f, json.Unmarshal(b, &f)
}

// store writes the answer for the next one who asks. The files of runtimes that
// were replaced stay until the next boot, some 30 bytes each.
func store(stateDir, path string, f Features) error {
	if err := statedir.Prepare(stateDir); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// KernelHasTimeNamespaces reports whether this kernel was built with
// CONFIG_TIME_NS (Linux 5.6).
func KernelHasTimeNamespaces() bool {
	_, err := os.Lstat("/proc/self/ns/time")
	return err == nil
}
