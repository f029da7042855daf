//go:build amd64

package crash

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What the matrix stands on: at entry nothing is done, at exit all of it.
func TestKillsExactlyAtEntryAndAtExit(t *testing.T) {
	for _, full := range []bool{true, false} {
		for _, m := range []moment{never, atEntry, atExit} {
			dir := filepath.Join(t.TempDir(), "made")
			plain := func(what string) string { return what }
			done, err := trace(program{args: []string{"/bin/mkdir", dir}}, full, plain, func(c call) moment {
				if c.what == "mkdir "+dir {
					return m
				}
				return never
			})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(done.calls, func(c call) bool { return c.what == "mkdir "+dir }) {
				t.Errorf("full %v: mkdir(2) is not among the calls %v", full, done.calls)
			}
			_, err = os.Stat(dir)
			if made := !errors.Is(err, fs.ErrNotExist); made != (m != atEntry) {
				t.Errorf("full %v, killed at %s: made %v", full, m, made)
			}
			if (done.killed != nil) != (m != never) || done.status.Signaled() != (m != never) {
				t.Errorf("full %v, killed at %s: %+v", full, m, done)
			}
		}
	}
}

func TestOnlyChangesAmongRouteMessages(t *testing.T) {
	message := func(kind byte, body ...byte) []byte {
		return append([]byte{byte(16 + len(body)), 0, 0, 0, kind, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}, body...)
	}
	down := []byte{0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}
	named := append(slices.Clone(down[:12]), 0, 0, 0, 0, 8, 0, 3, 0, 'a', '0', 0, 0)
	for _, test := range []struct {
		name    string
		bytes   []byte
		what    string
		changes bool
	}{
		{"get link", message(18, down...), "", false},
		{"get rule", message(34, make([]byte, 12)...), "", false},
		{"done", message(3), "", false},
		{"down", message(16, down...), "netlink RTM_NEWLINK down", true},
		{"name", message(19, named...), "netlink RTM_SETLINK name", true},
		{"a get and a change", append(message(18, down...), message(17, down...)...), "netlink RTM_DELLINK down", true},
		{"cut", message(16, down...)[:20], "netlink: a message that is cut", true},
		{"of a kind that nobody knows", message(116, 0, 0, 0, 0), "netlink message type 116", true},
	} {
		what, changes := routeMessages(test.bytes)
		if changes != test.changes || (changes && what != test.what) {
			t.Errorf("%s: %q, %v; want %q, %v", test.name, what, changes, test.what, test.changes)
		}
	}
}
