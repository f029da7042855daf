package specgen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// edit replaces one place of the document; an empty place is an insertion.
type edit struct {
	at   span
	text []byte
}

// apply makes the edits, which do not overlap. Edits at one place are made in
// the order in which they stand.
func apply(d document, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.at.start, b.at.start) })
	var out bytes.Buffer
	last := 0
	for _, e := range edits {
		out.Write(d[last:e.at.start])
		out.Write(e.text)
		last = e.at.end
	}
	out.Write(d[last:])
	return out.Bytes()
}

// pair is a member that is to be added to an object.
type pair struct {
	key   string
	value []byte
}

func joinPairs(pairs []pair) []byte {
	var text []byte
	for i, p := range pairs {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(append(text, encode(p.key)...), ':')
		text = append(text, p.value...)
	}
	return text
}

func newObject(pairs ...pair) []byte {
	return slices.Concat([]byte("{"), joinPairs(pairs), []byte("}"))
}

func newArray(values ...[]byte) []byte {
	return slices.Concat([]byte("["), bytes.Join(values, []byte(",")), []byte("]"))
}

// addMembers returns the edit that puts members at the end of the object at s,
// or that replaces the null there by an object of them.
func addMembers(d document, s span, list []member, pairs ...pair) edit {
	if d.isNull(s) {
		return edit{at: s, text: newObject(pairs...)}
	}
	if len(list) == 0 {
		return edit{at: span{s.start + 1, s.start + 1}, text: joinPairs(pairs)}
	}
	end := list[len(list)-1].value.end
	return edit{at: span{end, end}, text: append([]byte(","), joinPairs(pairs)...)}
}

// addElements returns the edit that puts values at the end of the array at s,
// or that replaces the null there by an array of them.
func addElements(d document, s span, values ...[]byte) (edit, error) {
	if d.isNull(s) {
		return edit{at: s, text: newArray(values...)}, nil
	}
	text := bytes.Join(values, []byte(","))
	end, n := s.start+1, 0
	_, err := d.each(s.start, func(_ string, value int) (int, error) {
		end = d.skipValue(value)
		n++
		return end, nil
	})
	if err != nil {
		return edit{}, err
	}
	if n > 0 {
		text = append([]byte(","), text...)
	}
	return edit{at: span{end, end}, text: text}, nil
}

// encode is json.Marshal without the escapes that only HTML needs, for values
// that cannot fail.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("specgen: encode: " + err.Error()) // strings, numbers and structs of them
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
