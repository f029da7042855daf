package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
)

// Heal puts files of the mounted view in the place of dead ones in every
// container that runs, and tells mended of each which paths it bound: none where
// nothing was dead. It is called in pid 1's mount namespace, while a worker serves.
func Heal(ctx context.Context, stateDir string, mended func(r *ledger.Record, bound []string)) error {
	// Two at a time would take each other's files for dead ones.
	release, err := lockFile(ctx, filepath.Join(stateDir, "candord.heal.lock"))
	if err != nil {
		return fmt.Errorf("another mends the resource view: %w", err)
	}
	defer release()
	store, err := ledger.Open(stateDir)
	if err != nil {
		return err
	}
	device, mounted, err := resview.Mounted(stateDir)
	if err != nil {
		return err
	}
	if !mounted {
		return errors.New("the resource view is not mounted")
	}
	// A record that cannot be read is no reason to leave the others.
	records, err := store.List()
	errs := []error{err}
	for _, r := range records {
		if r.View == nil || !r.Owner.Alive() {
			continue
		}
		bound, err := resview.Rebind(stateDir, r.Key, r.Owner, r.View.Rootfs, device)
		if err != nil && !errors.Is(err, os.ErrProcessDone) && r.Owner.Alive() {
			errs = append(errs, fmt.Errorf("container %s: %w", r.ID, err))
		}
		if err == nil || len(bound) > 0 {
			mended(r, bound)
		}
	}
	return errors.Join(errs...)
}

// Remount does by hand what candord does by itself when supervisor and worker have
// died: it starts one where none runs, which mounts the view anew, and mends every
// container. Where nothing is dead it changes nothing.
func Remount(ctx context.Context, o Options, mended func(r *ledger.Record, bound []string)) error {
	if err := Ensure(ctx, o); err != nil {
		return err
	}
	return statedir.InHostMounts(func() error {
		if _, err := Ping(ctx, o.StateDir); err != nil {
			return err
		}
		return Heal(ctx, o.StateDir, mended)
	})
}

// heal is the healer's process.
func heal(stateDir string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), healLimit)
	defer cancel()
	return Heal(ctx, stateDir, func(r *ledger.Record, bound []string) {
		if len(bound) > 0 {
			log.Info("mended the resource view of a container", "container", r.ID, "files", len(bound))
		}
	})
}

// healLimit bounds one run of the healer.
const healLimit = 30 * time.Second

// healer mends the mounts of running containers in a process of its own, since
// it asks the worker that the supervisor watches over: should that hang, only
// the healer hangs with it.
type healer struct {
	tries int
	next  time.Time
	busy  bool
	// stale marks a run that began before the newest mount was made.
	stale   bool
	done    chan error
	process *os.Process
}

const maxHeals = 6

// again makes the next check start over.
func (h *healer) again() { h.tries, h.next, h.stale = 0, time.Time{}, h.busy }

// check starts the healer where it is due. It is called while a worker serves.
func (h *healer) check(s *Supervisor) {
	if h.busy {
		select {
		case err := <-h.done:
			stale := h.stale
			h.busy, h.stale = false, false
			if stale {
				return
			}
			if err == nil {
				h.tries = maxHeals
				return
			}
			s.log.Error("mend the resource view of running containers", "error", err)
		default:
		}
		return
	}
	if h.tries >= maxHeals || time.Now().Before(h.next) {
		return
	}
	h.next = time.Now().Add(time.Second << h.tries)
	h.tries++
	p, err := s.start(append([]string{"candord", "heal"}, s.arguments()...), nil)
	if err != nil {
		s.log.Error("mend the resource view of running containers", "error", err)
		return
	}
	h.busy, h.done, h.process = true, make(chan error, 1), p
	go func() { h.done <- waitHealer(p) }()
}

// stop ends a run: nothing is left to be mended.
func (h *healer) stop() {
	if h.busy {
		_ = h.process.Kill() // or it has ended
	}
}

func waitHealer(p *os.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), healLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	defer stop()
	end, err := p.Wait()
	if err != nil {
		return err
	}
	if !end.Success() {
		return fmt.Errorf("candord heal: %s", end)
	}
	return nil
}
