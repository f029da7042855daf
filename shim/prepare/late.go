package prepare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"candor.dev/candor/journal"
	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/statedir"
)

// Late shapes the network of a container whose engine makes it between create
// and start. component names the front door in the journal. For a container
// that holds nothing it is one stat of a file.
func Late(ctx context.Context, component, stateDir, id, bundle string) error {
	// The hooks know the bundle by the path that runc has from getcwd(2).
	bundle, err := filepath.EvalSymlinks(bundle)
	if err != nil {
		return &Error{Precondition, fmt.Errorf("find the bundle: %w", err)}
	}
	err = statedir.InHostMounts(func() error {
		record := filepath.Join(stateDir, "ledger", ledger.Key(id, bundle)+".json")
		if _, err := os.Lstat(record); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		node, err := lifecycle.OpenNode(stateDir, journal.New(stateDir, component))
		if err != nil {
			return err
		}
		return node.Late(ctx, id, bundle)
	})
	if err != nil {
		return &Error{Precondition, err}
	}
	return nil
}
