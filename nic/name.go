package nic

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxName is the longest interface name in bytes (IFNAMSIZ less its NUL). runc's
// own check lets 16 through, which the kernel refuses.
const maxName = unix.IFNAMSIZ - 1

// transientPrefix begins the names under which NICs move; transientDigits follow.
const (
	transientPrefix = "cdr"
	transientDigits = 10
)

// TransientName returns a name under which a NIC can move without meeting
// another one: "cdr" and ten random hexadecimal digits.
func TransientName() (string, error) {
	b := make([]byte, transientDigits/2)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a name for a nic's move: %w", err)
	}
	return transientPrefix + hex.EncodeToString(b), nil
}

// isTransientName reports whether a name looks like one of [TransientName].
func isTransientName(name string) bool {
	digits, ok := strings.CutPrefix(name, transientPrefix)
	return ok && len(digits) == transientDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// checkName says what is wrong with a name for an interface. The kernel's rules
// (dev_valid_name), and no template: it would rename net%d to net0 and later
// look-ups of net%d would fail.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("interface name is empty")
	case len(name) > maxName:
		return fmt.Errorf("interface name %q has more than %d bytes", name, maxName)
	case name == "." || name == "..", strings.ContainsAny(name, "/:% \t\n\v\f\r\x00"):
		return fmt.Errorf("interface name %q is not one that the kernel takes", name)
	}
	return nil
}
