package specgen

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxSpec is the largest spec that is read, in bytes. Engines write some 30 kB.
const MaxSpec = 8 << 20

// span is a piece of the document: the bytes from start up to end.
type span struct{ start, end int }

// member is one key of an object with the place of its value.
type member struct {
	key   string
	value span
}

// document is a JSON text that was found valid, and that has no object with a
// key twice: readers do not agree on which of the two counts.
type document []byte

func parseDocument(b []byte) (document, error) {
	if len(b) > MaxSpec {
		return nil, fmt.Errorf("spec is larger than %d bytes", MaxSpec)
	}
	if !json.Valid(b) {
		return nil, syntaxError(b)
	}
	d := document(b)
	if d[d.skipSpace(0)] != '{' {
		return nil, errors.New("spec is not a JSON object")
	}
	if _, err := d.checkKeys(d.skipSpace(0)); err != nil {
		return nil, err
	}
	return d, nil
}

// syntaxError lets the decoder say what json.Valid found, with the offset.
func syntaxError(b []byte) error {
	var ignored json.RawMessage
	err := json.Unmarshal(b, &ignored)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("spec: byte %d: %w", syntax.Offset, err)
	}
	return fmt.Errorf("spec: %w", err)
}

// The scanners below walk over text that is known to be valid. They look only
// at what decides where a value ends.

func (d document) skipSpace(i int) int {
	for i < len(d) && (d[i] == ' ' || d[i] == '\t' || d[i] == '\n' || d[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the offset behind the string that begins at i.
func (d document) skipString(i int) int {
	for i++; d[i] != '"'; i++ {
		if d[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the offset behind the value that begins at i.
func (d document) skipValue(i int) int {
	depth := 0
	for {
		switch d[i] {
		case '"':
			i = d.skipString(i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default: // a number, true, false or null
			for i < len(d) && d[i] != ',' && d[i] != '}' && d[i] != ']' && d[i] > ' ' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// each calls fn with the place of every element of the array, or of every
// member of the object, that begins at i, and returns the offset behind it. fn
// returns the offset behind the value.
func (d document) each(i int, fn func(key string, value int) (int, error)) (int, error) {
	object := d[i] == '{'
	for i = d.skipSpace(i + 1); d[i] != '}' && d[i] != ']'; i = d.skipSpace(i) {
		if d[i] == ',' {
			i = d.skipSpace(i + 1)
		}
		var key string
		if object {
			end := d.skipString(i)
			if err := json.Unmarshal(d[i:end], &key); err != nil {
				return 0, fmt.Errorf("spec: byte %d: %w", i, err)
			}
			i = d.skipSpace(d.skipSpace(end) + 1) // the colon
		}
		end, err := fn(key, i)
		if err != nil {
			return 0, err
		}
		i = end
	}
	return i + 1, nil
}

// checkKeys returns an error when an object at or below i has a key twice, else
// the offset behind the value.
func (d document) checkKeys(i int) (int, error) {
	if d[i] != '{' && d[i] != '[' {
		return d.skipValue(i), nil
	}
	var keys []string
	object := d[i] == '{'
	end, err := d.each(i, func(key string, value int) (int, error) {
		if object {
			keys = append(keys, key)
		}
		return d.checkKeys(value)
	})
	if err != nil || len(keys) < 2 {
		return end, err
	}
	slices.Sort(keys)
	for n := 1; n < len(keys); n++ {
		if keys[n] == keys[n-1] {
			return 0, fmt.Errorf("spec: an object has the key %q twice", keys[n])
		}
	}
	return end, nil
}

// members lists the members of the object at s, in their order; none when null
// stands there.
func (d document) members(s span, name string) ([]member, error) {
	if d.isNull(s) {
		return nil, nil
	}
	if d[s.start] != '{' {
		return nil, fmt.Errorf("spec: %s is not an object", name)
	}
	var list []member
	_, err := d.each(s.start, func(key string, value int) (int, error) {
		end := d.skipValue(value)
		list = append(list, member{key: key, value: span{value, end}})
		return end, nil
	})
	return list, err
}

func (d document) isNull(s span) bool { return s.end == 0 || string(d[s.start:s.end]) == "null" }

// find returns the value of a key; the zero span where there is none. A key
// that differs in case only is an error: Go's decoder, and so runc, takes it
// for the same.
func find(list []member, key string) (span, error) {
	var found span
	for _, m := range list {
		if m.key == key {
			found = m.value
		} else if strings.EqualFold(m.key, key) {
			return span{}, fmt.Errorf("spec: the key %q has to be written %q", m.key, key)
		}
	}
	return found, nil
}

// decode reads the value at s into v and leaves v alone where there is none.
func (d document) decode(s span, name string, v any) error {
	if d.isNull(s) {
		return nil
	}
	if err := json.Unmarshal(d[s.start:s.end], v); err != nil {
		return fmt.Errorf("spec: %s: %w", name, err)
	}
	return nil
}
