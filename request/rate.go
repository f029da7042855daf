package request

import (
	"math/bits"
	"strconv"
	"strings"
)

// Rate is a bandwidth in bits per second. 0 is no rate.
type Rate uint64

// The bounds of a rate, those of Kubernetes' bandwidth annotations.
const (
	MinRate Rate = 1e3
	MaxRate Rate = 1e15
)

// String returns the rate as [ParseRate] reads it, with the largest decimal
// suffix that leaves a whole number.
func (r Rate) String() string {
	v, suffix := uint64(r), ""
	for _, s := range []string{"k", "M", "G", "T", "P"} {
		if v == 0 || v%1000 != 0 {
			break
		}
		v, suffix = v/1000, s
	}
	return strconv.FormatUint(v, 10) + suffix
}

// ParseRate reads a Kubernetes quantity as bits per second: a decimal number
// with one of the suffixes k, M, G, T, P (powers of 1000), Ki, Mi, Gi, Ti, Pi
// (powers of 1024), or a decimal exponent, or none. It has to come to a whole
// number of bits from 1k to 1P. The error is of type [*Error].
func ParseRate(s string) (Rate, error) {
	r, err := parseRate(s)
	return r, asError(err)
}

// maxRateText bounds the text of a rate: enough for any that is in bounds.
const maxRateText = 32

func parseRate(s string) (Rate, *Error) {
	refuse := func(rule string) (Rate, *Error) { return 0, &Error{Value: s, Rule: rule} }
	const bounds = "is out of bounds: a rate is 1k to 1P bits per second"
	const notWhole = "is not a whole number of bits per second"

	if s == "" {
		return refuse(`is empty: a rate is a number such as "100M"`)
	}
	if len(s) > maxRateText {
		return refuse("is too long for a rate")
	}
	if s[0] == '-' {
		return refuse("is negative: a rate is 1k to 1P bits per second")
	}
	digits, point, suffix := splitNumber(strings.TrimPrefix(s, "+"))
	if digits == "" {
		return refuse(`is not a rate: a number with one of k, M, G, T, P behind it, such as "100M"`)
	}
	exponent, binary, ok := scale(suffix)
	if !ok {
		return 0, wrongUnit(s, suffix)
	}
	exponent -= point

	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return refuse("is zero: a rate is 1k to 1P bits per second")
	}
	significant := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(significant)
	mantissa, err := strconv.ParseUint(significant, 10, 64)
	if err != nil {
		return refuse("has too many digits")
	}

	// The value is mantissa * 2^binary * 10^exponent, reckoned in 128 bits.
	hi, lo := bits.Mul64(mantissa, 1<<binary)
	switch {
	case exponent < -18 && binary == 0:
		// The mantissa does not end in 0, so this leaves a fraction.
		return refuse(notWhole)
	case exponent < -18:
		return refuse("has too many digits")
	case exponent > 18:
		return refuse(bounds)
	case exponent < 0:
		if hi >= pow10(-exponent) {
			return refuse(bounds)
		}
		var rest uint64
		lo, rest = bits.Div64(hi, lo, pow10(-exponent))
		if rest != 0 {
			return refuse(notWhole)
		}
	default:
		if hi != 0 {
			return refuse(bounds)
		}
		if hi, lo = bits.Mul64(lo, pow10(exponent)); hi != 0 {
			return refuse(bounds)
		}
	}
	if r := Rate(lo); r >= MinRate && r <= MaxRate {
		return r, nil
	}
	return refuse(bounds)
}

// splitNumber cuts s behind its number and returns the number's digits, how
// many of them stand behind the point, and the rest. No digits: no number.
func splitNumber(s string) (digits string, point int, rest string) {
	end := len(s)
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && s[i] != '.' {
			end = i
			break
		}
	}
	whole, fraction, dotted := strings.Cut(s[:end], ".")
	if whole == "" || (dotted && fraction == "") || strings.Contains(fraction, ".") {
		return "", 0, ""
	}
	return whole + fraction, len(fraction), s[end:]
}

// scale returns the powers of ten and of two that a suffix stands for.
func scale(suffix string) (ten int, two uint, ok bool) {
	switch suffix {
	case "":
		return 0, 0, true
	case "k":
		return 3, 0, true
	case "M":
		return 6, 0, true
	case "G":
		return 9, 0, true
	case "T":
		return 12, 0, true
	case "P":
		return 15, 0, true
	case "E":
		return 18, 0, true // for the sake of its error: always out of bounds
	case "Ki":
		return 0, 10, true
	case "Mi":
		return 0, 20, true
	case "Gi":
		return 0, 30, true
	case "Ti":
		return 0, 40, true
	case "Pi":
		return 0, 50, true
	case "Ei":
		return 0, 60, true
	}
	if suffix[0] == 'e' || suffix[0] == 'E' {
		n, err := strconv.Atoi(suffix[1:])
		return n, 0, err == nil && n >= -99 && n <= 99
	}
	return 0, 0, false
}

// wrongUnit refuses a suffix and says what was meant, where that is no riddle.
// tc's "mbit" is, its "mbps" is not: in tc that is bytes, elsewhere it is bits.
func wrongUnit(s, suffix string) *Error {
	number := strings.TrimSuffix(s, suffix)
	e := &Error{Value: s, Rule: "has no unit of a rate: k, M, G, T, P or Ki, Mi, Gi, Ti, Pi (bits per second)"}
	switch suffix {
	case "m":
		e.Rule = "is in thousandths of a bit"
	case "n", "u":
		e.Rule = "is a fraction of a bit"
		return e
	}
	unit := strings.ToLower(strings.TrimSpace(suffix))
	unit = strings.TrimSuffix(unit, "/s")
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "bits"), "bit")
	switch unit {
	case "", "k":
	case "m", "g", "t", "p", "ki", "mi", "gi", "ti", "pi":
		unit = strings.ToUpper(unit[:1]) + unit[1:]
	default:
		return e
	}
	if _, err := parseRate(number + unit); err == nil {
		e.Suggestion = number + unit
	}
	return e
}

func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}
