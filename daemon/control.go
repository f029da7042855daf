package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"candor.dev/candor/statedir"
	"golang.org/x/sys/unix"
)

func controlPath(stateDir string) string { return filepath.Join(stateDir, "candord.control") }

const (
	reloadRequest = "reload"
	// controlTimeout is how long a client may take to say what it wants.
	controlTimeout = time.Second
	// reloadTimeout is how long [Reload] waits: the one that is asked for before
	// has to end, too.
	reloadTimeout = 3 * standbyTimeout
)

// reply is the answer to a reloadRequest; no error is success.
type reply struct {
	Error string `json:"error"`
}

// serveControl answers those who want something of the supervisor itself: one
// line each way.
func (s *Supervisor) serveControl(listener *os.File) {
	fd := int(listener.Fd())
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			time.Sleep(readyInterval) // EINTR, ECONNABORTED, EMFILE
			continue
		}
		go func() {
			defer unix.Close(conn)
			if line, err := readLine(conn, time.Now().Add(controlTimeout)); err != nil || string(line) != reloadRequest {
				sendLine(conn, reply{"the only request is " + reloadRequest})
				return
			}
			answer := make(chan error, 1)
			s.reloads <- answer
			if err := <-answer; err != nil {
				sendLine(conn, reply{oneLine(err)})
				return
			}
			sendLine(conn, reply{})
		}()
	}
}

// Reload has the candord of a state directory replace its worker by one of the
// candord that is installed now. Readers notice nothing. It returns what candord
// said of itself before and after. With an error the old worker serves on, or, if
// the new one came to serve nobody, another one of either.
//
// The supervisor itself goes on with the code that it was started with.
func Reload(ctx context.Context, stateDir string) (before, after Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	err = statedir.InHostMounts(func() error {
		before, after, err = askReload(ctx, stateDir)
		return err
	})
	if err != nil {
		return before, after, fmt.Errorf("reload: %w", err)
	}
	return before, after, nil
}

func askReload(ctx context.Context, stateDir string) (before, after Status, err error) {
	// First: under systemd a ping would start a candord, and one that has just
	// begun needs no reload.
	fd, err := connectTo(controlPath(stateDir))
	if errors.Is(err, ErrNotRunning) {
		return before, after, notReloadable(stateDir, err)
	}
	if err != nil {
		return before, after, err
	}
	defer unix.Close(fd)
	if before, err = Ping(ctx, stateDir); err != nil && !errors.Is(err, ErrNoView) {
		return before, after, err
	}
	if _, err := unix.Write(fd, []byte(reloadRequest+"\n")); err != nil {
		return before, after, fmt.Errorf("ask candord (pid %d): %w", before.PID, err)
	}
	deadline, _ := ctx.Deadline()
	line, err := readLine(fd, deadline)
	if err != nil {
		return before, after, fmt.Errorf("candord (pid %d) did not answer: %w", before.PID, err)
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return before, after, fmt.Errorf("candord (pid %d) answered %q: %w", before.PID, line, err)
	}
	if r.Error != "" {
		return before, after, errors.New(r.Error)
	}
	if after, err = Ping(ctx, stateDir); errors.Is(err, ErrNoView) {
		err = nil
	}
	return before, after, err
}

// notReloadable says what runs where no supervisor can be asked.
func notReloadable(stateDir string, err error) error {
	st, stateErr := readState(stateDir)
	switch {
	case stateErr != nil && !errors.Is(stateErr, os.ErrNotExist):
		return stateErr
	case stateErr != nil:
		return err
	case st.Supervisor.Alive():
		return fmt.Errorf("candord (pid %d) knows no reload: restart it", st.Supervisor.PID)
	case st.Worker.Alive():
		return fmt.Errorf("%w: worker %d serves without a supervisor; start candord, and it takes over", err, st.Worker.PID)
	}
	return err
}
