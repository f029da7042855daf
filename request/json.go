package request

import (
	"encoding/json"
	"strconv"
	"strings"
)

// parseJSON reads a list of NICs. It walks the tokens itself, since
// encoding/json takes a field's name in any case, lets a field that stands there
// twice overwrite itself, and makes the zero value of null.
func parseJSON(s string) ([]NIC, *Error) {
	// One pass over the whole finds every error of syntax, and trailing data,
	// so that below there are only errors of content.
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, &Error{Value: s, Rule: "is not JSON: " + ascii(err.Error())}
	}
	w := walker{dec: json.NewDecoder(strings.NewReader(s))}
	w.dec.UseNumber()
	w.table = make(map[string]field)
	for _, f := range fields() {
		w.table[f.name] = f
		w.names = append(w.names, f.name)
	}
	if tok := w.next(); tok != json.Delim('[') {
		e := wrongType(tok, "a list of NICs")
		if tok == json.Delim('{') {
			e.Suggestion = "[{...}]"
		}
		return nil, e
	}
	var list []NIC
	for w.dec.More() {
		at := "[" + strconv.Itoa(len(list)) + "]"
		if len(list) == MaxNICs {
			return nil, &Error{Field: at, Rule: "is one NIC too many: at most 16 can be asked for"}
		}
		n, err := w.nic()
		if err == nil {
			err = checkNIC(&n)
		}
		if err != nil {
			return nil, err.in(at)
		}
		list = append(list, n)
	}
	return list, checkList(list)
}

// walker reads the tokens of JSON that is known to be well-formed.
type walker struct {
	dec   *json.Decoder
	table map[string]field
	names []string
}

// next returns the next token. There always is one, and it is in order.
func (w *walker) next() json.Token {
	tok, err := w.dec.Token()
	if err != nil {
		return nil
	}
	return tok
}

// object calls each with the name of every member of the object that comes
// next, once per name; each reads the member's value.
func (w *walker) object(what string, each func(name string) *Error) *Error {
	if tok := w.next(); tok != json.Delim('{') {
		return wrongType(tok, what)
	}
	seen := make(map[string]bool)
	for w.dec.More() {
		name, _ := w.next().(string)
		if seen[name] {
			return &Error{Field: name, Rule: "is given twice"}
		}
		seen[name] = true
		if err := each(name); err != nil {
			return err
		}
	}
	w.next()
	return nil
}

// list calls each once before every element, whose token or value it reads.
func (w *walker) list(each func() *Error) *Error {
	for i := 0; w.dec.More(); i++ {
		if err := each(); err != nil {
			return err.in("[" + strconv.Itoa(i) + "]")
		}
	}
	w.next()
	return nil
}

func (w *walker) nic() (NIC, *Error) {
	var n NIC
	var hasGateway, hasDefaultList bool
	err := w.object("an object", func(name string) *Error {
		f, ok := w.table[name]
		if !ok {
			return unknownField(name, w.names)
		}
		before := len(n.Gateway)
		if err := w.value(&n, f); err != nil {
			return err.in(name)
		}
		hasGateway = hasGateway || name == "gateway"
		hasDefaultList = hasDefaultList || name == "default-route" && len(n.Gateway) > before
		return nil
	})
	if err == nil && hasGateway && hasDefaultList {
		err = &Error{Field: "default-route", Rule: `lists gateways beside "gateway": give them in one of the two`}
	}
	return n, err
}

// value reads the value of a NIC's field and sets it.
func (w *walker) value(n *NIC, f field) *Error {
	if f.kind == routes {
		return w.routes(n, f)
	}
	tok := w.next()
	switch v := tok.(type) {
	case string:
		if f.kind == text {
			return f.set(n, value{text: v})
		}
	case bool:
		if f.kind == flag || f.kind == flagOrTexts {
			return f.set(n, value{flag: v})
		}
	case json.Number:
		if f.kind == number {
			i, err := parseNumber(v.String())
			if err != nil {
				return err
			}
			return f.set(n, value{number: i})
		}
	case json.Delim:
		if v == '[' && (f.kind == texts || f.kind == flagOrTexts) {
			return w.list(func() *Error {
				tok := w.next()
				s, ok := tok.(string)
				if !ok {
					return wrongType(tok, "a string")
				}
				if s == "" {
					return &Error{Rule: "is empty"}
				}
				return f.set(n, value{text: s})
			})
		}
	}
	return wrongType(tok, map[kind]string{
		text: "a string", texts: "a list of strings", flag: "true or false", number: "a number",
		flagOrTexts: "true, false or a list of gateways",
	}[f.kind])
}

func (w *walker) routes(n *NIC, f field) *Error {
	if tok := w.next(); tok != json.Delim('[') {
		return wrongType(tok, "a list of objects")
	}
	return w.list(func() *Error {
		r, err := w.route()
		if err != nil {
			return err
		}
		return f.set(n, value{route: r})
	})
}

// wrongType refuses a token that should have been something else.
func wrongType(tok json.Token, want string) *Error {
	e := &Error{Rule: "must be " + want}
	switch v := tok.(type) {
	case nil:
		e.Value = "null"
	case string:
		e.Value = v
	case json.Number:
		e.Value = v.String()
	case bool:
		e.Value = strconv.FormatBool(v)
	case json.Delim:
		e.Rule += map[json.Delim]string{'{': ", not an object", '[': ", not a list"}[v]
	}
	return e
}
