// Package journal writes what an operator has to know where an operator looks:
// to systemd's journal, or to STATE_DIR/candor.log on a machine without it.
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// socketPath is fixed by systemd.journal-fields(7) and the native protocol.
const socketPath = "/run/systemd/journal/socket"

// maxLogBytes bounds candor.log: past it the file is moved to candor.log.1.
const maxLogBytes = 1 << 20

// New returns a logger for one component ("prestart-net", "candord", ...). It
// never fails: a machine on which nothing can be written loses the messages,
// not the container.
func New(stateDir, component string) *slog.Logger {
	if conn, err := net.Dial("unixgram", socketPath); err == nil {
		return slog.New(&handler{write: journalWriter(conn, component)})
	}
	f, err := openLog(filepath.Join(stateDir, "candor.log"))
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(f, nil)).With("component", component)
}

// OneLine is an error's text as one line, whatever was joined or quoted into it.
func OneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func openLog(path string) (*os.File, error) {
	if st, err := os.Lstat(path); err == nil && st.Size() > maxLogBytes {
		if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("rotate log: %w", err)
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
}

// handler renders a record as one line of text for a writer that knows levels.
type handler struct {
	write  func(level slog.Level, line string) error
	prefix string
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var b bytes.Buffer
	text := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: dropBuiltin})
	rest := slog.NewRecord(r.Time, r.Level, "", 0)
	r.Attrs(func(a slog.Attr) bool { rest.AddAttrs(a); return true })
	if err := text.Handle(ctx, rest); err != nil {
		return err
	}
	line := r.Message + h.prefix
	if attrs := strings.TrimSpace(b.String()); attrs != "" {
		line += " " + attrs
	}
	return h.write(r.Level, line)
}

func dropBuiltin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		c.prefix += " " + a.String()
	}
	return &c
}

func (h *handler) WithGroup(string) slog.Handler { return h }

// journalWriter speaks the native protocol of systemd-journald: KEY=value
// lines, or KEY, newline, little-endian length, value where the value has a
// newline (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func journalWriter(w io.Writer, component string) func(slog.Level, string) error {
	return func(level slog.Level, line string) error {
		priority := "6"
		switch {
		case level >= slog.LevelError:
			priority = "3"
		case level >= slog.LevelWarn:
			priority = "4"
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "PRIORITY=%s\nSYSLOG_IDENTIFIER=candor-%s\n", priority, strings.TrimPrefix(component, "candor-"))
		b.WriteString("MESSAGE\n")
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(line))))
		b.WriteString(line)
		b.WriteByte('\n')
		_, err := w.Write(b.Bytes())
		return err
	}
}
