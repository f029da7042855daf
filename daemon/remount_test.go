package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/resview"
	"golang.org/x/sys/unix"
)

// remount is [Remount] with the lab's candord; it returns what was bound by
// container.
func (l *lab) remount() map[string][]string {
	l.t.Helper()
	bin := l.t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "candord"))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	mended := map[string][]string{}
	o := Options{BinDir: bin, StateDir: l.dir, Timeout: patience}
	if err := Remount(l.t.Context(), o, func(r *ledger.Record, bound []string) { mended[r.ID] = bound }); err != nil {
		l.t.Error(err)
	}
	return mended
}

// endEnsured ends the candord that [Ensure] has started, which the lab does not
// know.
func (l *lab) endEnsured() {
	if st, err := readState(l.dir); err == nil {
		_ = unix.Kill(st.Supervisor.PID, unix.SIGKILL)
		var ws unix.WaitStatus
		_, _ = unix.Wait4(st.Supervisor.PID, &ws, 0, nil)
	}
	l.signalWorker(unix.SIGKILL)
	for _, dir := range groupsOf(l.dir) {
		for range 100 {
			if os.Remove(dir) == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func TestRemountWhereNoCandordRuns(t *testing.T) {
	l := newLab(t)
	d := l.start()
	boxes := []*box{l.boundBox("c1"), l.boundBox("c2")}
	l.add("dead", 0, ledger.Process{PID: boxes[0].process.PID, StartTime: boxes[0].process.StartTime - 1})
	killBoth(t, l, d)
	t.Cleanup(l.endEnsured)
	for range 2 { // what is done need not be done again
		mended := l.remount()
		for _, b := range boxes {
			if _, ok := mended[b.record.ID]; !ok || len(mended) != len(boxes) {
				t.Errorf("it looked at %v", mended)
			}
			for _, f := range boundFiles() {
				// At once: candord's own healer is not waited for here.
				if err := b.read(f); err != nil {
					t.Errorf("%s: %v", f.Target, err)
				}
				if n := len(b.mounts(t, f.Target)); n != 1 && kernelHasBeneath() {
					t.Errorf("%d mounts on %s", n, f.Target)
				}
			}
		}
	}
}

// A container that candord's own healer could not mend: it did not know of it.
func TestRemountMendsWhatTheHealerLeft(t *testing.T) {
	l := newLab(t)
	d := l.start()
	whole, left := l.boundBox("c1"), l.boundBox("c2")
	killBoth(t, l, d)
	l.remove(left.record.Key)
	l.start()
	whole.mended(t)
	lock, err := l.store.Lock(t.Context(), left.record.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Write(left.record); err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	before := l.status()
	mended := l.remount()
	if len(mended["c1"]) != 0 || len(mended["c2"]) != len(boundFiles()) {
		t.Errorf("mended %v", mended)
	}
	for _, b := range []*box{whole, left} {
		if err := b.read(resview.Files()[0]); err != nil {
			t.Error(err)
		}
	}
	if now := l.status(); now.PID != before.PID || now.WorkerPID != before.WorkerPID {
		t.Errorf("candord was replaced: %+v, before %+v", now, before)
	}
}
