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
	Worker     ledger.Process `json:"worker"`
	Generation uint64         `json:"generation"`
	// Device is that of the mounted view.
	Device uint64 `json:"device"`
	// OwnCgroup is set for a candord that an engine started: systemd's takes
	// its place (see relieve).
	OwnCgroup bool `json:"own_cgroup,omitempty"`
}

const stateVersion = 1

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
	temp := statePath(stateDir) + ".tmp" // candord's lock is held
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
	path := filepath.Join(stateDir, "candord.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	if st, err := readState(stateDir); err == nil && st.Supervisor.Alive() {
		return nil, fmt.Errorf("%w (pid %d) serves %s", errTaken, st.Supervisor.PID, stateDir)
	}
	return nil, fmt.Errorf("%w serves %s", errTaken, stateDir)
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
