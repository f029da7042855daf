package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"candor.dev/candor/specgen"
	"golang.org/x/sys/unix"
)

func TestReplaceKeepsModeAndOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, ConfigFile)
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = 12345
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Spec) != "old" {
		t.Errorf("read %q", c.Spec)
	}
	if err := c.Replace([]byte("new")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "new" {
		t.Errorf("reads %q, error %v", b, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o640 || st.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
		t.Errorf("mode %v, owner %d", st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
	}
	b = make([]byte, 3)
	if _, err := old.Read(b); err != nil || string(b) != "old" {
		t.Errorf("who had the old file open reads %q, error %v", b, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the bundle: %v, error %v", entries, err)
	}
}

func TestReplaceInADirectoryThatIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Replace([]byte("x")); err == nil {
		t.Error("no error")
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"nothing there": func(string) error { return nil },
		"a link":        func(path string) error { return os.Symlink("/etc/hostname", path) },
		"a directory":   func(path string) error { return os.Mkdir(path, 0o700) },
		"a fifo":        func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a large file": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat(" ", specgen.MaxSpec+1)), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := make(filepath.Join(dir, ConfigFile)); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), ConfigFile) {
				t.Errorf("error %v", err)
			}
		})
	}
}
