package resview

import (
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTopmostViews(t *testing.T) {
	const proc = "30 20 0:25 / /proc rw - proc proc rw\n"
	dead, alive := unix.Mkdev(0, 50), unix.Mkdev(0, 61)
	for _, tt := range []struct {
		name, info string
		want       map[string]uint64
	}{
		{"nothing bound", proc, map[string]uint64{}},
		{"one", proc + "31 30 0:50 /c1/meminfo /proc/meminfo ro - fuse.candor candor ro\n", map[string]uint64{"/proc/meminfo": dead}},
		{
			"a living one upon a dead one",
			proc + "31 30 0:50 / /proc/meminfo ro - fuse.candor candor ro\n" + "40 31 0:61 / /proc/meminfo ro - fuse.candor candor ro\n",
			map[string]uint64{"/proc/meminfo": alive},
		},
		{
			"a living one beneath a dead one",
			proc + "31 40 0:50 / /proc/meminfo ro - fuse.candor candor ro\n" + "40 30 0:61 / /proc/meminfo ro - fuse.candor candor ro\n",
			map[string]uint64{"/proc/meminfo": dead},
		},
		{
			"another file system upon ours",
			proc + "31 30 0:50 / /proc/meminfo ro - fuse.candor candor ro\n" + "41 31 0:70 / /proc/meminfo rw - tmpfs tmpfs rw\n",
			map[string]uint64{},
		},
		{
			"a rootfs with a space",
			`31 30 0:50 / /run/my\040box/rootfs/proc/stat ro - fuse.candor candor ro` + "\n",
			map[string]uint64{"/run/my box/rootfs/proc/stat": dead},
		},
		{"another FUSE", proc + "31 30 0:50 / /proc/meminfo rw shared:3 master:4 - fuse.lxcfs lxcfs rw\n", map[string]uint64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := topmostViews(tt.info)
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	for _, odd := range []string{"x\n", "1 2 3 / /a rw - t s o\n", "1 2 0:x / /a rw - t s o\n"} {
		if _, err := topmostViews(odd); err == nil {
			t.Errorf("%q is taken", odd)
		}
	}
}

// A container chooses what is mounted in it, and where.
func FuzzTopmostViews(f *testing.F) {
	f.Add("30 20 0:25 / /proc rw - proc proc rw\n31 30 0:50 / /proc/meminfo ro - fuse.candor candor ro\n")
	f.Add("31 31 0:50 / /a\\040b\\777\\ ro shared:1 - fuse.candor candor ro\n")
	f.Add("x\n\n - - ")
	f.Fuzz(func(t *testing.T, text string) {
		views, err := topmostViews(text)
		if err == nil && len(views) > strings.Count(text, FSType) {
			t.Errorf("%q: %v", text, views)
		}
	})
}
