package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Folders of candor's own mount namespace (see [InMounts]).
const (
	// PinDir holds the pinned network namespaces.
	PinDir = "/netns"
	// ViewDir is where the resource view's file system is mounted.
	ViewDir = "/fs"
)

// The main thread is the one whose namespaces /proc/PID shows to everybody, and
// the only one that the Go runtime cannot throw away: a goroutine that entered
// another namespace on it would leave it there for good. Locked to the main
// goroutine, no other gets it.
func init() { runtime.LockOSThread() }

// InMounts runs fn in candor's own mount namespace: an empty root with
// [PinDir] and [ViewDir], kept by STATE_DIR/mnt. fn runs on a thread of its own
// that is thrown away, so it must not start goroutines that touch files; it
// sees no /proc and no /sys.
//
// Pins and view live there because nothing hides a mount in pid 1's namespace
// from containers: every new mount namespace is a copy of it, and since Linux
// 6.17 the copy forgets that a mount was unbindable (seen on 6.18), so that
// `-v /run:/host/run` would carry them into a container. A mount namespace's
// own file is never copied, by any kernel (copy_mnt_ns in fs/namespace.c, to
// rule out loops).
func InMounts(stateDir string, fn func() error) error {
	ns, err := os.Open(mountsPath(stateDir))
	if err != nil {
		return fmt.Errorf("candor's mount namespace: %w", err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		done <- enterMounts(ns, fn)
	}()
	return <-done
}

func enterMounts(ns *os.File, fn func() error) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the thread's root: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter candor's mount namespace (%s): %w", ns.Name(), err)
	}
	return fn()
}

func mountsPath(stateDir string) string { return filepath.Join(stateDir, "mnt") }

// prepareMounts makes candor's mount namespace where there is none.
func prepareMounts(stateDir string) (err error) {
	path := mountsPath(stateDir)
	if ready, err := isNamespace(path); ready || err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("candor's mount namespace: %w", err)
	}
	f.Close()
	made := make(chan error)
	bound := make(chan struct{})
	defer close(bound)
	var tid int
	go func() {
		runtime.LockOSThread() // never unlocked
		tid = unix.Gettid()
		made <- unshareMounts(stateDir)
		<-bound // the namespace lives with this thread until it is bound
	}()
	if err := <-made; err != nil {
		return fmt.Errorf("make candor's mount namespace: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/mnt", tid), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep candor's mount namespace: %w", &os.PathError{Op: "bind", Path: path, Err: err})
	}
	return nil
}

// unshareMounts gives the calling thread a mount namespace of its own that
// holds a small tmpfs and nothing of the host: a copy of the host's mounts
// would keep file systems busy that the host wants to unmount.
func unshareMounts(stateDir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := unix.Mount("candor", stateDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=4m"); err != nil {
		return fmt.Errorf("mount its root: %w", err)
	}
	if err := unix.Chdir(stateDir); err != nil {
		return fmt.Errorf("chdir to its root: %w", err)
	}
	for _, dir := range []string{PinDir, ViewDir} {
		if err := os.Mkdir("."+dir, 0o700); err != nil {
			return err
		}
	}
	// "." for both: the old root lands over the new one and is let go
	// (pivot_root(2), the trick of its notes).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let the host's mounts go: %w", err)
	}
	return nil
}

func isNamespace(path string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// Remove takes down what [Prepare] made, with the pins and the view if any are
// left: the end of a test, of a demonstration, of an installation.
func Remove(stateDir string) error {
	err := unix.Unmount(stateDir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "umount", Path: stateDir, Err: err}
	}
	return os.RemoveAll(stateDir)
}
