package wrapper

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"candor.dev/candor/journal"
	"candor.dev/candor/policy"
	"candor.dev/candor/shim/prepare"
	"candor.dev/candor/shim/runcargs"
)

// report tells an error as runc tells its own: to standard error, and to the
// file of --log, from which containerd, Docker and CRI-O take what they show to
// their users.
func report(stderr io.Writer, command runcargs.Command, err error) {
	message := name + ": " + journal.OneLine(err)
	line := logLine(command.LogFormat, message, time.Now())
	if command.Log == "" {
		if command.LogFormat == "json" {
			fmt.Fprint(stderr, line)
		} else {
			fmt.Fprintln(stderr, message)
		}
		return
	}
	fmt.Fprintln(stderr, message)
	f, err := os.OpenFile(command.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return
	}
	_, err = f.WriteString(line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
	}
}

// logLine renders an error as runc's logger does in that format.
func logLine(format, message string, now time.Time) string {
	stamp := now.Format(time.RFC3339)
	if format != "json" {
		return fmt.Sprintf("time=%q level=error msg=%s\n", stamp, strconv.Quote(message))
	}
	b, err := json.Marshal(struct {
		Level   string `json:"level"`
		Message string `json:"msg"`
		Time    string `json:"time"`
	}{"error", message, stamp})
	if err != nil {
		return "" // three strings
	}
	return string(b) + "\n"
}

// warn writes to the journal: nobody reads what a runtime that succeeds prints.
func warn(done prepare.Prepared, id string) {
	stateDir := done.StateDir
	if stateDir == "" {
		stateDir = policy.DefaultStateDir
	}
	log := journal.New(stateDir, name)
	for _, w := range done.Warnings {
		log.Warn(w, "container", id)
	}
}
