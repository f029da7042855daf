package hook

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"candor.dev/candor/counters"
	"candor.dev/candor/policy"
	"candor.dev/candor/request"
	"candor.dev/candor/statedir"
)

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		name string
		args string
		want options
		err  string
	}{
		{"defaults", "", options{config: "/etc/candor/config.toml"}, ""},
		{"both forms", "--config=/a --state-dir /b --caller containerd:default", options{config: "/a", stateDir: "/b", caller: "containerd:default"}, ""},
		{"a switch", "--late --caller runc", options{config: "/etc/candor/config.toml", caller: "runc", late: true}, ""},
		{"unknown", "--calller x", options{}, "--calller"},
		{"no value", "--caller", options{}, "needs a value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseOptions(strings.Fields(test.args))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func FuzzReadState(f *testing.F) {
	for _, s := range []string{`{"id":"c1","pid":1,"bundle":"/b"}`, `{"id":"../x","bundle":"/b"}`, `{}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readState(bytes.NewReader(b))
		if err != nil {
			return
		}
		if strings.ContainsAny(s.ID, "/\x00 \n") || s.ID == ".." || !filepath.IsAbs(s.Bundle) {
			t.Errorf("accepted %+v", s)
		}
	})
}

// run calls a hook whose work is work, on a bundle of its own.
func run(t *testing.T, afterEnd bool, stdin string, work func(context.Context, Call) error) (code int, stderr string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the state directory is a mount: needs root")
	}
	dir := filepath.Join(t.TempDir(), "state")
	t.Cleanup(func() {
		if err := statedir.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	h := Hook{Name: "candor-test", AfterEnd: afterEnd, Run: work}
	code = h.Main([]string{"--state-dir", dir, "--config", config}, strings.NewReader(stdin), &out, &errs)
	if out.Len() != 0 {
		t.Errorf("standard output is the runtime's: %q", &out)
	}
	if n := strings.Count(errs.String(), "\n"); n > 1 {
		t.Errorf("%d lines on standard error: %q", n, &errs)
	}
	return code, errs.String()
}

func bundle(t *testing.T, spec string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func fail(context.Context, Call) error { return errors.New("no such luck\nat all") }

func TestFailureIsOneLineAndAnExitStatus(t *testing.T) {
	code, stderr := run(t, false, `{"id":"c1","pid":1,"bundle":"`+bundle(t, `{}`)+`"}`, fail)
	if code != 1 || !strings.Contains(stderr, "container c1: no such luck; at all") {
		t.Errorf("exit status %d, %q", code, stderr)
	}
}

// A pool may let the network hook wait, and no other one.
func TestDeadlineGrowsByTheWaitOfThePool(t *testing.T) {
	p := &policy.Policy{Pools: map[string]policy.Pool{"late": {Wait: 7 * time.Second}}}
	for annotation, want := range map[string]time.Duration{
		"pool=late,mac=52:54:00:00:00:01": deadline + 7*time.Second, "pool=other": deadline, "nonsense": deadline,
	} {
		call := Call{Policy: p}
		call.Container.Spec.Annotations = map[string]string{request.KeyNIC: annotation}
		if got := (Hook{Waits: true}).deadline(call); got != want {
			t.Errorf("%s: %s, want %s", annotation, got, want)
		}
		if got := (Hook{}).deadline(call); got != deadline {
			t.Errorf("%s: a hook that does not wait has %s", annotation, got)
		}
	}
}

// runc has removed the container when poststop runs, and would report a delete
// that failed and can never be tried again.
func TestFailureAfterTheEndIsToldButIsNone(t *testing.T) {
	code, stderr := run(t, true, `{"id":"c1","bundle":"/gone"}`, fail)
	if code != 0 || !strings.Contains(stderr, "no such luck") {
		t.Errorf("exit status %d, %q", code, stderr)
	}
}

// A policy that cannot be used says for what and for whom, and the journal too.
func TestBrokenPolicyNamesWhatWasAskedAndByWhom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a policy has to be root's: needs root")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(config, 0o666); err != nil {
		t.Fatal(err)
	}
	stdin := `{"id":"c1","pid":1,"bundle":"` + bundle(t, `{"annotations":{"candor.dev/nic":"pool=cloud,mac=52:54:00:00:00:01","candor.dev/egress-limit":"50M"}}`) + `"}`
	h := Hook{Name: "candor-test", Operation: counters.Attach, Run: func(context.Context, Call) error {
		t.Error("the hook did its work")
		return nil
	}}
	var out, errs bytes.Buffer
	code := h.Main([]string{"--state-dir", dir, "--config", config, "--caller", "containerd:default"}, strings.NewReader(stdin), &out, &errs)
	if code != 1 || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("exit status %d, %q", code, &errs)
	}
	for _, want := range []string{"container c1", "pool cloud", "50M", "containerd:default", config, "0666"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q does not say %s", &errs, want)
		}
	}
	if c, err := counters.Read(dir); err != nil || c.Failures[counters.Attach][counters.Policy] != 1 {
		t.Errorf("counted %+v, %v", c, err)
	}
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		return // it went there
	}
	if b, err := os.ReadFile(filepath.Join(dir, "candor.log")); err != nil || !strings.Contains(string(b), "pool cloud") {
		t.Errorf("candor.log: %q, %v", b, err)
	}
}

func TestBadInputNeverReachesTheWork(t *testing.T) {
	link := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(link, "config.json")); err != nil {
		t.Fatal(err)
	}
	open := bundle(t, `{}`)
	if err := os.Chmod(filepath.Join(open, "config.json"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, stdin := range map[string]string{
		"garbage":              "garbage",
		"nothing":              "",
		"too much":             strings.Repeat(" ", maxStateBytes) + "{}",
		"no id":                `{"pid":1,"bundle":"/b"}`,
		"id that is a path":    `{"id":"../../etc","pid":1,"bundle":"/b"}`,
		"relative bundle":      `{"id":"c1","pid":1,"bundle":"b"}`,
		"no pid":               `{"id":"c1","bundle":"` + bundle(t, `{}`) + `"}`,
		"no config.json":       `{"id":"c1","pid":1,"bundle":"/nonexistent"}`,
		"linked config.json":   `{"id":"c1","pid":1,"bundle":"` + link + `"}`,
		"writable config.json": `{"id":"c1","pid":1,"bundle":"` + open + `"}`,
		"broken config.json":   `{"id":"c1","pid":1,"bundle":"` + bundle(t, `{"annotations":`) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := run(t, false, stdin, func(context.Context, Call) error {
				t.Error("the hook did its work")
				return nil
			})
			if code != 1 || stderr == "" {
				t.Errorf("exit status %d, %q", code, stderr)
			}
		})
	}
}
