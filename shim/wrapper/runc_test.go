package wrapper

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRealRunc walks a container through the wrapper and the runc of bin/tools.
func TestRealRunc(t *testing.T) {
	runc, err := filepath.Abs("../../bin/tools/runc")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{runc, "/bin/busybox"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs %s (make tools; apt-get install busybox-static)", path)
		}
	}
	l := newLab(t)
	l.runc = runc
	l.rootfs(t)
	runcRoot := filepath.Join(l.dir, "runc")
	t.Setenv("CANDOR_CONFIG", l.config)
	run := func(args ...string) string {
		t.Helper()
		// A file: a container that was created only would keep a pipe open.
		out, err := os.CreateTemp(l.dir, "out")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		w := Wrapper{
			Args: append([]string{"--root", runcRoot}, args...), Environ: append(os.Environ(), "CANDOR_RUNC="+runc), Stderr: out,
			Exec: func(path string, argv, environ []string) error {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				cmd := exec.CommandContext(ctx, path, argv[1:]...)
				cmd.Env, cmd.Stdout, cmd.Stderr = environ, out, out
				return cmd.Run()
			},
		}
		status := w.Main()
		b, err := os.ReadFile(out.Name())
		if status != 0 || err != nil {
			t.Fatalf("%q: status %d, %s (error %v)", args, status, b, err)
		}
		return string(b)
	}
	t.Cleanup(func() { // where a step failed
		_ = exec.CommandContext(context.Background(), runc, "--root", runcRoot, "delete", "--force", "c1").Run()
	})
	// A container whose name is a subcommand.
	if out := run("run", "--bundle", l.bundle, "create"); !strings.Contains(out, "in the container") {
		t.Errorf("printed %q", out)
	}
	b, err := os.ReadFile(filepath.Join(l.dir, "hooks"))
	want := l.dir + "/bin/candor-prestart-net\n" + l.dir + "/bin/candor-poststop\n"
	if err != nil || string(b) != want {
		t.Errorf("hooks ran %q, want %q (error %v)", b, want, err)
	}
	// Once more, in pieces: the bundle is patched already.
	patched := l.spec(t)
	run("create", "--bundle", l.bundle, "c1")
	if l.spec(t) != patched {
		t.Error("the second create changed the spec")
	}
	if got, err := bundleOf(runcRoot, "c1"); err != nil || got != l.bundle {
		t.Errorf("runc says that the bundle is %s, error %v", got, err)
	}
	run("start", "c1")
	run("delete", "--force", "c1")
}

// rootfs makes a root of busybox, and the spec of a container that says where it
// is.
func (l lab) rootfs(t *testing.T) {
	t.Helper()
	root := filepath.Join(l.bundle, "rootfs")
	for _, dir := range []string{"bin", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "bin", "busybox"), string(busybox), 0o755)
	if err := os.Remove(filepath.Join(l.bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), l.runc, "spec", "--bundle", l.bundle).CombinedOutput(); err != nil {
		t.Fatalf("runc spec: %v: %s", err, out)
	}
	var spec map[string]any
	if err := json.Unmarshal([]byte(l.spec(t)), &spec); err != nil {
		t.Fatal(err)
	}
	spec["annotations"] = map[string]string{"candor.dev/nic": "pool=p,mac=52:54:00:00:00:01"}
	process, _ := spec["process"].(map[string]any)
	process["terminal"] = false
	process["args"] = []string{"/bin/busybox", "echo", "in the container"}
	delete(process, "rlimits") // a machine may allow less than runc's default
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(l.bundle, "config.json"), string(b), 0o644)
}
