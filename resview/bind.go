package resview

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"candor.dev/candor/ledger"
	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// moveMountBeneath is MOVE_MOUNT_BENEATH (Linux 6.5).
const moveMountBeneath = 0x200

// Bind binds the files of the record's directory over their targets in the
// container, and returns the targets that are bound. A target that the
// container's procfs or sysfs does not have is left out, and so is what the
// serving worker does not have: one of the release before, or a container
// without it. After any other error nothing is bound.
//
// rootfs is the container's root as its mount namespace names it now. Nothing
// that the container's image controls is followed: the sources are opened as
// detached mounts on candor's side, the targets below rootfs without links, and
// each has to lie in a procfs or sysfs (the lesson of CVE-2021-30465 and
// CVE-2025-52881).
//
// It is called in pid 1's mount namespace, and only after the server has shown
// that it serves: whoever waits for a FUSE server that hangs cannot be killed.
func Bind(stateDir, key string, owner ledger.Process, rootfs string, files []File) (bound []string, err error) {
	trees, err := openTrees(stateDir, key, files)
	if err != nil {
		return nil, err
	}
	defer closeAll(trees)
	err = inMountsOf(owner, func() error {
		root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: rootfs, Err: err}
		}
		defer unix.Close(root)
		for i, f := range files {
			if trees[i] < 0 || within(files, trees, f) {
				continue
			}
			switch err := place(root, f.Target, trees[i], false); {
			case errors.Is(err, unix.ENOENT):
				continue // not in this kernel's procfs
			case err != nil:
				return errors.Join(err, unbind(root, bound))
			}
			bound = append(bound, f.Target)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bind the resource view: %w", err)
	}
	return bound, nil
}

// Rebind puts the files of a new mount in the place of those of a dead one, in a
// container that runs: beneath them, so that no reader ever sees the host's
// file, or upon them where the kernel has no such move. device is that of the
// new mount; what belongs to it already is left alone. It returns the paths that
// it bound.
//
// A descriptor that a process opened on the dead mount stays dead.
func Rebind(stateDir, key string, owner ledger.Process, rootfs string, device uint64) (bound []string, err error) {
	dead, err := deadFiles(owner, rootfs, device)
	if err != nil || len(dead) == 0 {
		return nil, err
	}
	trees, err := openTrees(stateDir, key, dead)
	if err != nil {
		return nil, err
	}
	defer closeAll(trees)
	err = inMountsOf(owner, func() error {
		root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: "/", Err: err}
		}
		defer unix.Close(root)
		var errs []error
		for i, f := range dead {
			if trees[i] < 0 {
				errs = append(errs, fmt.Errorf("%s: candord does not serve %s", f.Target, f.Name))
				continue
			}
			if err := place(root, f.Target, trees[i], true); err != nil {
				errs = append(errs, err)
				continue
			}
			bound = append(bound, f.Target)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return bound, fmt.Errorf("bind the resource view anew: %w", err)
	}
	return bound, nil
}

// deadFiles returns the files of the view whose topmost mount in the container
// is of another file system than the given one, with the paths where they are
// now: before pivot_root below rootfs, after it below /.
func deadFiles(owner ledger.Process, rootfs string, device uint64) ([]File, error) {
	mounts, err := viewMounts(owner.PID)
	if err != nil {
		return nil, err
	}
	var dead []File
	for _, f := range Files() {
		for _, at := range []string{f.Target, filepath.Join(rootfs, f.Target)} {
			if dev, ok := mounts[at]; ok && dev != device {
				dead = append(dead, File{Name: f.Name, Target: at})
				break
			}
		}
	}
	return dead, nil
}

// within reports whether the file is in a directory that is bound as well.
func within(files []File, trees []int, f File) bool {
	for i, directory := range files {
		if f.Within != "" && directory.Name == f.Within && trees[i] >= 0 {
			return true
		}
	}
	return false
}

// openTrees opens detached clones of the files of one directory of the view; -1
// for a file that the directory does not have.
func openTrees(stateDir, key string, files []File) (trees []int, err error) {
	err = statedir.InMounts(stateDir, func() error {
		// Once for all files: the server has to look the key up in the ledger.
		name := path.Join(statedir.ViewDir, key)
		directory, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: name, Err: err}
		}
		defer unix.Close(directory)
		for _, f := range files {
			tree, err := openTree(directory, f.Name)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			trees = append(trees, tree)
		}
		return nil
	})
	if err != nil {
		closeAll(trees)
		return nil, fmt.Errorf("open the resource view of %s: %w", key, err)
	}
	return trees, nil
}

// openTree returns -1 with an error.
func openTree(directory int, path string) (int, error) {
	tree, err := unix.OpenTree(directory, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		Propagation: unix.MS_PRIVATE,
	})
	if err != nil {
		unix.Close(tree)
		return -1, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return tree, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// inMountsOf runs fn in the mount namespace of a container's init. The thread
// is thrown away. fn sees only that namespace's paths.
func inMountsOf(owner ledger.Process, fn func() error) error {
	ns, err := openMountsOf(owner)
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		// setns(CLONE_NEWNS) is EINVAL for a thread that shares its root
		// and working directory.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- fmt.Errorf("unshare the thread's root: %w", err)
			return
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("enter the mount namespace of init %d: %w", owner.PID, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// openMountsOf opens the mount namespace of a container's init, and refuses
// that of the host.
func openMountsOf(owner ledger.Process) (*os.File, error) {
	pidfd, err := owner.OpenPidfd()
	if err != nil {
		return nil, fmt.Errorf("init %d: %w", owner.PID, err)
	}
	defer pidfd.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", owner.PID))
	if err != nil {
		return nil, err
	}
	var theirs, ours unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &theirs); err != nil {
		ns.Close()
		return nil, &os.PathError{Op: "fstat", Path: ns.Name(), Err: err}
	}
	// Ours is pid 1's: see Bind. Files of the host are never covered.
	if err := unix.Stat("/proc/thread-self/ns/mnt", &ours); err != nil {
		ns.Close()
		return nil, &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	if theirs.Dev == ours.Dev && theirs.Ino == ours.Ino {
		ns.Close()
		return nil, fmt.Errorf("init %d has the host's mount namespace", owner.PID)
	}
	// The start time once more: only now is it sure whose namespace it is.
	if !owner.Alive() {
		ns.Close()
		return nil, fmt.Errorf("init %d: %w", owner.PID, os.ErrProcessDone)
	}
	return ns, nil
}

// place attaches a tree to a target below root. With replace it takes the place
// of the topmost mount there.
func place(root int, target string, tree int, replace bool) error {
	err := placeAt(root, target, tree, replace)
	if err != nil {
		return &os.PathError{Op: "bind over", Path: target, Err: err}
	}
	return nil
}

func placeAt(root int, target string, tree int, replace bool) error {
	parent, err := openParent(root, target)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat2(parent, path.Base(target), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const byDescriptor = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	beneath := false
	if replace {
		err := unix.MoveMount(tree, "", fd, "", byDescriptor|moveMountBeneath)
		beneath = err == nil
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("move_mount beneath: %w", err)
		}
	}
	if !beneath {
		if err := unix.MoveMount(tree, "", fd, "", byDescriptor); err != nil {
			return fmt.Errorf("move_mount: %w", err)
		}
	}
	// Attaching below a shared mount has made it shared.
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return fmt.Errorf("make it private: %w", err)
	}
	if beneath {
		return detach(parent, path.Base(target))
	}
	return nil
}

// openParent opens the folder of a target, which has to be of a procfs or a
// sysfs: in the image's own file system a name could be anything.
func openParent(root int, target string) (int, error) {
	dir := path.Dir(path.Clean("/" + target))
	fd, err := unix.Openat2(root, dir[1:], &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fstatfs: %w", err)
	}
	if st.Type != unix.PROC_SUPER_MAGIC && st.Type != unix.SYSFS_MAGIC {
		unix.Close(fd)
		return -1, errors.New("the folder is neither procfs nor sysfs")
	}
	return fd, nil
}

// detach unmounts the topmost mount on a name in a folder. The thread's working
// directory stands for the descriptor, which umount2(2) does not take; it is
// the thread's own, as it has left the process's by unshare(CLONE_FS).
func detach(parent int, name string) error {
	if err := unix.Fchdir(parent); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	if err := unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("umount: %w", err)
	}
	return nil
}

// unbind takes back what [Bind] has bound so far.
func unbind(root int, bound []string) error {
	var errs []error
	for _, target := range bound {
		parent, err := openParent(root, target)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, detach(parent, path.Base(target)), unix.Close(parent))
	}
	return errors.Join(errs...)
}
