package prepare

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"candor.dev/candor/counters"
	"candor.dev/candor/policy"
	"candor.dev/candor/specgen"
	"candor.dev/candor/statedir"
)

// node is a policy, hooks and a bundle, each where a test wants them.
type node struct {
	config, bundle, state, bin string
}

const plainSpec = `{"ociVersion":"1.3.0","mounts":[{"destination":"/proc","type":"proc"}],` +
	`"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"network"}],"maskedPaths":["/proc/kcore"]},"annotations":{ANNOTATIONS}}`

func newNode(t *testing.T, annotations string) node {
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
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	n := node{
		config: filepath.Join(dir, "config.toml"), bundle: filepath.Join(dir, "bundle"),
		state: filepath.Join(dir, "state"), bin: filepath.Join(dir, "bin"),
	}
	for _, d := range []string{n.bundle, n.bin} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, hook := range specgen.Hooks() {
		write(t, filepath.Join(n.bin, hook), "", 0o755)
	}
	n.policy(t, `
[pools.cloud]
kind = "hostnic"
macs = ["52:54:*"]
allow = ["containerd:default"]
[egress]
max_limit = "1G"
`)
	n.spec(t, annotations)
	t.Cleanup(func() {
		if err := statedir.Remove(n.state); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n node) policy(t *testing.T, text string) {
	t.Helper()
	write(t, n.config, "state_dir = \""+n.state+"\"\nbin_dir = \""+n.bin+"\"\n"+text, 0o644)
}

func (n node) spec(t *testing.T, annotations string) {
	t.Helper()
	write(t, filepath.Join(n.bundle, "config.json"), strings.Replace(plainSpec, "ANNOTATIONS", annotations, 1), 0o600)
}

func (n node) read(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (n node) container(caller string) Container {
	return Container{Bundle: n.bundle, ConfigPath: n.config, Caller: func(map[string]string) string { return caller }}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

const (
	noView = `"candor.dev/resource-view":"off"`
	oneNIC = `"candor.dev/nic":"pool=cloud,mac=52:54:00:00:00:01",` + noView
)

// The network hook of a container whose pool waits for its NIC may take longer.
func TestWaitOfThePoolIsInTheHooksTimeout(t *testing.T) {
	n := newNode(t, `"candor.dev/nic":"pool=late,mac=52:54:00:00:00:01"`)
	n.policy(t, "[pools.late]\nkind = 'hostnic'\nmacs = ['52:54:*']\nallow = ['containerd:default']\nwait = '2.5s'\n")
	if _, err := n.container("containerd:default").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Hooks map[string][]struct {
			Path    string
			Timeout int
		}
	}
	if err := json.Unmarshal([]byte(n.read(t)), &spec); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, hooks := range spec.Hooks {
		for _, h := range hooks {
			got[filepath.Base(h.Path)] = h.Timeout
		}
	}
	want := map[string]int{specgen.HookNet: 13, specgen.HookView: 10, specgen.HookPoststop: 10}
	if !maps.Equal(got, want) {
		t.Errorf("timeouts %v, want %v", got, want)
	}
}

func TestRunPatchesTheBundle(t *testing.T) {
	n := newNode(t, oneNIC)
	done, err := n.container("containerd:default").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(done.Changes.Hooks, " "); got != specgen.HookNet+" "+specgen.HookPoststop || done.StateDir != n.state {
		t.Errorf("hooks %q, state in %q", got, done.StateDir)
	}
	want := `"args":["` + n.bin + `/candor-prestart-net","--config","` + n.config + `","--state-dir","` + n.state + `","--late","--caller","containerd:default"]`
	if got := n.read(t); !strings.Contains(got, want) {
		t.Errorf("%s\nhas no %s", got, want)
	}
}

func TestRunLeavesAloneWhatAsksForNothing(t *testing.T) {
	n := newNode(t, noView)
	before, err := os.Stat(filepath.Join(n.bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.container("").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(n.bundle, "config.json"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was rewritten (error %v)", err)
	}
}

func TestRunAsksForTimeNamespacesOnlyWithTheView(t *testing.T) {
	for annotations, want := range map[string]int{``: 1, noView: 0} {
		n := newNode(t, annotations)
		asked := 0
		c := n.container("containerd:default")
		c.TimeNamespace = func(_ context.Context, stateDir string) bool {
			asked++
			return stateDir == n.state
		}
		done, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if asked != want || done.Changes.TimeNamespace != (want == 1) {
			t.Errorf("%q: asked %d times, changes %+v", annotations, asked, done.Changes)
		}
		// There is no candord beside these hooks: that is the hook's to judge.
		if done.Changes.View != (len(done.Warnings) == 1) {
			t.Errorf("%q: warnings %q", annotations, done.Warnings)
		}
	}
}

func TestRunRefusesInOneLineAndChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name, annotations, caller string
		change                    func(*testing.T, node)
		kind                      Kind
		want                      []string
	}{
		{name: "grammar", annotations: `"candor.dev/egress-limit":"10Z"`, kind: Invalid, want: []string{"egress-limit", "10Z"}},
		{name: "pool unknown", annotations: strings.Replace(oneNIC, "cloud", "fast", 1), kind: Denied, want: []string{"fast", "containerd:default", "config.toml"}},
		{name: "caller not allowed", annotations: oneNIC, caller: "docker", kind: Denied, want: []string{"cloud", "docker", "config.toml"}},
		{name: "limit above the node's", annotations: `"candor.dev/egress-limit":"2G"`, kind: Denied, want: []string{"2G", "1G"}},
		{name: "no config file", annotations: oneNIC, change: func(t *testing.T, n node) { remove(t, n.config) }, kind: Precondition, want: []string{"cloud", "config.toml"}},
		{
			name: "config that others may write", annotations: oneNIC, kind: Precondition, want: []string{"config.toml", "0666"},
			change: func(t *testing.T, n node) {
				if err := os.Chmod(n.config, 0o666); err != nil {
					t.Fatal(err)
				}
			},
		},
		{name: "config that is broken", annotations: oneNIC, change: func(t *testing.T, n node) { n.policy(t, "x") }, kind: Precondition, want: []string{"config.toml"}},
		{name: "a hook is missing", annotations: oneNIC, change: func(t *testing.T, n node) { remove(t, filepath.Join(n.bin, specgen.HookPoststop)) }, kind: Precondition, want: []string{"candor-poststop", "bin_dir"}},
		{name: "spec is broken", change: func(t *testing.T, n node) { write(t, filepath.Join(n.bundle, "config.json"), "{", 0o600) }, kind: Invalid, want: []string{"spec"}},
		{name: "no spec", change: func(t *testing.T, n node) { remove(t, filepath.Join(n.bundle, "config.json")) }, kind: Invalid, want: []string{"config.json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, c.annotations)
			if c.change != nil {
				c.change(t, n)
			}
			before, _ := os.ReadFile(filepath.Join(n.bundle, "config.json"))
			if c.caller == "" {
				c.caller = "containerd:default"
			}
			_, err := n.container(c.caller).Run(t.Context())
			var e *Error
			if !errors.As(err, &e) || e.Kind != c.kind {
				t.Fatalf("error %v (%T)", err, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
			if after, _ := os.ReadFile(filepath.Join(n.bundle, "config.json")); string(before) != string(after) {
				t.Error("the spec was changed")
			}
		})
	}
}

// The front door refuses before a hook is come to, so that it counts, too.
func TestRefusalsAreCounted(t *testing.T) {
	n := newNode(t, oneNIC)
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ annotations, caller string }{
		{oneNIC, "docker"}, {oneNIC, "docker"}, {`"candor.dev/egress-limit":"2G"`, "docker"},
	} {
		n.spec(t, c.annotations)
		if _, err := n.container(c.caller).Run(t.Context()); err == nil {
			t.Errorf("%s was granted to %s", c.annotations, c.caller)
		}
	}
	got, err := counters.Read(n.state)
	if err != nil {
		t.Fatal(err)
	}
	want := map[counters.Operation]map[counters.Reason]uint64{
		counters.Attach: {counters.Denied: 2}, counters.Limit: {counters.Denied: 1},
	}
	if !reflect.DeepEqual(got.Failures, want) {
		t.Errorf("counted %v, want %v", got.Failures, want)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenPolicyDoesNotStopWhoAsksForNothing(t *testing.T) {
	n := newNode(t, "")
	n.policy(t, "broken")
	done, err := n.container("containerd:default").Run(t.Context())
	if err != nil || len(done.Warnings) != 1 || done.Changes.Any() {
		t.Errorf("done %+v, error %v", done, err)
	}
	c := n.container("containerd:default")
	c.ConfigPath = "config.toml"
	if done, err := c.Run(t.Context()); err != nil || len(done.Warnings) != 1 {
		t.Errorf("relative path: done %+v, error %v", done, err)
	}
}

func TestPodMembersNeedNoGrant(t *testing.T) {
	n := newNode(t, `"io.kubernetes.cri.container-type":"container",`+strings.Replace(oneNIC, "cloud", "fast", 1))
	done, err := n.container("kubernetes:a").Run(t.Context())
	if err != nil || done.Changes.Any() {
		t.Errorf("done %+v, error %v", done.Changes, err)
	}
}

func TestConfigPath(t *testing.T) {
	t.Setenv("CANDOR_CONFIG", "")
	if got := ConfigPath(""); got != policy.DefaultPath {
		t.Errorf("default %q", got)
	}
	t.Setenv("CANDOR_CONFIG", "/env.toml")
	if got := ConfigPath(""); got != "/env.toml" {
		t.Errorf("from the environment %q", got)
	}
	if got := ConfigPath("/option.toml"); got != "/option.toml" {
		t.Errorf("option %q", got)
	}
}

func TestCaller(t *testing.T) {
	t.Parallel()
	pod := func(namespace string) map[string]string {
		return map[string]string{criContainerType: "container", criSandboxNamespace: namespace}
	}
	for _, c := range []struct {
		namespace   string
		annotations map[string]string
		want        string
	}{
		{"default", nil, "containerd:default"},
		{"moby", pod("team-a"), "containerd:moby"},
		{"k8s.io", pod("team-a"), "kubernetes:team-a"},
		{"k8s.io", nil, "containerd:k8s.io"},
		{"k8s.io", map[string]string{criSandboxNamespace: "team-a"}, "containerd:k8s.io"},
		{"k8s.io", pod(""), "containerd:k8s.io"},
		{"k8s.io", pod("team*"), "containerd:k8s.io"},
		{"k8s.io", pod("a/b"), "containerd:k8s.io"},
		{"k8s.io", pod("-a"), "containerd:k8s.io"},
		{"k8s.io", pod(strings.Repeat("a", 64)), "containerd:k8s.io"},
	} {
		if got := Caller(c.namespace, c.annotations); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.namespace, c.annotations, got, c.want)
		}
	}
}

func TestHooksComeFromOneDirectory(t *testing.T) {
	t.Parallel()
	empty, half, whole := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(half, specgen.HookNet), "", 0o755)
	for _, hook := range specgen.Hooks() {
		write(t, filepath.Join(whole, hook), "", 0o755)
	}
	if dir, err := findHooks(empty, whole); err != nil || dir != whole {
		t.Errorf("dir %s, error %v", dir, err)
	}
	if _, err := findHooks(half, whole); err == nil || !strings.Contains(err.Error(), specgen.HookView+", "+specgen.HookPoststop) {
		t.Errorf("half an installation: error %v", err)
	}
	write(t, filepath.Join(empty, specgen.HookNet), "", 0o644)
	if _, err := findHooks(empty); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("not executable: error %v", err)
	}
}

func TestLateIsNothingForAContainerThatHoldsNothing(t *testing.T) {
	n := newNode(t, "")
	if err := Late(t.Context(), "test", n.state, "c1", n.bundle); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory was made (%v)", err)
	}
	if err := Late(t.Context(), "test", n.state, "c1", n.bundle+"/gone"); err == nil {
		t.Error("a bundle that is gone: no error")
	}
}
