package wrapper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"candor.dev/candor/shim/runcfeatures"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// defaultPath is searched when the engine runs the wrapper without PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// featuresTimeout is what asking runc for its features may take.
const featuresTimeout = 3 * time.Second

// findRunc returns the path of runc: what CANDOR_RUNC says, else the first runc
// in PATH that is not the wrapper itself, which may be installed by that name.
func findRunc(configured, path string) (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find runc: %w", err)
	}
	if configured != "" {
		st, err := os.Stat(configured)
		switch {
		case err != nil:
			return "", fmt.Errorf("CANDOR_RUNC: %w", err)
		case !filepath.IsAbs(configured):
			return "", fmt.Errorf("CANDOR_RUNC=%s: not an absolute path", configured)
		case os.SameFile(st, self):
			return "", fmt.Errorf("CANDOR_RUNC=%s: that is candor-runc itself", configured)
		}
		return configured, nil
	}
	if path == "" {
		path = defaultPath
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // the working directory is the container's bundle
		}
		candidate := filepath.Join(dir, "runc")
		st, err := os.Stat(candidate)
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 || os.SameFile(st, self) {
			continue
		}
		return candidate, nil
	}
	return "", fmt.Errorf("no runc in %s: set CANDOR_RUNC to its path", path)
}

// hasTimeNamespace reports whether runtime and kernel have time namespaces. A
// runtime that cannot say is taken for one that has none.
func hasTimeNamespace(ctx context.Context, stateDir, runc string) bool {
	if !runcfeatures.KernelHasTimeNamespaces() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, featuresTimeout)
	defer cancel()
	f, err := runcfeatures.Of(ctx, stateDir, runc, askFeatures)
	return err == nil && f.TimeNamespace
}

func askFeatures(ctx context.Context, runc string) (*features.Features, error) {
	out, err := exec.CommandContext(ctx, runc, "features").Output()
	if err != nil {
		return nil, err
	}
	var f features.Features
	return &f, json.Unmarshal(out, &f)
}

// maxState bounds the runtime's state file of one container, in bytes.
const maxState = 16 << 20

// bundleOf reads from runc's own state which bundle a container was created
// from: `runc start` is told only the id.
func bundleOf(root, id string) (string, error) {
	path := filepath.Join(root, id, "state.json")
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return "", err
	}
	var state struct {
		Config struct {
			Labels []string `json:"labels"`
		} `json:"config"`
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&state); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	for _, label := range state.Config.Labels {
		if dir, found := strings.CutPrefix(label, "bundle="); found {
			return dir, nil
		}
	}
	return "", errors.New(path + " names no bundle")
}

// rootDir is where runc keeps its containers' state.
func rootDir(given string) string {
	if given != "" {
		return given
	}
	return "/run/runc"
}
