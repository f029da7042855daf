package specgen

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testOptions() Options {
	return Options{
		HookDir: "/usr/libexec/candor", Caller: "containerd:default",
		ResourceView: true, TimeNamespace: true, Uptime: 12345*time.Second + 900*time.Millisecond,
	}
}

func TestPatchMatchesGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := testOptions()
			if strings.HasPrefix(filepath.Base(file), "cri-") {
				o.Caller, o.ConfigPath = "kubernetes:team-a", "/etc/candor/other.toml"
				o.StateDir = "/run/candor"
			}
			got, changes, err := Patch(in, o)
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(got) {
				t.Fatal("the result is not JSON")
			}
			golden := strings.TrimSuffix(file, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("changes %+v, got\n%s\nwant\n%s", changes, got, want)
			}
			again, changes, err := Patch(got, o)
			if err != nil || changes.Any() || !bytes.Equal(again, got) {
				t.Errorf("a second patch changed %+v (error %v)", changes, err)
			}
		})
	}
}

// spec returns a spec with the view's conditions met, changed as wanted.
func spec(t *testing.T, change func(m map[string]any)) []byte {
	t.Helper()
	m := map[string]any{
		"ociVersion": "1.3.0",
		"mounts":     []any{map[string]any{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{
			"namespaces":  []any{map[string]any{"type": "pid"}, map[string]any{"type": "mount"}, map[string]any{"type": "network"}},
			"maskedPaths": []any{"/proc/kcore"},
		},
	}
	if change != nil {
		change(m)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func annotations(pairs ...string) func(map[string]any) {
	return func(m map[string]any) {
		a := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			a[pairs[i]] = pairs[i+1]
		}
		m["annotations"] = a
	}
}

func namespaces(list ...string) func(map[string]any) {
	return func(m map[string]any) {
		var all []any
		for _, n := range list {
			kind, path, _ := strings.Cut(n, "=")
			all = append(all, map[string]any{"type": kind, "path": path})
		}
		m["linux"].(map[string]any)["namespaces"] = all
	}
}

func TestHooksFollowRequestAndPlace(t *testing.T) {
	t.Parallel()
	const nic = "pool=cloud,mac=52:54:00:00:00:01"
	const all = HookNet + " " + HookView + " " + HookPoststop
	const view = HookView + " " + HookPoststop
	for _, c := range []struct {
		name    string
		change  func(map[string]any)
		options func(*Options)
		hooks   string
		time    bool
		noView  string
	}{
		{name: "nothing asked, view is the node's default", hooks: view, time: true},
		{name: "nothing asked, node has the view off", options: func(o *Options) { o.ResourceView = false }},
		{name: "view asked for, node has it off", change: annotations("candor.dev/resource-view", "on"), options: func(o *Options) { o.ResourceView = false }, hooks: view, time: true},
		{name: "view declined", change: annotations("candor.dev/resource-view", "off")},
		{name: "nic", change: annotations("candor.dev/nic", nic), hooks: all, time: true},
		{name: "limit without view", change: annotations("candor.dev/egress-limit", "10M", "candor.dev/resource-view", "off"), hooks: HookNet + " " + HookPoststop},
		{name: "others' annotations", change: annotations("example.org/nic", nic), hooks: view, time: true},
		{name: "runtime without time namespaces", options: func(o *Options) { o.TimeNamespace = false }, hooks: view},
		{name: "uptime unknown", options: func(o *Options) { o.Uptime = 0 }, hooks: view},
		{name: "restore", change: annotations("candor.dev/nic", nic), options: func(o *Options) { o.Restore = true }, hooks: HookNet + " " + HookPoststop, noView: "checkpoint"},
		{name: "sandbox", change: annotations(criContainerType, "sandbox", "candor.dev/egress-limit", "10M"), hooks: HookNet + " " + HookPoststop, noView: "sandbox"},
		{name: "sandbox that asks for nothing", change: annotations(criContainerType, "sandbox"), noView: "sandbox"},
		{name: "cri-o's sandbox", change: annotations(crioContainerType, "sandbox"), noView: "sandbox"},
		{name: "pod member with the pod's nic", change: annotations(criContainerType, "container", "candor.dev/nic", nic), hooks: view, time: true},
		{name: "pod member with the pod's limit", change: annotations(criContainerType, "container", "candor.dev/egress-limit", "10M"), hooks: all, time: true},
		{name: "pod member with the limit and no view", change: annotations(criContainerType, "container", "candor.dev/egress-limit", "10M", "candor.dev/resource-view", "off"), hooks: HookNet},
		{name: "host pid namespace", change: namespaces("mount"), noView: "pid namespace"},
		{name: "host pid namespace by path", change: namespaces("mount", "pid=/proc/1/ns/pid"), noView: "pid namespace"},
		{name: "pid namespace of the pod", change: namespaces("mount", "pid=/proc/4711/ns/pid"), hooks: view, time: true},
		{name: "no mount namespace", change: namespaces("pid"), noView: "mount namespace"},
		{name: "another's mount namespace", change: namespaces("pid", "mount=/proc/4711/ns/mnt"), noView: "mount namespace"},
		{name: "user namespace, masked", change: namespaces("pid", "mount", "user"), hooks: view, time: true},
		{name: "user namespace, unmasked", change: func(m map[string]any) {
			namespaces("pid", "mount", "user")(m)
			delete(m["linux"].(map[string]any), "maskedPaths")
		}, noView: "nested engine"},
		{name: "the host's /proc", change: func(m map[string]any) {
			m["mounts"] = []any{map[string]any{"destination": "/proc", "type": "bind", "source": "/proc", "options": []any{"rbind"}}}
		}, noView: "procfs"},
		{name: "a bind that says proc", change: func(m map[string]any) {
			m["mounts"] = []any{map[string]any{"destination": "proc", "type": "proc", "source": "/proc", "options": []any{"rbind"}}}
		}, noView: "procfs"},
		{name: "no /proc", change: func(m map[string]any) { delete(m, "mounts") }, noView: "procfs"},
		{name: "time namespace there already", change: namespaces("pid", "mount", "time"), hooks: view},
		{name: "offsets there already", change: func(m map[string]any) {
			m["linux"].(map[string]any)["timeOffsets"] = map[string]any{"monotonic": map[string]any{"secs": 5}}
		}, hooks: view},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := spec(t, c.change)
			o := testOptions()
			if c.options != nil {
				c.options(&o)
			}
			got, changes, err := Patch(in, o)
			if err != nil {
				t.Fatal(err)
			}
			if hooks := strings.Join(changes.Hooks, " "); hooks != c.hooks {
				t.Errorf("hooks %q, want %q", hooks, c.hooks)
			}
			if changes.TimeNamespace != c.time || changes.View != strings.Contains(c.hooks, HookView) {
				t.Errorf("changes %+v", changes)
			}
			if (c.noView == "") != (changes.NoView == "") || !strings.Contains(changes.NoView, c.noView) {
				t.Errorf("no view because %q, want %q", changes.NoView, c.noView)
			}
			if !changes.Any() && (len(got) != len(in) || &got[0] != &in[0]) {
				t.Error("nothing to do, and yet other bytes came back")
			}
			if c.time && !bytes.Contains(got, []byte(`"timeOffsets":{"boottime":{"secs":-12345,"nanosecs":0}}`)) {
				t.Errorf("no offset in %s", got)
			}
			s, err := Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			if s.HasView() != changes.View {
				t.Errorf("HasView is %v", s.HasView())
			}
		})
	}
}

func TestOwnHooksAreNotDoubled(t *testing.T) {
	t.Parallel()
	withHook := func(stage string, args ...any) func(map[string]any) {
		return func(m map[string]any) {
			m["hooks"] = map[string]any{stage: []any{map[string]any{"path": "/elsewhere/" + HookView, "args": args}}}
		}
	}
	for _, c := range []struct {
		name   string
		change func(map[string]any)
		hooks  string
	}{
		{"by a hooks.d file", withHook(stageCreateRuntime, HookView, "--caller", "podman"), HookPoststop},
		{"under prestart", withHook(stagePrestart, HookView, "--caller=podman", "--config=/x", "--state-dir", "/y"), HookPoststop},
		{"without arguments", withHook(stageCreateRuntime), HookPoststop},
		{"another program of that name", withHook(stageCreateRuntime, HookView, "--explode"), HookView + " " + HookPoststop},
		{"in a stage that does not count", withHook("poststart", HookView), HookView + " " + HookPoststop},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, changes, err := Patch(spec(t, c.change), testOptions())
			if got := strings.Join(changes.Hooks, " "); err != nil || got != c.hooks {
				t.Errorf("added %q, want %q (error %v)", got, c.hooks, err)
			}
		})
	}
}

func TestSecondFrontDoorAddsNothing(t *testing.T) {
	t.Parallel()
	once, _, err := Patch(spec(t, annotations("candor.dev/egress-limit", "10M")), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	wrapper := Options{HookDir: "/opt/candor", Caller: "runc", ConfigPath: "/x.toml", ResourceView: true, TimeNamespace: true, Uptime: 12345 * time.Second}
	twice, changes, err := Patch(once, wrapper)
	if err != nil || changes.Any() || !bytes.Equal(once, twice) {
		t.Errorf("changes %+v, error %v", changes, err)
	}
	if !changes.View {
		t.Error("the view of the first patch went unseen")
	}
}

func TestBundleThatIsUsedAgainGetsTheNewOffset(t *testing.T) {
	t.Parallel()
	first, _, err := Patch(spec(t, nil), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	later := testOptions()
	later.Uptime = 30 * time.Second // after a reboot
	second, changes, err := Patch(first, later)
	if err != nil || !changes.TimeNamespace || len(changes.Hooks) > 0 {
		t.Fatalf("changes %+v, error %v", changes, err)
	}
	fresh, _, err := Patch(spec(t, nil), later)
	if err != nil || !bytes.Equal(second, fresh) {
		t.Errorf("got %s, want %s (error %v)", second, fresh, err)
	}

	// The same offsets, but of somebody else.
	for _, offsets := range []string{
		`{"boottime":{"secs":-5}}`, `{"boottime":{"secs":-5,"nanosecs":1}}`, `{"boottime":{"secs":5,"nanosecs":0}}`,
		`{"boottime": {"secs":-5,"nanosecs":0}}`, `{"monotonic":{"secs":-5,"nanosecs":0}}`,
	} {
		in := bytes.Replace(first, []byte(`{"boottime":{"secs":-12345,"nanosecs":0}}`), []byte(offsets), 1)
		out, changes, err := Patch(in, later)
		if err != nil || changes.Any() || !bytes.Equal(in, out) {
			t.Errorf("%s: changes %+v, error %v", offsets, changes, err)
		}
	}
}

func TestBadSpecsAndOptionsAreRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	for _, c := range []struct{ name, spec, want string }{
		{"empty", "", "unexpected end"},
		{"not an object", "[]", "not a JSON object"},
		{"trailing garbage", "{} x", "invalid character"},
		{"two documents", "{}{}", "invalid character"},
		{"cut off", `{"hooks":`, "unexpected end"},
		{"key twice", `{"hooks":{},"hooks":{}}`, `"hooks" twice`},
		{"key twice by escape", `{"hooks":{},"hook\u0073":{}}`, `"hooks" twice`},
		{"key twice far below", `{"a":[{"b":{"c":1,"d":2,"c":3}}]}`, `"c" twice`},
		{"key in other case", `{"Hooks":{}}`, `has to be written "hooks"`},
		{"key in other case below", `{"linux":{"nameſpaces":[]}}`, `has to be written "namespaces"`},
		{"hooks are a list", `{"hooks":[]}`, "hooks is not an object"},
		{"stage is an object", `{"hooks":{"createRuntime":{}}}`, "createRuntime"},
		{"linux is a string", `{"linux":"x"}`, "linux is not an object"},
		{"annotation is a number", `{"annotations":{"a":1}}`, "annotations"},
		{"unknown annotation", `{"annotations":{"candor.dev/nicc":"x"}}`, "candor.dev/nic"},
		{"too deep", `{"a":` + deep + `}`, "max depth"},
		{"too large", `{"a":"` + strings.Repeat("x", MaxSpec) + `"}`, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Patch([]byte(c.spec), testOptions())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	for name, change := range map[string]func(*Options){
		"no caller":               func(o *Options) { o.Caller = "" },
		"relative hook directory": func(o *Options) { o.HookDir = "bin" },
	} {
		o := testOptions()
		change(&o)
		if _, _, err := Patch(spec(t, nil), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		o.ResourceView = false
		if _, _, err := Patch(spec(t, nil), o); err != nil {
			t.Errorf("%s, and no hook to add: %v", name, err)
		}
	}
}

func TestWhitespaceAndNullsAreFilledIn(t *testing.T) {
	t.Parallel()
	const rest = `"mounts":[{"destination":"/proc","type":"proc"}],"linux":{"maskedPaths":["x"],"namespaces":[{"type":"pid"},{"type":"mount"}]}`
	for _, in := range []string{
		`{` + rest + `,"hooks":null}`,
		`{"hooks":null,` + rest + `}`,
		`{"hooks":{"createRuntime":null,"poststop":null},` + rest + `}`,
		`{"hooks":{"createRuntime":[],"poststop":[ ]},` + rest + `}`,
		`{"hooks":{"poststop":[]},` + rest + `}`,
		"{\"hooks\": { \n } ," + rest + "\n}\n",
		" \n{" + rest + "}",
	} {
		got, changes, err := Patch([]byte(in), testOptions())
		if err != nil || len(changes.Hooks) != 2 || !changes.TimeNamespace {
			t.Errorf("%s: changes %+v, error %v", in, changes, err)
			continue
		}
		again, changes, err := Patch(got, testOptions())
		if err != nil || changes.Any() || !bytes.Equal(got, again) {
			t.Errorf("%s: became %s, and then %+v, error %v", in, got, changes, err)
		}
	}
}
