package request

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error says why a request was refused: which annotation, which part of it, and
// the rule that it broke. Its text is one line whatever the annotation holds.
type Error struct {
	// Key is the annotation's key; "" when a bare value was parsed.
	Key string
	// Field is the part of the value, such as "mac" or "[1].ips[0]"; "" for
	// the whole.
	Field string
	// Value is what stood there; "" when the rule is about something that is
	// empty or missing.
	Value string
	// Rule is what the value should have been, or what is wrong with it.
	Rule string
	// Suggestion is what was probably meant; "" when there is no guess.
	Suggestion string
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Key != "" {
		b.WriteString("annotation " + plain(e.Key) + ": ")
	}
	if e.Field != "" {
		b.WriteString(plain(e.Field) + ": ")
	}
	if e.Value != "" {
		b.WriteString(quote(e.Value) + " ")
	}
	b.WriteString(e.Rule)
	if e.Suggestion != "" {
		b.WriteString("; did you mean " + strconv.QuoteToASCII(e.Suggestion) + "?")
	}
	return b.String()
}

// asError keeps a nil *Error from becoming an error that is not nil.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// in sets the field that the error is about, in front of what is there.
func (e *Error) in(field string) *Error {
	switch {
	case e.Field == "" || strings.HasPrefix(e.Field, "["):
		e.Field = field + e.Field
	default:
		e.Field = field + "." + e.Field
	}
	return e
}

// maxShown is how many bytes of a value an error shows.
const maxShown = 64

// shorten cuts s to what an error shows, at the border of a character.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	n := maxShown
	for n > maxShown-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// quote returns s in quotes, shortened, in printable ASCII.
func quote(s string) string {
	q := strconv.QuoteToASCII(shorten(s))
	if len(s) > maxShown {
		q += "..."
	}
	return q
}

// plain returns s as it is where that is short and harmless, else quoted.
func plain(s string) string {
	if len(s) > maxShown {
		return quote(s)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return quote(s)
		}
	}
	return s
}

// ascii returns the text of another package's error with what is not printable
// ASCII escaped: encoding/json takes single bytes of the input for characters.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= ' ' && r <= '~' {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}

// Nearest returns the one of known that s is most probably a misspelling of, or
// "" when none is near. It is exported for the sake of the policy's own errors.
func Nearest(s string, known []string) string {
	if len(s) == 0 || len(s) > maxShown {
		return ""
	}
	normal := func(s string) string { return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), "_", "-")) }
	s = normal(s)
	best, bestDistance := "", 0
	for _, k := range slices.Sorted(slices.Values(known)) {
		d := distance(s, normal(k))
		if best == "" || d < bestDistance {
			best, bestDistance = k, d
		}
	}
	// More than a half of it typed wrong is another word.
	if bestDistance > max(1, min(len(s), len(best))/2) {
		return ""
	}
	return best
}

// distance counts the edits (insert, delete, replace, swap of two neighbours)
// that make a into b: the restricted Damerau-Levenshtein distance, on bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
