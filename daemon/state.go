package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

// state is STATE_DIR/candord.json: what the next supervisor needs to know in
// order to take over from a worker whose supervisor is dead.
type state struct {
	Version    int            `json:"version"`
	Supervisor ledger.Process `json:"supervisor"`
	// Worker is the zero value while the worker of that generation starts: it
	// writes itself down before it serves, whether its supervisor lives or not.
	Worker     ledger.Process `json:"worker"`
	Generation uint64         `json:"generation"`
	// Device is that of the mounted view.
	Device uint64 `json:"device"`
	// Undead are workers that were killed and were not dead when the last one
	// was started, or that a reload is about to kill.
	Undead []undead `json:"undead,omitempty"`
	// OwnCgroup is set for a candord that an engine started: systemd's takes
	// its place (see relieve).
	OwnCgroup bool `json:"own_cgroup,omitempty"`
}

type undead struct {
	Process    ledger.Process `json:"process"`
	Generation uint64         `json:"generation"`
}

const (
	stateVersion = 1
	// lockWait is how long candord's lock is waited for while it is not that of
	// a living supervisor.
	lockWait = time.Second
)

func statePath(stateDir string) string { return filepath.Join(stateDir, "candord.json") }

func readState(stateDir string) (state, error) {
	b, err := os.ReadFile(statePath(stateDir))
	if err != nil {
		return state{}, err
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return state{}, fmt.Errorf("%s: %w", statePath(stateDir), err)
	}
	if st.Version != stateVersion {
		return state{}, fmt.Errorf("%s has format %d, this candord knows %d", statePath(stateDir), st.Version, stateVersion)
	}
	return st, nil
}

// write needs no fsync: after a crash of the machine there is no worker.
func (st state) write(stateDir string) error {
	st.Version = stateVersion
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	// Supervisor and worker may write at the same time, the same.
	temp := fmt.Sprintf("%s.%d", statePath(stateDir), os.Getpid())
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, statePath(stateDir))
}

// errTaken is the error of [lock] where another candord has it.
var errTaken = errors.New("another candord")

// lock takes the right to be the candord of a state directory. The kernel drops
// it with the process, however that ends.
func lock(stateDir string) (*os.File, error) {
	f, err := openLock(stateDir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(readyInterval) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		st, err := readState(stateDir)
		if err == nil && st.Supervisor.Alive() {
			f.Close()
			return nil, fmt.Errorf("%w (pid %d) serves %s", errTaken, st.Supervisor.PID, stateDir)
		}
		// One that just begins, or a worker that nobody needs and that ends.
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("%w serves %s", errTaken, stateDir)
		}
	}
}

// relieveTimeout is what a candord may take to end in favour of systemd's.
const relieveTimeout = 5 * time.Second

// relieve takes the lock over from a candord that an engine started, on a node
// whose units were enabled later. Were it left to run, systemd's socket would
// have nobody behind it, and no container could start.
func relieve(stateDir string, taken error) (*os.File, error) {
	st, err := readState(stateDir)
	if err != nil || !st.OwnCgroup {
		return nil, taken
	}
	pidfd, err := st.Supervisor.OpenPidfd()
	if errors.Is(err, os.ErrProcessDone) {
		return lock(stateDir)
	}
	if err != nil {
		return nil, errors.Join(taken, err)
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGHUP, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return nil, errors.Join(taken, fmt.Errorf("tell it to end: %w", err))
	}
	for end := time.Now().Add(relieveTimeout); time.Now().Before(end); {
		// Readable when it is dead: with the process the kernel drops the lock.
		fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 100); err == nil && n > 0 {
			return lock(stateDir)
		}
	}
	return nil, taken
}

func openLock(stateDir string) (*os.File, error) {
	path := filepath.Join(stateDir, "candord.lock")
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// workerLock returns a descriptor for one worker to inherit: while the worker
// lives, [workerLives] is true. Such a lock is the open file's and not a
// process's, and it is another one than flock(2) takes (fcntl_locking(2)).
func workerLock(stateDir string) (*os.File, error) {
	f, err := openLock(stateDir)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return f, nil
}

// workerLives reports whether there is a worker, started at least, of whichever
// supervisor.
func workerLives(stateDir string) bool {
	f, err := openLock(stateDir)
	if err != nil {
		return false
	}
	defer f.Close()
	asked := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &asked)
	return err == nil && asked.Type != unix.F_UNLCK
}

// findWorker returns the state and a pidfd of the worker in it, or
// [os.ErrProcessDone]. One that has just been started is waited for.
func findWorker(stateDir string) (state, *os.File, error) {
	for end := time.Now().Add(startTimeout); ; time.Sleep(readyInterval) {
		st, err := readState(stateDir)
		if err != nil {
			return state{}, nil, err
		}
		pidfd, err := st.Worker.OpenPidfd()
		if !errors.Is(err, os.ErrProcessDone) {
			return st, pidfd, err
		}
		if !workerLives(stateDir) || time.Now().After(end) {
			return st, nil, err
		}
	}
}

// errStray is returned to a worker that another candord has taken the place of.
var errStray = errors.New("another candord serves the resource view")

// writeSelf writes the worker, which is this process, into the state.
func writeSelf(stateDir string, supervisor int, generation, device uint64) error {
	st, err := readState(stateDir)
	if err != nil || st.Supervisor.PID != supervisor {
		if os.Getppid() == supervisor {
			return nil // of a release that writes it itself, and only then
		}
		return errors.Join(errStray, err)
	}
	if st.Worker, err = ledger.FindProcess(os.Getpid()); err != nil {
		return err
	}
	st.Generation, st.Device = generation, device
	return st.write(stateDir)
}
