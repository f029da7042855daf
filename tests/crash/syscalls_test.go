//go:build amd64

package crash

import "golang.org/x/sys/unix"

// makingFlags are openat's that make a file, or empty one.
const makingFlags = unix.O_CREAT | unix.O_TRUNC | (unix.O_TMPFILE &^ unix.O_DIRECTORY)

// judge says what a call of the tracer's program does, and whether it changes
// anything.
type judge func(t *tracer, args [6]uint64) (what string, changes bool, err error)

// suspects are the calls that may change something, or do.
var suspects = map[uint64]judge{
	unix.SYS_OPENAT:   (*tracer).judgeOpenat,
	unix.SYS_OPENAT2:  names("openat2", descriptor, path),
	unix.SYS_OPEN:     names("open", path),
	unix.SYS_CREAT:    names("creat", path),
	unix.SYS_WRITE:    (*tracer).judgeWrite,
	unix.SYS_PWRITE64: (*tracer).judgeWrite,
	unix.SYS_WRITEV:   (*tracer).judgeWrite,
	unix.SYS_SENDTO:   (*tracer).judgeSendto,
	unix.SYS_SENDMSG:  (*tracer).judgeSendmsg,
	unix.SYS_BIND:     (*tracer).judgeBind,
	unix.SYS_IOCTL:    (*tracer).judgeIoctl,
	unix.SYS_MMAP:     judgeMmap,
	unix.SYS_SETNS:    judgeSetns,
	unix.SYS_UNSHARE:  judgeUnshare,

	unix.SYS_MKDIR:           names("mkdir", path),
	unix.SYS_MKDIRAT:         names("mkdirat", descriptor, path),
	unix.SYS_RMDIR:           names("rmdir", path),
	unix.SYS_UNLINK:          names("unlink", path),
	unix.SYS_UNLINKAT:        names("unlinkat", descriptor, path),
	unix.SYS_RENAME:          names("rename", path, path),
	unix.SYS_RENAMEAT:        names("renameat", descriptor, path, descriptor, path),
	unix.SYS_RENAMEAT2:       names("renameat2", descriptor, path, descriptor, path),
	unix.SYS_LINK:            names("link", path, path),
	unix.SYS_LINKAT:          names("linkat", descriptor, path, descriptor, path),
	unix.SYS_SYMLINK:         names("symlink", path, path),
	unix.SYS_SYMLINKAT:       names("symlinkat", path, descriptor, path),
	unix.SYS_MKNOD:           names("mknod", path),
	unix.SYS_MKNODAT:         names("mknodat", descriptor, path),
	unix.SYS_CHMOD:           names("chmod", path),
	unix.SYS_FCHMOD:          names("fchmod", descriptor),
	unix.SYS_FCHMODAT:        names("fchmodat", descriptor, path),
	unix.SYS_CHOWN:           names("chown", path),
	unix.SYS_FCHOWN:          names("fchown", descriptor),
	unix.SYS_FCHOWNAT:        names("fchownat", descriptor, path),
	unix.SYS_LCHOWN:          names("lchown", path),
	unix.SYS_UTIMENSAT:       names("utimensat", descriptor, path),
	unix.SYS_SETXATTR:        names("setxattr", path, path),
	unix.SYS_FSETXATTR:       names("fsetxattr", descriptor, path),
	unix.SYS_TRUNCATE:        names("truncate", path),
	unix.SYS_FTRUNCATE:       names("ftruncate", descriptor),
	unix.SYS_FALLOCATE:       names("fallocate", descriptor),
	unix.SYS_COPY_FILE_RANGE: names("copy_file_range", descriptor, anything, descriptor),
	unix.SYS_SENDFILE:        names("sendfile", descriptor),
	unix.SYS_SPLICE:          names("splice", descriptor, anything, descriptor),
	unix.SYS_FSYNC:           names("fsync", descriptor),
	unix.SYS_FDATASYNC:       names("fdatasync", descriptor),
	unix.SYS_SYNC:            names("sync"),
	unix.SYS_SYNCFS:          names("syncfs", descriptor),

	unix.SYS_MOUNT:         names("mount", path, path, anything),
	unix.SYS_UMOUNT2:       names("umount2", path),
	unix.SYS_PIVOT_ROOT:    names("pivot_root", path, path),
	unix.SYS_CHROOT:        names("chroot", path),
	unix.SYS_OPEN_TREE:     names("open_tree", descriptor),
	unix.SYS_MOVE_MOUNT:    names("move_mount", anything, anything, descriptor, path),
	unix.SYS_MOUNT_SETATTR: names("mount_setattr", descriptor, path),
	unix.SYS_FSOPEN:        names("fsopen", path),
	unix.SYS_FSCONFIG:      names("fsconfig", anything, anything, path),
	unix.SYS_FSMOUNT:       names("fsmount"),

	unix.SYS_EXECVE:   names("execve", path),
	unix.SYS_EXECVEAT: names("execveat", descriptor, path),
	unix.SYS_FORK:     names("fork"),
	unix.SYS_VFORK:    names("vfork"),
	unix.SYS_BPF:      names("bpf"),
	unix.SYS_KILL:     judgeSignal("kill", 1),
	// Go asks with signal 0 whether the kernel knows the call.
	unix.SYS_PIDFD_SEND_SIGNAL: judgeSignal("pidfd_send_signal", 1),
}

// harmless are the calls that change nothing but the process itself.
var harmless = set(
	unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_READV, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_LSEEK,
	unix.SYS_FSTAT, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS,
	unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINK, unix.SYS_READLINKAT,
	unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_CHDIR, unix.SYS_FCHDIR, unix.SYS_FCNTL, unix.SYS_FLOCK,
	unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_EVENTFD2, unix.SYS_UMASK,
	unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_PRCTL,
	unix.SYS_ARCH_PRCTL, unix.SYS_SET_TID_ADDRESS, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_TGKILL, unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_WAIT4, unix.SYS_WAITID,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETRANDOM, unix.SYS_UNAME, unix.SYS_SYSINFO,
	unix.SYS_PRLIMIT64, unix.SYS_GETRLIMIT, unix.SYS_SETRLIMIT, unix.SYS_GETRUSAGE,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_PIDFD_OPEN, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT,
	unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_ADD_WATCH,
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_SHUTDOWN,
	unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_RECVFROM, unix.SYS_RECVMSG,
)

func set(numbers ...uint64) map[uint64]bool {
	m := make(map[uint64]bool, len(numbers))
	for _, n := range numbers {
		m[n] = true
	}
	return m
}
