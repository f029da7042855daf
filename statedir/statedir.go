// Package statedir prepares candor's state directory and does there what has to
// happen in pid 1's mount namespace, whatever namespace the engine runs in.
package statedir

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// InHostMounts runs fn where pid 1's mount namespace is in force. Engines and
// hardened units run in others; what they mount there nobody else would see.
//
// When another namespace has to be entered, fn runs on a thread of its own,
// which is thrown away: fn must not start goroutines that touch files.
func InHostMounts(fn func() error) error {
	same, err := inHostMounts()
	if err != nil {
		return fmt.Errorf("compare mount namespace with pid 1's: %w", err)
	}
	if same {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if err := enterHostMounts(); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

func enterHostMounts() error {
	ns, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return fmt.Errorf("open pid 1's mount namespace: %w", err)
	}
	defer ns.Close()
	// setns(CLONE_NEWNS) is EINVAL for a thread that shares its root and
	// working directory with others (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the thread's root: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter pid 1's mount namespace: %w", err)
	}
	return nil
}

// inHostMounts compares the mounts that the two namespaces have at /: a mount's
// id is unique among all namespaces. /proc/1/ns/mnt would say it more directly,
// but needs ptrace rights over pid 1, which a root that lacks one of its
// capabilities does not have (seen under a manager that drops CAP_SYS_RESOURCE).
func inHostMounts() (bool, error) {
	ours, err := rootMount("/proc/thread-self/mountinfo")
	if err != nil {
		return false, err
	}
	hosts, err := rootMount("/proc/1/mountinfo")
	if err != nil {
		return false, err
	}
	return ours == hosts, nil
}

// rootMount returns the id of the topmost mount at / (proc_pid_mountinfo(5)).
func rootMount(path string) (id string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == "/" {
			id = fields[0]
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if id == "" {
		return "", fmt.Errorf("%s has no mount at /", path)
	}
	return id, nil
}

// Prepare makes the state directory, readable by root alone and a mount of its
// own that nothing propagates out of, and candor's mount namespace in it
// ([InMounts]). It is called inside [InHostMounts], is idempotent, and safe to
// call from several processes at once. The error says what is wrong with a
// directory that is not fit.
func Prepare(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
		return fmt.Errorf("state directory %q: not an absolute path below /", dir)
	}
	if ready, err := prepared(dir); err != nil || ready {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer parent.Close()
	// Two that bind at once would stack two mounts, and each see its own.
	if err := unix.Flock(int(parent.Fd()), unix.LOCK_EX); err != nil {
		return &os.PathError{Op: "flock", Path: parent.Name(), Err: err}
	}
	if ready, err := prepared(dir); err != nil || ready {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := bindUnbindable(dir); err != nil {
		return err
	}
	return prepareMounts(dir)
}

// bindUnbindable binds dir on itself, unless somebody has who was killed before
// the second step. Unbindable is also private: the file of a mount namespace can be
// bound below nothing else (mount_namespaces(7)), and what is mounted there reaches
// no peer.
func bindUnbindable(dir string) error {
	mounted, err := isMountRoot(dir)
	if err != nil {
		return err
	}
	if !mounted {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "bind", Path: dir, Err: err}
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_UNBINDABLE, ""); err != nil {
		return errors.Join(&os.PathError{Op: "make unbindable", Path: dir, Err: err}, unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// prepared reports whether nothing is left for [Prepare] to do.
func prepared(dir string) (bool, error) {
	mounted, err := isMountRoot(dir)
	if err != nil || !mounted {
		return false, err
	}
	return isNamespace(mountsPath(dir))
}

// isMountRoot reports whether dir is a mount point. It says in one line what is
// wrong where the directory is not fit for root's secrets.
func isMountRoot(dir string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, fmt.Errorf("state directory %s: not a directory", dir)
	}
	if st.Uid != 0 || st.Mode&0o077 != 0 {
		return false, fmt.Errorf("state directory %s: has to be root's alone (uid 0, mode 0700), is uid %d, mode %04o", dir, st.Uid, st.Mode&0o7777)
	}
	// STATX_ATTR_MOUNT_ROOT: Linux 5.8; the view needs 5.12 anyway.
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
