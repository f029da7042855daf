package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stuck reader would wait for ever; anything below this is queueing on a busy
// machine. With -short, as on emulated ones, it is three times as long.
var patience = 10 * time.Second

func TestReadersNoticeNoKilledWorker(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	slow := l.add("c2", 2*time.Millisecond, l.self())
	l.start()
	rs, rs2, walkers := l.read(6, r), l.read(2, slow), l.walk(2, r)
	kills, enough, pause := 0, 100, 58*time.Millisecond
	if testing.Short() {
		enough, pause = 20, 10*pause // where some workers come to serve in between
	}
	for end := time.Now().Add(time.Minute); kills < enough && time.Now().Before(end); {
		time.Sleep(2*time.Millisecond + rand.N(pause))
		if l.signalWorker(unix.SIGKILL) {
			kills++
		}
	}
	rs.end(l, patience)
	rs2.end(l, patience)
	walkers.end(l, patience)
	st := l.status()
	t.Logf("%d kills, %d requests, %d of them replayed", kills, st.Requests, st.Replayed)
	if kills < 20 || st.Replayed == 0 {
		t.Error("too few kills met a request to show anything")
	}
}

func TestStoppedWorkerIsReplaced(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	l.start()
	rs := l.read(8, r)
	var took []time.Duration
	for range 5 {
		time.Sleep(rand.N(200 * time.Millisecond))
		rs.goOn(t) // one that still starts is given longer
		before, start := l.status().WorkerPID, time.Now()
		if !l.signalWorker(unix.SIGSTOP) {
			t.Fatal("no worker to stop")
		}
		for st, _ := readState(l.dir); st.Worker.PID == before || st.Worker.PID == 0; st, _ = readState(l.dir) {
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(start))
	}
	rs.end(l, patience)
	l.replacedWithin("stopped", took)
}

func TestOneRequestThatHangsDelaysNobody(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	hangs := l.add("c2", neverReturns, l.self())
	l.start()
	worker := l.status().WorkerPID
	rs := l.read(4, r)
	start := time.Now()
	for range 4 {
		if _, err := readAll(l.file(hangs.Key, "meminfo"), 4096); !errors.Is(err, unix.EIO) {
			t.Errorf("read = %v, want EIO at the deadline", err)
		}
	}
	t.Logf("four reads that hang: %v", time.Since(start))
	rs.end(l, patience)
	if now := l.status().WorkerPID; now != worker {
		t.Error("the worker was replaced for a renderer that hangs")
	}
}

func TestRequestThatKillsItsWorkerGetsAnError(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	poison := l.add("c2", killsWorker, l.self())
	l.start()
	rs := l.read(4, r)
	for range 2 {
		if _, err := readAll(l.file(poison.Key, "meminfo"), 4096); !errors.Is(err, unix.EIO) {
			t.Errorf("read = %v, want EIO", err)
		}
	}
	rs.end(l, patience)
}

func TestNextSupervisorAdoptsTheWorker(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(8, r)
	for range 5 {
		time.Sleep(50*time.Millisecond + rand.N(100*time.Millisecond))
		if err := d.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = d.Wait()
		if st := l.status(); st.SupervisorAlive {
			t.Error("the orphaned worker says that its supervisor lives")
		}
		d = l.start()
	}
	rs.end(l, patience)
	if st := l.status(); st.Generation < 6 {
		t.Errorf("generation %d: the mount was made anew, not adopted", st.Generation)
	}
}

func TestHandOverKeepsReadersGoing(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	rs := l.read(4, r)
	worker := l.status().WorkerPID
	if err := d.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil && d.ProcessState.ExitCode() != 0 {
		t.Fatal(err)
	}
	if now := l.status().WorkerPID; now != worker {
		t.Errorf("worker %d, want %d to serve on", now, worker)
	}
	l.start()
	rs.end(l, patience)
}

func TestConnectionThatIsCutIsMadeAnew(t *testing.T) {
	l := newLab(t)
	r := l.add("c1", 0, l.self())
	d := l.start()
	if b, err := readAll(l.file(r.Key, "stat"), 4096); err != nil || checkContent(b, r.View.ID, "stat") != nil {
		t.Fatalf("%q, %v", b, err)
	}
	time.Sleep(200 * time.Millisecond) // the lab notes the device
	before := l.status().WorkerPID
	l.abort()
	for range 1000 {
		if st := l.await(d.Process.Pid); st.WorkerPID != before {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	b, err := readAll(l.file(r.Key, "stat"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkContent(b, r.View.ID, "stat"); err != nil {
		t.Error(err)
	}
}

// A reader that is killed while it waits has to be gone soon, whatever happens to
// the worker meanwhile.
func TestKilledReadersAreGone(t *testing.T) {
	l := newLab(t)
	slow := l.add("c1", 10*time.Millisecond, l.self())
	l.start()
	path := fmt.Sprintf("/proc/%d/fd/%s", os.Getpid(), filepath.Base(l.file(slow.Key, "stat")))
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for served := false; ; served = !served {
			select {
			case <-stop:
				return
			case <-time.After(rand.N(60 * time.Millisecond)):
			}
			// Every other time one that serves: on a machine that is busy enough
			// none would live until it does.
			for end := time.Now().Add(patience); served && time.Now().Before(end); {
				if _, err := Ping(t.Context(), l.dir); err == nil {
					break
				}
			}
			l.signalWorker(unix.SIGKILL)
		}
	})
	readers := 60
	if testing.Short() {
		readers = 15
	}
	for range readers {
		cmd := exec.Command("cat", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		_ = cmd.Process.Kill()
		start := time.Now()
		_ = cmd.Wait()
		if took := time.Since(start); took > patience {
			t.Errorf("a killed reader took %v to die", took)
		}
	}
	close(stop)
	killer.Wait()
}
