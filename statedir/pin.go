package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

func pinPath(stateDir, name string) string { return filepath.Join(stateDir, "netns", name) }

// NamespaceOf names the namespace behind an open nsfs file.
func NamespaceOf(f *os.File) (ledger.Namespace, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ledger.Namespace{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return ledger.Namespace{Device: st.Dev, Inode: st.Ino}, nil
}

// PinNetns keeps the namespace alive under STATE_DIR/netns/name after its last
// process is gone. A pin of that name that is there already is replaced.
func PinNetns(stateDir, name string, netns *os.File) error {
	dir := filepath.Join(stateDir, "netns")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("pin netns: %w", err)
	}
	if err := Unpin(stateDir, name); err != nil {
		return err
	}
	path := pinPath(stateDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pin netns: %w", err)
	}
	f.Close()
	source := fmt.Sprintf("/proc/thread-self/fd/%d", netns.Fd())
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin netns: %w", &os.PathError{Op: "bind", Path: path, Err: err}), os.Remove(path))
	}
	return nil
}

// OpenPin opens a pinned namespace. It returns an error wrapping
// [fs.ErrNotExist] where there is no pin, or only the empty file of a pin that
// was never bound.
func OpenPin(stateDir, name string) (*os.File, error) {
	path := pinPath(stateDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	if st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, &os.PathError{Op: "open pin", Path: path, Err: fs.ErrNotExist}
	}
	return f, nil
}

// Unpin lets the namespace go. Where there is no such pin it does nothing.
func Unpin(stateDir, name string) error {
	path := pinPath(stateDir, name)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not, or no longer, a mount point
		}
		if err != nil {
			return fmt.Errorf("unpin netns: %w", &os.PathError{Op: "umount", Path: path, Err: err})
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin netns: %w", err)
	}
	return nil
}

// Pins lists the names of all pins.
func Pins(stateDir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, "netns"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
