//go:build amd64

package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs are the paths of what is killed.
type programs struct{ attach, poststop, candor string }

// buildPrograms builds them as `make build` does. Where there is no Go, as in the
// test guest, it takes those in bin/.
func buildPrograms(t *testing.T) programs {
	t.Helper()
	dir := "../../bin"
	if _, err := exec.LookPath("go"); err == nil {
		dir = t.TempDir()
		for name, source := range map[string]string{
			"candor-prestart-net": "hooks/prestart-net", "candor-poststop": "hooks/poststop", "candor": "cmd/candor",
		} {
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "candor.dev/candor/"+source)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build %s: %v: %s", name, err, out)
			}
		}
	}
	p := programs{attach: filepath.Join(dir, "candor-prestart-net"), poststop: filepath.Join(dir, "candor-poststop"), candor: filepath.Join(dir, "candor")}
	for _, path := range []string{p.attach, p.poststop, p.candor} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%v: make build", err)
		}
	}
	return p
}
