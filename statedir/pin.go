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

func pinPath(name string) string { return filepath.Join(PinDir, name) }

// NamespaceOf names the namespace behind an open nsfs file.
func NamespaceOf(f *os.File) (ledger.Namespace, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ledger.Namespace{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return ledger.Namespace{Device: st.Dev, Inode: st.Ino}, nil
}

// Pin is a network namespace to be kept under a name.
type Pin struct {
	Name  string
	Netns *os.File
}

// PinNetns keeps the namespaces alive, each under its name, after their last
// process is gone. A pin of that name that is there already is replaced.
func PinNetns(stateDir string, pins ...Pin) error {
	err := InMounts(stateDir, func() error {
		for _, p := range pins {
			if err := p.bind(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	return nil
}

func (p Pin) bind() error {
	if err := unpin(p.Name); err != nil {
		return err
	}
	path := pinPath(p.Name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	f.Close()
	if err := bindFile(p.Netns, path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// bindFile binds an open file: by descriptor, since no path of the host leads
// into candor's mount namespace.
func bindFile(f *os.File, path string) error {
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: path, Err: err}
	}
	return nil
}

// OpenPin opens a pinned namespace. It returns an error wrapping
// [fs.ErrNotExist] where there is no pin, or only the empty file of a pin that
// was never bound.
func OpenPin(stateDir, name string) (f *os.File, err error) {
	err = InMounts(stateDir, func() error {
		path := pinPath(name)
		if pinned, err := isNamespace(path); err != nil {
			return err
		} else if !pinned {
			return &os.PathError{Op: "open pin", Path: path, Err: fs.ErrNotExist}
		}
		f, err = os.Open(path)
		return err
	})
	return f, err
}

// Unpin lets the namespaces go. Where there is no such pin it does nothing.
func Unpin(stateDir string, names ...string) error {
	err := InMounts(stateDir, func() error {
		var errs []error
		for _, name := range names {
			errs = append(errs, unpin(name))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("unpin network namespace: %w", err)
	}
	return nil
}

func unpin(name string) error {
	path := pinPath(name)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not, or no longer, a mount point
		}
		if err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Pins lists the names of all pins.
func Pins(stateDir string) (names []string, err error) {
	err = InMounts(stateDir, func() error {
		entries, err := os.ReadDir(PinDir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	return names, nil
}
