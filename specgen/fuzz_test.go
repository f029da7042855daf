package specgen

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzPatch holds the promises of the package for whatever bytes come in: no
// panic, one patch is as good as two, and nothing that is not candor's changes.
func FuzzPatch(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		`{}`, `{"linux":null,"hooks":null}`, ` { "annotations" : { "candor.dev/egress-limit" : "1M" } } `,
		`{"annotations":{"candor.dev/egress-limit":"1M"},"hooks":{"createRuntime":[{"path":"a"} ],"x":[1,2.50,{"y":"z"}]}}`,
		`{"linux":{"namespaces":[],"timeOffsets":{}},"mounts":[]}`, `[]`, `{"a":1}x`, `{"\u0061":1,"a":2}`, `{"hooks":{"poststop":[]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		out, changes, err := Patch(in, testOptions())
		if !bytes.Equal(in, before) {
			t.Fatal("the input was written to")
		}
		if err != nil {
			return
		}
		if !changes.Any() {
			if !bytes.Equal(in, out) {
				t.Fatalf("no changes, but %q became %q", in, out)
			}
			return
		}
		again, changes, err := Patch(out, testOptions())
		if err != nil || changes.Any() || !bytes.Equal(out, again) {
			t.Fatalf("patched twice: %+v, error %v\n%s\n%s", changes, err, out, again)
		}
		old, now := object(t, in), object(t, out)
		sameBut(t, "spec", old, now, "hooks", "linux")
		sameBut(t, "linux", object(t, old["linux"]), object(t, now["linux"]), "namespaces", "timeOffsets")
		oldHooks, newHooks := object(t, old["hooks"]), object(t, now["hooks"])
		sameBut(t, "hooks", oldHooks, newHooks, stageCreateRuntime, stagePoststop)
		for _, stage := range []string{stageCreateRuntime, stagePoststop} {
			prefix(t, stage, oldHooks[stage], newHooks[stage])
		}
		prefix(t, "namespaces", object(t, old["linux"])["namespaces"], object(t, now["linux"])["namespaces"])
	})
}

func object(t *testing.T, b json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return m
}

func sameBut(t *testing.T, name string, old, now map[string]json.RawMessage, but ...string) {
	skip := map[string]bool{}
	for _, key := range but {
		skip[key] = true
	}
	for key, value := range old {
		if !skip[key] && !bytes.Equal(value, now[key]) {
			t.Fatalf("%s: %q was %s, is %s", name, key, value, now[key])
		}
	}
	for key := range now {
		if _, was := old[key]; !was && !skip[key] {
			t.Fatalf("%s: %q is new", name, key)
		}
	}
}

// prefix checks that the elements of the old array stand at the head of the new
// one, byte for byte.
func prefix(t *testing.T, name string, old, now json.RawMessage) {
	var was, is []json.RawMessage
	if len(old) > 0 {
		if err := json.Unmarshal(old, &was); err != nil {
			t.Fatal(err)
		}
	}
	if len(now) > 0 {
		if err := json.Unmarshal(now, &is); err != nil {
			t.Fatal(err)
		}
	}
	if len(is) < len(was) {
		t.Fatalf("%s: %d elements became %d", name, len(was), len(is))
	}
	for i := range was {
		if !bytes.Equal(was[i], is[i]) {
			t.Fatalf("%s: element %d was %s, is %s", name, i, was[i], is[i])
		}
	}
}
