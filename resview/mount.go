package resview

import (
	"errors"
	"fmt"
	"os"

	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

// FSType is the file system type of the view in mountinfo.
const FSType = "fuse.candor"

// fuseDevice is the device number of /dev/fuse.
var fuseDevice = unix.Mkdev(10, 229)

// OpenMount opens a connection and mounts it where the view belongs, in candor's
// own mount namespace. It returns the connection's descriptor and the device
// number of the new file system. The descriptor is blocking, as [Config.FD] has
// to be.
func OpenMount(stateDir string) (fd int, device uint64, err error) {
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	_, statErr := os.Stat("/sys/fs/selinux/enforce")
	err = statedir.InMounts(stateDir, func() error {
		if err := mountView(fd, statErr == nil); err != nil {
			return err
		}
		var mounted bool
		device, mounted, err = viewDevice()
		if err == nil && !mounted {
			err = errors.New("no mount where it was just made")
		}
		if err != nil {
			return errors.Join(err, unix.Unmount(statedir.ViewDir, unix.MNT_DETACH))
		}
		return nil
	})
	if err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("mount the resource view: %w", err)
	}
	return fd, device, nil
}

func mountView(fd int, selinux bool) error {
	const dir = statedir.ViewDir
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd)
	err := error(unix.EINVAL)
	if selinux {
		// Without it no confined container may read the files.
		err = unix.Mount("candor", dir, FSType, flags, options+`,context="system_u:object_r:container_file_t:s0"`)
	}
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("candor", dir, FSType, flags, options)
	}
	if err != nil {
		return &os.PathError{Op: "mount " + FSType, Path: dir, Err: err}
	}
	return nil
}

// Mounted reports whether the view is mounted, and the device number of its
// file system. It asks no server: it does not hang on one that is stopped.
func Mounted(stateDir string) (device uint64, mounted bool, err error) {
	err = statedir.InMounts(stateDir, func() error {
		device, mounted, err = viewDevice()
		return err
	})
	return device, mounted, err
}

func viewDevice() (device uint64, mounted bool, err error) {
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, statedir.ViewDir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOTCONN) {
		return 0, true, nil // dead before its root was ever looked at
	}
	if err != nil {
		return 0, false, &os.PathError{Op: "statx", Path: statedir.ViewDir, Err: err}
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Unmount detaches the view, also several that lie upon each other. What
// containers have bound of it stays.
func Unmount(stateDir string) error {
	return statedir.InMounts(stateDir, func() error {
		for range 64 {
			err := unix.Unmount(statedir.ViewDir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EINVAL) {
				return nil // not, or no longer, a mount point
			}
			if err != nil {
				return &os.PathError{Op: "umount", Path: statedir.ViewDir, Err: err}
			}
		}
		return fmt.Errorf("umount %s: still mounted after 64 rounds", statedir.ViewDir)
	})
}

// IsConnection reports whether the descriptor is one of /dev/fuse.
func IsConnection(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == fuseDevice
}
