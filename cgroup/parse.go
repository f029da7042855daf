package cgroup

import (
	"bytes"
	"math"
)

// NoLimit is the value of a limit that is not set.
const NoLimit uint64 = math.MaxUint64

// v1 prints an unlimited counter as PAGE_COUNTER_MAX pages, which is below
// 2^63 by an amount that depends on the page size; nothing real comes near.
const v1Unlimited = 1 << 62

// LeadingNumber parses the decimal number at the start of b, and reports how many
// bytes it took: 0 when there is none. A number beyond 64 bits is [NoLimit].
func LeadingNumber(b []byte) (value uint64, length int) {
	for length < len(b) && b[length] >= '0' && b[length] <= '9' {
		digit := uint64(b[length] - '0')
		if value > (math.MaxUint64-digit)/10 {
			value = math.MaxUint64
		} else {
			value = value*10 + digit
		}
		length++
	}
	return value, length
}

// limit parses a limit file: a number, or "max" (v2) or "-1" for none.
func limit(b []byte) uint64 {
	v, n := LeadingNumber(b)
	if n == 0 || v >= v1Unlimited {
		return NoLimit
	}
	return v
}

// eachPair calls f with every "KEY VALUE" line of a flat-keyed file
// (memory.stat, cpu.stat). Lines of another form are skipped: newer kernels
// add lines.
func eachPair(text []byte, f func(key []byte, value uint64)) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		i := bytes.IndexByte(line, ' ')
		if i <= 0 {
			continue
		}
		if v, n := LeadingNumber(line[i+1:]); n > 0 {
			f(line[:i], v)
		}
	}
}

// nextField cuts the first word off the line b.
func nextField(b []byte) (field, rest []byte) {
	start := 0
	for start < len(b) && (b[start] == ' ' || b[start] == '\t') {
		start++
	}
	end := start
	for end < len(b) && b[end] != ' ' && b[end] != '\t' && b[end] != '\n' {
		end++
	}
	return b[start:end], b[end:]
}

// scale multiplies and saturates.
func scale(v, factor uint64) uint64 {
	if factor != 0 && v > math.MaxUint64/factor {
		return math.MaxUint64
	}
	return v * factor
}

// add adds and saturates.
func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// sub is a-b, 0 where b is larger: counters of one moment are not read in one
// moment.
func sub(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// nextLine is what follows the first line break in b.
func nextLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[i+1:]
	}
	return nil
}
