package resview

import (
	"fmt"
	"path/filepath"

	"candor.dev/candor/ledger"
)

// Check looks at the files that the record of a running container says are
// bound, and names those that are not the view's, or are of a mount that is dead:
// device is that of the living one, 0 where there is none. It asks no server, so
// that it does not hang on one that is stopped, and changes nothing.
func Check(owner ledger.Process, view ledger.View, device uint64) ([]ledger.Difference, error) {
	mounts, err := viewMounts(owner.PID)
	if err != nil {
		return nil, fmt.Errorf("look at the resource view of init %d: %w", owner.PID, err)
	}
	var found []ledger.Difference
	for _, target := range view.Files {
		// At the one place before pivot_root, at the other after it.
		bound, ok := mounts[target]
		if !ok {
			bound, ok = mounts[filepath.Join(view.Rootfs, target)]
		}
		d := ledger.Difference{Object: "resource view", Expected: target + " bound"}
		switch {
		case !ok:
			d.Actual = "not bound: the container sees the machine's"
		case bound != device:
			d.Actual = "bound from a mount that is dead: candord mends it when it runs"
		default:
			continue
		}
		found = append(found, d)
	}
	return found, nil
}
