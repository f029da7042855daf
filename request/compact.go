package request

import (
	"strconv"
	"strings"
)

// parseCompact reads a NIC written as "pool=cloud,mac=...,ip=...": fields
// separated by commas, or by semicolons for the sake of command lines that cut
// their flags at commas. A list is written by repeating its key.
func parseCompact(s string) (NIC, *Error) {
	separator := ","
	if strings.Contains(s, ";") {
		separator = ";"
		if strings.Contains(s, ",") {
			return NIC{}, &Error{Value: s, Rule: `separates its fields by both "," and ";"`}
		}
	}
	if s[0] == '{' || s[0] == '[' {
		return NIC{}, &Error{Value: s, Rule: "is not key=value: JSON goes into " + KeyNICs}
	}
	table := make(map[string]field)
	var names []string
	for _, f := range fields() {
		table[f.compactName()] = f
		if f.kind != notInCompact {
			names = append(names, f.compactName())
		}
	}
	var n NIC
	seen := make(map[string]bool)
	for item := range strings.SplitSeq(s, separator) {
		if item == "" {
			return NIC{}, &Error{Value: s, Rule: `has an empty field: a "` + separator + `" too many`}
		}
		if strings.ContainsAny(item, " \t\n\r\v\f") {
			return NIC{}, &Error{Value: item, Rule: "holds white space"}
		}
		name, v, ok := strings.Cut(item, "=")
		f, known := table[name]
		switch {
		case !known:
			return NIC{}, unknownField(name, names)
		case f.kind == notInCompact:
			return NIC{}, &Error{Field: name, Rule: "can only be asked for in " + KeyNICs}
		case !ok:
			return NIC{}, &Error{Field: name, Rule: `has no value: write "` + name + `=..."`}
		case seen[name] && f.kind != texts:
			return NIC{}, &Error{Field: name, Value: v, Rule: "is given twice"}
		}
		seen[name] = true
		if err := setText(&n, f, v); err != nil {
			return NIC{}, err.in(name)
		}
	}
	err := checkNIC(&n)
	if err != nil && err.Field == "ips" {
		err.Field = "ip"
	}
	return n, err
}

// setText sets a field from its text in the compact form.
func setText(n *NIC, f field, s string) *Error {
	switch f.kind {
	case flag, flagOrTexts:
		switch s {
		case "true":
			return f.set(n, value{flag: true})
		case "false":
			return f.set(n, value{flag: false})
		}
		e := &Error{Value: s, Rule: `must be "true" or "false"`}
		if v, err := parseSwitch(s); err == nil || err.Suggestion != "" {
			e.Suggestion = strconv.FormatBool(v == On || (err != nil && err.Suggestion == "on"))
		}
		return e
	case number:
		v, err := parseNumber(s)
		if err != nil {
			return err
		}
		return f.set(n, value{number: v})
	default:
		return f.set(n, value{text: s})
	}
}

// parseNumber reads a decimal number without sign, leading zeros, point or
// exponent: in all of these, two writings of one number would differ.
func parseNumber(s string) (int, *Error) {
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil || strconv.FormatUint(v, 10) != s {
		e := &Error{Value: s, Rule: "must be a plain whole number"}
		if s == "" {
			e.Rule = "is empty: it must be a plain whole number"
		}
		return 0, e
	}
	return int(v), nil
}
