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
	"slices"
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
	write  func(level slog.Level, line string, attrs []slog.Attr) error
	prefix string
	attrs  []slog.Attr
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var b bytes.Buffer
	text := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: dropBuiltin})
	rest := slog.NewRecord(r.Time, r.Level, "", 0)
	all := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		rest.AddAttrs(a)
		all = append(all, a)
		return true
	})
	if err := text.Handle(ctx, rest); err != nil {
		return err
	}
	line := r.Message + h.prefix
	if attrs := strings.TrimSpace(b.String()); attrs != "" {
		line += " " + attrs
	}
	return h.write(r.Level, line, all)
}

func dropBuiltin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(slices.Clone(h.attrs), attrs...)
	for _, a := range attrs {
		c.prefix += " " + a.String()
	}
	return &c
}

func (h *handler) WithGroup(string) slog.Handler { return h }

// journalWriter speaks the native protocol of systemd-journald
// (systemd.io/JOURNAL_NATIVE_PROTOCOL). Beside the message each attribute is a
// field of its own: `journalctl CANDOR_CONTAINER=c1`.
func journalWriter(w io.Writer, component string) func(slog.Level, string, []slog.Attr) error {
	if !strings.HasPrefix(component, "candor") {
		component = "candor-" + component
	}
	return func(level slog.Level, line string, attrs []slog.Attr) error {
		priority := "6"
		switch {
		case level >= slog.LevelError:
			priority = "3"
		case level >= slog.LevelWarn:
			priority = "4"
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "PRIORITY=%s\nSYSLOG_IDENTIFIER=%s\n", priority, component)
		writeField(&b, "MESSAGE", line)
		for _, a := range attrs {
			writeField(&b, fieldName(a.Key), a.Value.String())
		}
		_, err := w.Write(b.Bytes())
		return err
	}
}

// writeField writes the form that takes any value: the name, newline, the
// value's length in little-endian, the value. What a container wrote into a
// value cannot pass for another field.
func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteByte('\n')
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	b.WriteString(value)
	b.WriteByte('\n')
}

// fieldName makes a field's name of an attribute's key: journald drops fields
// whose names have other characters.
func fieldName(key string) string {
	return "CANDOR_" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
}
