package wrapper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/specgen"
	"candor.dev/candor/statedir"
)

// lab is a node with candor's hooks, a policy, a bundle and a runc that does
// nothing.
type lab struct {
	dir, config, bundle, runc string
}

func newLab(t *testing.T) lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a policy has to be root's")
	}
	// Not t.TempDir, which is too long a path for the sockets in a state
	// directory.
	dir, err := os.MkdirTemp("", "candor-")
	if err != nil {
		t.Fatal(err)
	}
	l := lab{dir: dir, config: filepath.Join(dir, "config.toml"), bundle: filepath.Join(dir, "bundle"), runc: filepath.Join(dir, "bin", "runc")}
	t.Cleanup(func() {
		if err := statedir.Remove(filepath.Join(dir, "state")); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{l.bundle, filepath.Dir(l.runc)} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, hook := range specgen.Hooks() {
		write(t, filepath.Join(dir, "bin", hook), "#!/bin/sh\ncat >/dev/null; echo $0 >>"+dir+"/hooks\n", 0o755)
	}
	write(t, l.runc, "", 0o755)
	write(t, l.config, fmt.Sprintf("state_dir = '%s/state'\nbin_dir = '%s/bin'\n[resource_view]\nenabled = false\n"+
		"[pools.p]\nkind = 'hostnic'\nmacs = ['*']\nallow = ['runc', 'docker']\n", dir, dir), 0o644)
	write(t, filepath.Join(l.bundle, "config.json"), `{"annotations":{"candor.dev/nic":"pool=p,mac=52:54:00:00:00:01"}}`, 0o644)
	return l
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// call runs the wrapper and returns what it became.
func (l lab) call(args ...string) (status int, path string, argv, environ []string, stderr string) {
	var errs bytes.Buffer
	w := Wrapper{
		Args: args, Environ: []string{"CANDOR_RUNC=" + l.runc, "PATH=/nonexistent", "X=1"}, Stderr: &errs,
		Exec: func(p string, a, e []string) error {
			path, argv, environ = p, a, e
			return nil
		},
	}
	status = w.Main()
	return status, path, argv, environ, errs.String()
}

func (l lab) spec(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCreateRunAndRestoreArePatchedAndPassedOn(t *testing.T) {
	for _, args := range []string{
		"--root /r --log /nonexistent/log --log-format json create --bundle BUNDLE --pid-file /p c1",
		"run -b BUNDLE c1", "restore --image-path /i --bundle=BUNDLE c1",
	} {
		l := newLab(t)
		given := strings.Fields(strings.Replace(args, "BUNDLE", l.bundle, 1))
		status, path, argv, environ, stderr := l.call(append([]string{"--candor-config=" + l.config, "--candor-caller=docker"}, given...)...)
		if status != 0 || stderr != "" {
			t.Fatalf("%s: status %d, %s", args, status, stderr)
		}
		if path != l.runc || !slices.Equal(argv, append([]string{"runc"}, given...)) || !slices.Contains(environ, "X=1") {
			t.Errorf("%s: became %s %q with %q", args, path, argv, environ)
		}
		if s := l.spec(t); !strings.Contains(s, `"--caller","docker"`) || !strings.Contains(s, specgen.HookPoststop) {
			t.Errorf("%s: spec %s", args, s)
		}
	}
}

func TestOtherCallsAreOnlyPassedOn(t *testing.T) {
	for _, args := range []string{
		"", "--version", "features", "state create", "delete create", "kill create KILL", "exec c1 create", "list",
		"create --help", "create", "--root /r start c1",
	} {
		l := newLab(t)
		before := l.spec(t)
		t.Chdir(l.bundle)
		t.Setenv("CANDOR_CONFIG", l.config)
		status, path, argv, _, stderr := l.call(strings.Fields(args)...)
		if status != 0 || stderr != "" || path != l.runc || !slices.Equal(argv[1:], strings.Fields(args)) {
			t.Errorf("%q: status %d, became %s %q, %s", args, status, path, argv, stderr)
		}
		if l.spec(t) != before {
			t.Errorf("%q: the spec was patched", args)
		}
	}
}

func TestBundleIsTheWorkingDirectoryByDefault(t *testing.T) {
	l := newLab(t)
	t.Chdir(l.bundle)
	t.Setenv("CANDOR_CONFIG", l.config)
	if status, _, _, _, stderr := l.call("create", "c1"); status != 0 {
		t.Fatal(stderr)
	}
	if s := l.spec(t); !strings.Contains(s, `"--caller","runc"`) {
		t.Errorf("spec %s", s)
	}
}

func TestErrorsGoWhereRuncsGo(t *testing.T) {
	l := newLab(t)
	log := filepath.Join(l.dir, "log")
	own := []string{"--candor-config=" + l.config, "--candor-caller=podman"}
	for _, c := range []struct{ args, stderr, log string }{
		{"create -b BUNDLE c1", "candor-runc: pool p for caller podman", ""},
		{"--log-format json create -b BUNDLE c1", `{"level":"error","msg":"candor-runc: pool p for caller podman`, ""},
		{"--log LOG --log-format json create -b BUNDLE c1", "candor-runc: pool p for caller podman", `{"level":"error","msg":"candor-runc: pool p for caller podman`},
		{"--log LOG create -b BUNDLE c1", "candor-runc: pool p for caller podman", `level=error msg="candor-runc: pool p for caller podman`},
		{"--log /nonexistent/log create -b BUNDLE c1", "candor-runc: pool p for caller podman", ""},
	} {
		if err := os.RemoveAll(log); err != nil {
			t.Fatal(err)
		}
		args := strings.Fields(strings.NewReplacer("BUNDLE", l.bundle, "LOG", log).Replace(c.args))
		status, path, _, _, stderr := l.call(append(own, args...)...)
		if status != 1 || path != "" || !strings.HasPrefix(stderr, c.stderr) {
			t.Errorf("%s: status %d, became %q, stderr %q", c.args, status, path, stderr)
		}
		b, _ := os.ReadFile(log)
		if !strings.Contains(string(b), c.log) || strings.Count(string(b), "\n") > 1 {
			t.Errorf("%s: log %q", c.args, b)
		}
		var line struct {
			Level, Msg string
			Time       time.Time
		}
		if strings.HasPrefix(c.log, "{") {
			if err := json.Unmarshal(b, &line); err != nil || line.Level != "error" || line.Time.IsZero() {
				t.Errorf("%s: line %+v, error %v", c.args, line, err)
			}
		}
	}
}

func TestOwnFlagsStandFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want ownFlags
		rest string
		bad  bool
	}{
		{"create c1", ownFlags{caller: "runc"}, "create c1", false},
		{"--candor-config=/c --candor-caller=docker --debug create c1", ownFlags{config: "/c", caller: "docker"}, "--debug create c1", false},
		{"--debug --candor-caller=docker create c1", ownFlags{caller: "runc"}, "--debug --candor-caller=docker create c1", false},
		{"--candor-confg=/c create", ownFlags{caller: "runc", unknown: "--candor-confg=/c"}, "create", true},
		{"--candor-config=c create", ownFlags{caller: "runc", config: "c"}, "create", true},
		{"--candor-caller= create", ownFlags{}, "create", true},
		{"--candor-caller docker create", ownFlags{}, "docker create", true},
	} {
		own, rest := takeOwn(strings.Fields(c.args))
		if own != c.want || strings.Join(rest, " ") != c.rest || (own.check() != nil) != c.bad {
			t.Errorf("%q: %+v, rest %q, %v", c.args, own, rest, own.check())
		}
	}
}

func TestFindRunc(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	withSelf, none, real := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(withSelf, "runc")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(none, "runc"), "", 0o644)
	write(t, filepath.Join(real, "runc"), "", 0o755)
	path := strings.Join([]string{"", ".", withSelf, none, real}, ":")
	if got, err := findRunc("", path); err != nil || got != filepath.Join(real, "runc") {
		t.Errorf("in PATH: %s, error %v", got, err)
	}
	if got, err := findRunc(filepath.Join(real, "runc"), withSelf); err != nil || got != filepath.Join(real, "runc") {
		t.Errorf("configured: %s, error %v", got, err)
	}
	for _, configured := range []string{"/nonexistent", "runc", filepath.Join(withSelf, "runc")} {
		if _, err := findRunc(configured, real); err == nil || !strings.Contains(err.Error(), "CANDOR_RUNC") {
			t.Errorf("configured %s: error %v", configured, err)
		}
	}
	if _, err := findRunc("", withSelf+":"+none); err == nil || !strings.Contains(err.Error(), "CANDOR_RUNC") {
		t.Errorf("none: error %v", err)
	}
}

func TestCopyOfTheWrapperIsNotCalledForEver(t *testing.T) {
	l := newLab(t)
	w := Wrapper{Args: []string{"state", "c1"}, Environ: []string{"CANDOR_RUNC=" + l.runc}, Stderr: os.Stderr}
	var environ []string
	w.Exec = func(_ string, _, e []string) error { environ = e; return nil }
	if status := w.Main(); status != 0 {
		t.Fatal("the first call failed")
	}
	var stderr bytes.Buffer
	w.Environ, w.Stderr = environ, &stderr
	if status := w.Main(); status != 1 || !strings.Contains(stderr.String(), "set CANDOR_RUNC") {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

func TestBundleOf(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for id, state := range map[string]string{
		"c1": `{"id":"c1","config":{"labels":["x=y","bundle=/b/c1"]}}`, "none": `{"config":{}}`, "broken": `{`,
	} {
		if err := os.Mkdir(filepath.Join(root, id), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, id, "state.json"), state, 0o600)
	}
	if got, err := bundleOf(root, "c1"); err != nil || got != "/b/c1" {
		t.Errorf("%s, error %v", got, err)
	}
	for _, id := range []string{"none", "broken", "gone"} {
		if _, err := bundleOf(root, id); err == nil {
			t.Errorf("%s: no error", id)
		}
	}
}

func TestStartAsksForTheBundleOfAContainerWithARecord(t *testing.T) {
	l := newLab(t)
	dir := filepath.Join(l.dir, "state", "ledger")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "c[1]-0123456789.json"), "{}", 0o600)
	own := "--candor-config=" + l.config
	if status, path, _, _, stderr := l.call(own, "--root", l.dir, "start", "c1"); status != 0 || path != l.runc {
		t.Errorf("without a record: status %d, %s", status, stderr)
	}
	if status, path, _, _, stderr := l.call(own, "--root", l.dir, "start", "c[1]"); status != 1 || path != "" || !strings.Contains(stderr, "which bundle") {
		t.Errorf("with a record, and no state of runc's: status %d, %s", status, stderr)
	}
}

func TestLogLine(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if got, want := logLine("", `a "b"`, now), "time=\"2026-01-02T03:04:05Z\" level=error msg=\"a \\\"b\\\"\"\n"; got != want {
		t.Errorf("text %s", got)
	}
	if got, want := logLine("json", `a "b"`, now), `{"level":"error","msg":"a \"b\"","time":"2026-01-02T03:04:05Z"}`+"\n"; got != want {
		t.Errorf("json %s", got)
	}
}
