package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
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

// parseFields reads an entry of the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func parseFields(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(entry) > 0 {
		line, rest, found := bytes.Cut(entry, []byte("\n"))
		if !found {
			t.Fatalf("no newline behind %q", entry)
		}
		name, value, short := strings.Cut(string(line), "=")
		if !short {
			n := binary.LittleEndian.Uint64(rest[:8])
			value, rest = string(rest[8:8+n]), rest[8+n:]
			if rest[0] != '\n' {
				t.Fatalf("%s: %q behind its value", name, rest[0])
			}
			rest = rest[1:]
		}
		fields[name], entry = value, rest
	}
	return fields
}

// What a container wrote into a message or a value cannot pass for a field.
func TestEntryHasFieldsThatCannotBeForged(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(&handler{write: journalWriter(&b, "candor-prestart-net")})
	log.With("node", "n1").Warn("attach\nPRIORITY=0", "container", "c1\nPRIORITY=1", "egress-limit", 5)
	want := map[string]string{
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": "candor-prestart-net",
		"MESSAGE":     "attach\nPRIORITY=0 node=n1 container=\"c1\\nPRIORITY=1\" egress-limit=5",
		"CANDOR_NODE": "n1", "CANDOR_CONTAINER": "c1\nPRIORITY=1", "CANDOR_EGRESS_LIMIT": "5",
	}
	if got := parseFields(t, b.Bytes()); !maps.Equal(got, want) {
		t.Errorf("fields\n%q, want\n%q", got, want)
	}
}

func TestIdentifierIsTheProgramsName(t *testing.T) {
	for component, want := range map[string]string{"candord": "candord", "shim": "candor-shim", "candor-runc": "candor-runc"} {
		var b bytes.Buffer
		slog.New(&handler{write: journalWriter(&b, component)}).Info("x")
		if got := parseFields(t, b.Bytes())["SYSLOG_IDENTIFIER"]; got != want {
			t.Errorf("%s is %q, want %q", component, got, want)
		}
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
