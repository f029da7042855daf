package specgen

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What runc makes of a patched spec: it ignores a stage or a namespace whose
// name it does not know, and a container would run without NIC, limit or view.
func TestRuncKnowsWhatIsPatchedIn(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var spec struct {
			Hooks configs.Hooks
			Linux struct {
				Namespaces []specs.LinuxNamespace
			}
		}
		if err := json.Unmarshal(b, &spec); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if n := len(spec.Hooks[configs.Poststop]); n == 0 {
			t.Errorf("%s: runc finds no poststop hook", file)
		}
		if n := len(spec.Hooks[configs.CreateRuntime]); n == 0 {
			t.Errorf("%s: runc finds no createRuntime hook", file)
		}
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.TimeNamespace && configs.NsName(configs.NEWTIME) != string(ns.Type) {
				t.Errorf("%s: runc calls the time namespace %q", file, configs.NsName(configs.NEWTIME))
			}
		}
	}
}
