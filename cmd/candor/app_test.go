package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is wrong with a command line is said in one line, on standard error,
// and nothing on standard output.
func TestWrongUsageIsOneLine(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"nonsense", `no command "nonsense"`},
		{"--nonsense list", "-nonsense (see candor --help)"},
		{"list --nonsense", "-nonsense (see candor list --help)"},
		{"list x", "takes no arguments"},
		{"gc x", "takes no arguments"},
		{"remount x", "takes no arguments"},
		{"inspect", "takes one argument"},
		{"set c1", "set takes two arguments"},
		{"set c1 ingress-limit=1M", `no setting "ingress-limit"`},
		{"set c1 egress-limit", "is empty"},
		{"set c1 egress-limit=1MB", "1MB"},
		{"set c1 egress-limit=2P", "out of bounds"},
		{"top x", "takes no arguments"},
		{"top --interval 1ms", "an interval is 100ms to 1h0m0s, not 1ms"},
		{"network-status a b", "takes at most one argument"},
		{"--state-dir /nonexistent/state check c1", "container c1 holds nothing of this node"},
		{"spec a b", "takes one argument"},
		{"spec /nonexistent", "/nonexistent/config.json"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(append([]string{"candor"}, strings.Fields(test.args)...), &stdout, &stderr)
			if code == 0 || stdout.Len() != 0 || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit status %d, standard output %q, error %q; want one line with %q", code, &stdout, &stderr, test.want)
			}
		})
	}
}

func TestHelpAndVersionGoToStandardOutput(t *testing.T) {
	for args, want := range map[string]string{"": "COMMANDS", "--help": "COMMANDS", "list --help": "--json", "remount --help": "nothing is changed", "version": "candor "} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"candor"}, strings.Fields(args)...), &stdout, &stderr)
		if code != 0 || !strings.Contains(stdout.String(), want) || stderr.Len() != 0 {
			t.Errorf("candor %s: exit status %d, %q, error %q", args, code, &stdout, &stderr)
		}
	}
}

// The commands that only look make no state directory.
func TestLookingMakesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look at a node")
	}
	dir := filepath.Join(t.TempDir(), "state")
	for args, want := range map[string]string{"check": "", "check --json": "[]\n", "network-status": "{}\n", "top --once --json --interval 100ms": "[]\n"} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"candor", "--state-dir", dir}, strings.Fields(args)...), &stdout, &stderr)
		if code != 0 || stdout.String() != want {
			t.Errorf("candor %s: exit status %d, %q, error %q; want %q", args, code, &stdout, &stderr, want)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v, want that it is not there", dir, err)
	}
}
