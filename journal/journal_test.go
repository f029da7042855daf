package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOneLineWhateverWasJoined(t *testing.T) {
	err := errors.Join(errors.New("first\r\nof two"), errors.New("second"))
	if got, want := OneLine(err), "first; of two; second"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// systemd.io/JOURNAL_NATIVE_PROTOCOL: the message stands behind its length, so
// that what a container wrote into it cannot pass for another field.
func TestMessageCannotForgeAField(t *testing.T) {
	var b bytes.Buffer
	message := "attach\nPRIORITY=0"
	log := slog.New(&handler{write: journalWriter(&b, "candor-prestart-net")})
	log.With("node", "n1").Warn(message, "container", "c1")
	head, rest, found := strings.Cut(b.String(), "MESSAGE\n")
	if !found || head != "PRIORITY=4\nSYSLOG_IDENTIFIER=candor-prestart-net\n" {
		t.Fatalf("%q", &b)
	}
	n := binary.LittleEndian.Uint64([]byte(rest[:8]))
	if text := rest[8:]; uint64(len(text)) != n+1 || !strings.HasPrefix(text, message) || !strings.HasSuffix(text, "node=n1 container=c1\n") {
		t.Errorf("length %d, %q", n, text)
	}
}

func TestLogIsRootsAndBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candor.log")
	if err := os.WriteFile(path, make([]byte, maxLogBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for file, want := range map[string]int64{path: 0, path + ".1": maxLogBytes + 1} {
		if st, err := os.Stat(file); err != nil || st.Size() != want || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want %d bytes of mode 0600", file, st, err, want)
		}
	}
}

func TestLogFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Symlink(target, filepath.Join(dir, "candor.log")); err != nil {
		t.Fatal(err)
	}
	New(dir, "candor-test").Error("nowhere") // never fails
	if _, err := os.Stat(target); err == nil {
		t.Error("wrote through a link")
	}
}
