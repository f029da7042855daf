package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxFile is the size of the largest file that is read, in bytes.
const maxFile = 1 << 20

// readFile reads a file that only its owner can have written. found is false
// when there is none.
func readFile(path string, owner uint32) (data []byte, found bool, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	// The file may be a link, as in a store of configurations (Nix, a mounted
	// ConfigMap). The directory of the link counts then as much as its target's.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, false, fmt.Errorf("config %s: %w", path, err)
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(real)} {
		if err := checkDir(dir, owner); err != nil {
			return nil, false, fmt.Errorf("config %s: %w", path, err)
		}
	}
	// Without O_NONBLOCK, a pipe in the file's place would hang the container.
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, fmt.Errorf("config %s: %w", path, err)
	}
	defer f.Close()
	if err := checkFile(f, owner); err != nil {
		return nil, false, fmt.Errorf("config %s: %w", path, err)
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, false, fmt.Errorf("config %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, false, fmt.Errorf("config %s: larger than 1 MiB", path)
	}
	return data, true, nil
}

func checkFile(f *os.File, owner uint32) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if err := checkOwner(info, owner); err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("mode %04o lets others than its owner write it (chmod go-w)", info.Mode().Perm())
	}
	return nil
}

// checkDir refuses a directory in which others could put another file in the
// place of the one that is meant. In a sticky one they cannot.
func checkDir(dir string, owner uint32) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := checkOwner(info, owner); err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("directory %s: mode %04o lets others than its owner replace files in it (chmod go-w)", dir, info.Mode().Perm())
	}
	return nil
}

// checkOwner takes root's files, and those of the given owner.
func checkOwner(info fs.FileInfo, owner uint32) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("owner unknown")
	}
	if stat.Uid != owner && stat.Uid != 0 {
		return fmt.Errorf("owned by uid %d, not by root", stat.Uid)
	}
	return nil
}

// listDropIns returns the drop-ins in the order of their names. What does not
// end in .toml is none (packages leave .dpkg-old there), nor is a hidden file
// (editors leave .#name.toml there, a link to nowhere).
func listDropIns(dir string, owner uint32) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := checkDir(d, owner); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}
