// Package cputime reads what processes have used of the CPUs.
package cputime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Of adds up the CPU time used in the cgroups whose directories these are, v1
// (cpuacct.usage, ns) or v2 (cpu.stat, us).
func Of(cgroups ...string) (time.Duration, error) {
	var sum time.Duration
	for _, dir := range cgroups {
		d, err := of(dir)
		if err != nil {
			return 0, fmt.Errorf("CPU time of %s: %w", dir, err)
		}
		sum += d
	}
	return sum, nil
}

func of(dir string) (time.Duration, error) {
	if b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return time.Duration(ns), err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, errors.New("no usage_usec")
}
