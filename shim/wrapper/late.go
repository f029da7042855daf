package wrapper

import (
	"context"
	"fmt"
	"path/filepath"

	"candor.dev/candor/policy"
	"candor.dev/candor/shim/prepare"
	"candor.dev/candor/shim/runcargs"
)

// late shapes the container's network when it came after create. Almost every
// container is sorted out by one look into the ledger's directory: none of its
// records has the id.
func (w Wrapper) late(ctx context.Context, own ownFlags, command runcargs.Command) error {
	stateDir := policy.DefaultStateDir
	p, err := policy.Load(w.configPath(own))
	if err == nil {
		stateDir = p.StateDir
	}
	records, err := filepath.Glob(filepath.Join(escape(stateDir), "ledger", escape(command.ID)+"-*.json"))
	if err != nil || len(records) == 0 {
		return nil
	}
	bundle, err := bundleOf(rootDir(command.Root), command.ID)
	if err != nil {
		return fmt.Errorf("container %s: which bundle is it from: %w", command.ID, err)
	}
	return prepare.Late(ctx, name, stateDir, command.ID, bundle)
}

// escape takes the meaning from characters that a glob would give one.
func escape(s string) string {
	var b []byte
	for i := range len(s) {
		switch s[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}
