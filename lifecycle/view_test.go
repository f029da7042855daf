package lifecycle

import (
	"testing"
	"time"
)

func TestParseOffsets(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic           0         0\nboottime        -3197 876543211\n": -3197*time.Second + 876543211,
		"boottime 9223372035 999999999\n":                                    9223372035*time.Second + 999999999,
		"monotonic 5 0\n":                                                    0,
		"":                                                                   0,
	} {
		if got, err := parseOffsets([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"boottime x 0\n", "boottime 0 x\n", "boottime 0 -1\n", "boottime 0 1000000000\n", "boottime 9223372036 0\n", "boottime -9223372036854775808 0\n"} {
		if got, err := parseOffsets([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzParseOffsets(f *testing.F) {
	f.Add([]byte("monotonic           0         0\nboottime        -3197 876543211\n"))
	f.Add([]byte("boottime 9223372035 999999999"))
	f.Fuzz(func(t *testing.T, text []byte) {
		offset, err := parseOffsets(text)
		if err != nil && offset != 0 {
			t.Errorf("%q: %v with %v", text, offset, err)
		}
	})
}
