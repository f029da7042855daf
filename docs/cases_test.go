package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/nic-cases.md names as its proof is there.
func TestEveryCaseHasItsProof(t *testing.T) {
	text, err := os.ReadFile("nic-cases.md")
	if err != nil {
		t.Fatal(err)
	}
	proof := regexp.MustCompile("`([a-z0-9/-]+)(?: (Test[A-Za-z0-9_]+)|: ([^`]+))`")
	cases, proofs := 0, map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		cell := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || len(cell) < 3 || cell[len(cell)-1] == "here" {
			continue
		}
		cases++
		for _, m := range proof.FindAllStringSubmatch(cell[len(cell)-1], -1) {
			proofs[m[0]] = true
			if !exists(t, m[1], m[2], m[3]) {
				t.Errorf("there is no %s", m[0])
			}
		}
	}
	if cases < 40 || len(proofs) < 40 {
		t.Errorf("%d cases with %d proofs: the table is not read", cases, len(proofs))
	}
	t.Logf("%d cases, %d tests that prove them", cases, len(proofs))
}

// exists looks for a Go test of a package or a test of a bats file.
func exists(t *testing.T, where, test, name string) bool {
	t.Helper()
	pattern, line := fmt.Sprintf("../%s/*_test.go", where), "func "+test+"(t *testing.T) {\n"
	if test == "" {
		pattern, line = fmt.Sprintf("../tests/*/%s.bats", where), fmt.Sprintf("@test %q {\n", name)
		if files, _ := filepath.Glob(pattern); len(files) == 0 {
			pattern = fmt.Sprintf("../tests/*/bats/%s.bats", where)
		}
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), line) {
			return true
		}
	}
	return false
}
