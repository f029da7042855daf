package request

import (
	"math/big"
	"strings"
	"testing"
)

func TestParseRate(t *testing.T) {
	tests := []struct {
		in   string
		want Rate
		err  string // part of the error; "" = taken
	}{
		{"1k", 1000, ""},
		{"1000", 1000, ""},
		{"100M", 100e6, ""},
		{"+100M", 100e6, ""},
		{"1.5G", 1.5e9, ""},
		{"0.5M", 500e3, ""},
		{"1P", 1e15, ""},
		{"0.001E", 1e15, ""},
		{"1000000000000000", 1e15, ""},
		{"0000000000000000000001000", 1000, ""},
		{"1.00000000000000000000000G", 1e9, ""},
		{"1Ki", 1024, ""},
		{"1.5Ki", 1536, ""},
		{"10Mi", 10 << 20, ""},
		{"1Gi", 1 << 30, ""},
		{"0.5Ti", 1 << 39, ""},
		{"1e6", 1e6, ""},
		{"1E6", 1e6, ""},
		{"1.5e+6", 15e5, ""},
		{"1000000e-3", 1000, ""},

		{"", 0, "is empty"},
		{"-1", 0, "is negative"},
		{"-0", 0, "is negative"},
		{"0", 0, "is zero"},
		{"0G", 0, "is zero"},
		{"0.0", 0, "is zero"},
		{"10Z", 0, "has no unit of a rate"},
		{"100m", 0, `thousandths of a bit; did you mean "100M"?`},
		{"1m", 0, `did you mean "1M"?`},
		{"100u", 0, "fraction of a bit"},
		{"100K", 0, `did you mean "100k"?`},
		{"1g", 0, `did you mean "1G"?`},
		{"1ki", 0, `did you mean "1Ki"?`},
		{"10mbit", 0, `did you mean "10M"?`},
		{"10Mbit/s", 0, `did you mean "10M"?`},
		{"10 M", 0, `did you mean "10M"?`},
		{"5000bit", 0, `did you mean "5000"?`},
		{"1e", 0, "has no unit"},
		{"1e6M", 0, "has no unit"},
		{"1e99999", 0, "has no unit"},
		{"999", 0, "out of bounds"},
		{"0.5", 0, "whole number of bits"},
		{"1.0001k", 0, "whole number of bits"},
		{"0.1Ki", 0, "whole number of bits"},
		{"1e-30", 0, "whole number of bits"},
		{"0.00000000000000000000000001Ki", 0, "too many digits"},
		{"1.1P", 0, "out of bounds"},
		{"1Pi", 0, "out of bounds"},
		{"1Ei", 0, "out of bounds"},
		{"1E", 0, "out of bounds"},
		{"1e99", 0, "out of bounds"},
		{"18446744073709551616", 0, "too many digits"},
		{"99999999999999999999999999999", 0, "too many digits"},
		{"9999999999999999999Pi", 0, "out of bounds"},
		{"9999999999999999999.9Ei", 0, "too many digits"},
		{"999999999999999999.9Ei", 0, "out of bounds"},
		{".5M", 0, "is not a rate"},
		{"5.M", 0, "is not a rate"},
		{"1.2.3M", 0, "is not a rate"},
		{"M", 0, "is not a rate"},
		{"+", 0, "is not a rate"},
		{"++1M", 0, "is not a rate"},
		{"1,5G", 0, "has no unit"},
		{" 1M", 0, "is not a rate"},
		{"1M ", 0, `did you mean "1M"?`},
		{"１M", 0, "is not a rate"},
		{strings.Repeat("0", 40) + "1M", 0, "is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseRate(tt.in)
			if tt.err == "" {
				if err != nil || got != tt.want {
					t.Errorf("got %d, %v, want %d", got, err, tt.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || got != 0 {
				t.Errorf("got %d, %v, want an error with %q", got, err, tt.err)
			}
		})
	}
}

// Mbps is bytes to tc and bits to everybody else: there must be no guess.
func TestNoGuessWhereBitsAndBytesAreMixedUp(t *testing.T) {
	for _, in := range []string{"10Mbps", "10MB", "10MB/s", "10Mb", "10mbps"} {
		_, err := ParseRate(in)
		if err == nil || strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestRatePrints(t *testing.T) {
	for in, want := range map[Rate]string{
		0: "0", 1: "1", 1000: "1k", 1024: "1024", 1500e3: "1500k", 1e9: "1G", 1e15: "1P", 1001e6: "1001M",
	} {
		if got := in.String(); got != want {
			t.Errorf("%d prints as %s, want %s", uint64(in), got, want)
		}
	}
}

// quantity is what a rate's text means, by exact arithmetic and without bounds.
func quantity(s string) (*big.Rat, bool) {
	unit := new(big.Rat).SetInt64(1)
	for suffix, power := range map[string]int{"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6} {
		for _, base := range []int64{1000, 1024} {
			name := suffix
			if base == 1024 {
				name = strings.ToUpper(suffix) + "i"
			}
			if suffix == "k" && base == 1024 {
				name = "Ki"
			}
			if rest, ok := strings.CutSuffix(s, name); ok {
				s = rest
				unit.SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(power)), nil))
				v, ok := new(big.Rat).SetString(s)
				if !ok {
					return nil, false
				}
				return v.Mul(v, unit), true
			}
		}
	}
	v, ok := new(big.Rat).SetString(s)
	return v, ok
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{
		"1k", "100M", "100m", "1.5G", "1Ki", "0.5Ti", "1e6", "1E-3", "-1", "0", "10Z", "", "+1P", "999999999999999999.9Ei",
		"10mbit", "5000bit", "10MB/s", "0.00000000000000000000000001Ki", "1_0k", "0x10k", "1/2k",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			oneLine(t, err)
			if e := err.(*Error); e.Suggestion != "" { //nolint:errorlint,forcetypeassert // the contract
				if _, err := ParseRate(e.Suggestion); err != nil {
					t.Errorf("%q: the suggestion %q is refused: %v", s, e.Suggestion, err)
				}
			}
			return
		}
		if r < MinRate || r > MaxRate {
			t.Errorf("%q is read as %d: out of bounds", s, r)
		}
		if want, ok := quantity(s); !ok || want.Cmp(new(big.Rat).SetUint64(uint64(r))) != 0 {
			t.Errorf("%q is read as %d, and is %v", s, r, want)
		}
		if again, err := ParseRate(r.String()); err != nil || again != r {
			t.Errorf("%q prints as %s, which is read as %d, %v", s, r, again, err)
		}
	})
}
