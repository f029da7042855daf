package policy

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Each case spoils a good policy in one way.
func TestLoadTrustsOnlyWhatRootAloneCouldWrite(t *testing.T) {
	chmod := func(mode os.FileMode, name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	chown := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if os.Getuid() != 0 {
				t.Skip("needs root to give a file away")
			}
			if err := os.Chown(filepath.Join(dir, name), 1234, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string // part of the error; "" = loaded
	}{
		"nothing is spoilt":            {func(*testing.T, string) {}, ""},
		"file readable by nobody else": {chmod(0o600, "config.toml"), ""},
		"file world-writable":          {chmod(0o646, "config.toml"), "config.toml: mode 0646 lets others than its owner write it"},
		"file group-writable":          {chmod(0o660, "config.toml"), "config.toml: mode 0660 lets others than its owner write it"},
		"file of another":              {chown("config.toml"), "config.toml: owned by uid 1234, not by root"},
		"drop-in world-writable":       {chmod(0o666, "config.d/a.toml"), "a.toml: mode 0666 lets others than its owner write it"},
		"drop-in of another":           {chown("config.d/a.toml"), "a.toml: owned by uid 1234, not by root"},
		"directory world-writable":     {chmod(0o777, "."), "mode 0777 lets others than its owner replace files in it"},
		"directory group-writable":     {chmod(0o775, "."), "mode 0775 lets others than its owner replace files in it"},
		"directory sticky":             {chmod(0o777|os.ModeSticky, "."), ""},
		"directory of another":         {chown("."), "owned by uid 1234, not by root"},
		"config.d world-writable":      {chmod(0o777, "config.d"), "config.d: mode 0777 lets others than its owner replace files in it"},
		"config.d of another":          {chown("config.d"), "config.d: owned by uid 1234, not by root"},
		"only the drop-ins are there": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "config.toml")), os.Chmod(dir, 0o777))
		}, "mode 0777 lets others than its owner replace files in it"},
		"file is a directory": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "config.toml")), os.Mkdir(filepath.Join(dir, "config.toml"), 0o755))
		}, "config.toml: not a regular file"},
		"file is a pipe": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "config.toml")), syscall.Mkfifo(filepath.Join(dir, "config.toml"), 0o600))
		}, "config.toml: not a regular file"},
		"config.d is a file": {func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "config.d")), os.WriteFile(filepath.Join(dir, "config.d"), nil, 0o600))
		}, "not a directory"},
		"file over 1 MiB": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(strings.Repeat("#\n", 1<<19)+"#"), 0o600))
		}, "config.toml: larger than 1 MiB"},
		"file of 1 MiB": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(strings.Repeat("#\n", 1<<19)), 0o600))
		}, ""},
		"link to a good file": {func(t *testing.T, dir string) {
			store := filepath.Join(dir, "store")
			must(t, os.Mkdir(store, 0o755), os.Rename(filepath.Join(dir, "config.toml"), filepath.Join(store, "x")),
				os.Symlink("store/x", filepath.Join(dir, "config.toml")))
		}, ""},
		"link into a directory of all": {func(t *testing.T, dir string) {
			store := filepath.Join(dir, "store")
			must(t, os.Mkdir(store, 0o755), os.Rename(filepath.Join(dir, "config.toml"), filepath.Join(store, "x")),
				os.Symlink("store/x", filepath.Join(dir, "config.toml")), os.Chmod(store, 0o777))
		}, "store: mode 0777 lets others"},
		"link to nowhere": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "config.toml")), os.Symlink("gone", filepath.Join(dir, "config.toml")))
		}, "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, map[string]string{"config.toml": cloud, "config.d/a.toml": ""})
			tt.spoil(t, filepath.Dir(path))
			_, err := loadOwn(path)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// Load itself takes root's files only.
func TestLoadRefusesTheFilesOfOthers(t *testing.T) {
	path := write(t, map[string]string{"config.toml": cloud})
	if os.Getuid() == 0 {
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
		if err := os.Chown(path, 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "not by root") {
		t.Error(err)
	}
}
