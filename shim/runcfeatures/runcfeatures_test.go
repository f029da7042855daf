package runcfeatures

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"candor.dev/candor/statedir"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

func TestEachBinaryIsAskedOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the state directory is a mount")
	}
	stateDir := filepath.Join(t.TempDir(), "state")
	t.Cleanup(func() {
		if err := statedir.Remove(stateDir); err != nil {
			t.Error(err)
		}
	})
	binary := filepath.Join(t.TempDir(), "runc")
	write := func(text string, age time.Duration) {
		if err := os.WriteFile(binary, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(binary, then, then); err != nil {
			t.Fatal(err)
		}
	}
	write("one", time.Hour)
	asked := 0
	with := func(namespaces ...string) Ask {
		return func(context.Context, string) (*features.Features, error) {
			asked++
			return &features.Features{Linux: &features.Linux{Namespaces: namespaces}}, nil
		}
	}
	for range 2 {
		f, err := Of(t.Context(), stateDir, binary, with("pid", "time"))
		if err != nil || !f.TimeNamespace || asked != 1 {
			t.Errorf("features %+v, error %v, asked %d times", f, err, asked)
		}
	}
	write("two", time.Minute)
	if f, err := Of(t.Context(), stateDir, binary, with("pid")); err != nil || f.TimeNamespace || asked != 2 {
		t.Errorf("after an upgrade: features %+v, error %v, asked %d times", f, err, asked)
	}
}

func TestUnknownRuntimes(t *testing.T) {
	t.Parallel()
	stateDir := filepath.Join(t.TempDir(), "nowhere", "state")
	refuse := func(context.Context, string) (*features.Features, error) { return nil, errors.New("what?") }
	if _, err := Of(t.Context(), stateDir, "/nonexistent", refuse); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if f, err := Of(t.Context(), stateDir, "/bin/true", refuse); err == nil || f.TimeNamespace {
		t.Errorf("features %+v, error %v", f, err)
	}
	empty := func(context.Context, string) (*features.Features, error) { return &features.Features{}, nil }
	if f, err := Of(t.Context(), "relative", "/bin/true", empty); err != nil || f.TimeNamespace {
		t.Errorf("nowhere to keep it: features %+v, error %v", f, err)
	}
}
