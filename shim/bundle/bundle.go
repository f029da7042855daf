// Package bundle reads and replaces the config.json of an OCI bundle.
package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"candor.dev/candor/specgen"
	"golang.org/x/sys/unix"
)

// ConfigFile is the spec's name in a bundle.
const ConfigFile = "config.json"

// Config is the spec of a bundle as it was read.
type Config struct {
	// Spec is the file's content.
	Spec []byte

	path     string
	mode     os.FileMode
	uid, gid int
}

// Read reads the spec of the bundle at dir. It follows no link at the file
// itself and reads at most [specgen.MaxSpec] bytes: the hooks, which read the
// file again as the host's root, hold to the same.
func Read(dir string) (*Config, error) {
	path := filepath.Join(dir, ConfigFile)
	// O_NONBLOCK: opening a FIFO that somebody put there must not hang.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("read spec: %w", &os.PathError{Op: "fstat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("read spec: %s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, specgen.MaxSpec+1))
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	if len(b) > specgen.MaxSpec {
		return nil, fmt.Errorf("read spec: %s is larger than %d bytes", path, specgen.MaxSpec)
	}
	return &Config{
		Spec: b, path: path,
		mode: os.FileMode(st.Mode & 0o777), uid: int(st.Uid), gid: int(st.Gid),
	}, nil
}

// Replace puts another spec in the file's place, with the mode and the owner of
// the old one. Whoever reads the file meanwhile sees one of the two whole. It is
// not synced to disk: a bundle does not outlive the machine's next boot.
func (c *Config) Replace(spec []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(c.path), ".candor-"+ConfigFile+"-*")
	if err != nil {
		return fmt.Errorf("replace spec: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(spec)
	// The owner first: chown(2) takes mode bits away.
	if err == nil && (c.uid != os.Geteuid() || c.gid != os.Getegid()) {
		err = f.Chown(c.uid, c.gid)
	}
	if err == nil {
		err = f.Chmod(c.mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("replace spec: %w", err)
	}
	if err := os.Rename(f.Name(), c.path); err != nil {
		return fmt.Errorf("replace spec: %w", err)
	}
	return nil
}
