// Package version says which candor this is.
package version

import (
	"runtime/debug"
	"strings"
)

// Version is stamped by the linker (see the Makefile). It is empty in a program
// that was built without the Makefile; [String] then falls back to what the Go
// tool wrote into the program. A variable only because the linker can set
// nothing else: nobody assigns to it.
var Version string

// String returns the version, never empty: the stamped one, else the module's
// version ("go install candor.dev/candor/...@v1.2.3"), else the commit, else
// "unknown".
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fromBuildInfo(info)
}

func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	var commit, dirty string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if commit == "" {
		return "unknown"
	}
	return commit[:min(12, len(commit))] + dirty
}
