package prepare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"candor.dev/candor/policy"
	"candor.dev/candor/specgen"
	"golang.org/x/sys/unix"
)

// libexecDir is where a package of a distribution puts the hooks.
const libexecDir = "/usr/libexec/candor"

// HookDir returns the directory of the hooks and of candord: the policy's bin_dir,
// else that of the running program, else /usr/libexec/candor. With an error it
// returns the directory in which they should be.
func HookDir(p *policy.Policy) (string, error) {
	if p.BinDir != "" {
		if missing := missingHooks(p.BinDir); len(missing) > 0 {
			return p.BinDir, fmt.Errorf("bin_dir of %s: no %s in %s", p.Path, strings.Join(missing, ", "), p.BinDir)
		}
		return p.BinDir, nil
	}
	// Links are resolved by the kernel: a shim that is linked into
	// /usr/local/bin finds its hooks where it lies itself.
	self, err := os.Executable()
	if err != nil {
		return libexecDir, fmt.Errorf("find the hooks: %w", err)
	}
	return findHooks(filepath.Dir(self), libexecDir)
}

// findHooks returns the first directory that holds the network hook. All hooks
// have to be in it: two installations must not be mixed.
func findHooks(dirs ...string) (string, error) {
	for _, dir := range dirs {
		if !executable(filepath.Join(dir, specgen.HookNet)) {
			continue
		}
		if missing := missingHooks(dir); len(missing) > 0 {
			return dir, fmt.Errorf("candor is not installed whole: no %s in %s", strings.Join(missing, ", "), dir)
		}
		return dir, nil
	}
	return libexecDir, fmt.Errorf("candor's hooks are not installed: no %s in %s (install them there, or set bin_dir)",
		specgen.HookNet, strings.Join(dirs, " or "))
}

func missingHooks(dir string) (missing []string) {
	for _, name := range specgen.Hooks() {
		if !executable(filepath.Join(dir, name)) {
			missing = append(missing, name)
		}
	}
	return missing
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && !errors.Is(unix.Access(path, unix.X_OK), unix.EACCES)
}
