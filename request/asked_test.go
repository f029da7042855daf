package request

import "testing"

func TestAskedNamesPoolsAndLimit(t *testing.T) {
	for _, test := range []struct {
		annotations map[string]string
		want        string
	}{
		{nil, ""},
		{map[string]string{KeyResourceView: "on"}, ""},
		{map[string]string{KeyNIC: "pool=cloud,mac=52:54:00:00:00:01"}, "pool cloud"},
		{map[string]string{KeyEgressLimit: "50M"}, "egress limit 50M"},
		{
			map[string]string{KeyNICs: `[{"pool":"cloud"},{"pool":"cloud"},{"pool":"fast"}]`, KeyEgressLimit: "1G"},
			"pools cloud, fast and egress limit 1G",
		},
	} {
		r, err := Parse(test.annotations)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Asked(); got != test.want {
			t.Errorf("%v: %q, want %q", test.annotations, got, test.want)
		}
	}
}
