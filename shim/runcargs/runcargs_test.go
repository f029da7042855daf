package runcargs

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want Command
	}{
		// As containerd calls it.
		{
			"--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid c1",
			Command{Name: "create", Root: "/run/containerd/runc/k8s.io", Log: "/b/log.json", LogFormat: "json", Bundle: "/b", ID: "c1"},
		},
		{
			"--root /r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p --console-socket /s --no-pivot c1",
			Command{Name: "create", Root: "/r", Log: "/b/log.json", LogFormat: "json", SystemdCgroup: true, Bundle: "/b", ID: "c1"},
		},
		{"--root /r --log /l --log-format json start c1", Command{Name: "start", Root: "/r", Log: "/l", LogFormat: "json", ID: "c1"}},
		{"--root /r delete --force c1", Command{Name: "delete", Root: "/r"}},
		// As Docker, Podman, CRI-O and buildkit do.
		{"--root /var/run/docker/runtime-runc/moby --log /l --log-format json --systemd-cgroup create -b /b --no-new-keyring c1", Command{
			Name: "create", Root: "/var/run/docker/runtime-runc/moby", Log: "/l", LogFormat: "json", SystemdCgroup: true, Bundle: "/b", ID: "c1",
		}},
		{"--log-format=json --log /l run --bundle /b --keep c1", Command{Name: "run", Log: "/l", LogFormat: "json", Bundle: "/b", ID: "c1"}},
		{"--log /l restore --detach --pid-file /p --image-path /i --work-path /w -b /b --no-subreaper --empty-ns network --lsm-profile x c1", Command{
			Name: "restore", Log: "/l", Bundle: "/b", ID: "c1",
		}},
		// A container whose name is a subcommand's.
		{"delete create", Command{Name: "delete"}},
		{"kill run KILL", Command{Name: "kill"}},
		{"run create", Command{Name: "run", ID: "create"}},
		{"start run", Command{Name: "start", ID: "run"}},
		{"--root create start c1", Command{Name: "start", Root: "create", ID: "c1"}},
		{"--criu run --rootless auto state create", Command{Name: "state"}},
		// Ways to write a flag.
		{"-root=/r -log-format text create -bundle=/b c1", Command{Name: "create", Root: "/r", LogFormat: "text", Bundle: "/b", ID: "c1"}},
		{"--debug create c1 --bundle /b", Command{Name: "create", Bundle: "/b", ID: "c1"}},
		{"--debug=true --systemd-cgroup=false create -b=/b c1", Command{Name: "create", Bundle: "/b", ID: "c1"}},
		{"create -b /first --bundle=/last c1", Command{Name: "create", Bundle: "/last", ID: "c1"}},
		{"-- create -- c1", Command{Name: "create", ID: "c1"}},
		{"create -- -b", Command{Name: "create", ID: "-b"}},
		{"create --bundle --no-pivot c1", Command{Name: "create", Bundle: "--no-pivot", ID: "c1"}},
		{"create c1", Command{Name: "create", ID: "c1"}},
		{"run --preserve-fds 3 -d c1", Command{Name: "run", ID: "c1"}},
		// crun's, and flags that nobody knows.
		{"--cgroup-manager cgroupfs create -b /b c1", Command{Name: "create", Bundle: "/b", ID: "c1"}},
		{"--new-switch create -b /b c1", Command{Name: "create", Bundle: "/b", ID: "c1"}},
		{"--new-value x create -b /b c1", Command{Name: "create", Bundle: "/b", ID: "c1"}},
		{"--new-switch --debug create c1", Command{Name: "create", ID: "c1"}},
		// exec's arguments are the container's business.
		{"exec -e X=1 c1 create -b /b", Command{Name: "exec"}},
		// Nothing to run.
		{"", Command{Help: true}},
		{"--version", Command{Help: true}},
		{"-v", Command{Help: true}},
		{"--root", Command{Help: true}},
		{"--help create", Command{Name: "create", Help: true}},
		{"create --help", Command{Name: "create", Help: true}},
		{"create --bundle", Command{Name: "create"}},
		{"help create", Command{Name: "help", Help: true}},
		{"features", Command{Name: "features"}},
		{"-", Command{Name: "-"}},
	} {
		if got := Parse(strings.Fields(c.args)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.args, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("--root\x00/r\x00create\x00--bundle\x00/b\x00c1")
	f.Add("--\x00-\x00=\x00--=")
	f.Fuzz(func(_ *testing.T, line string) {
		Parse(strings.Split(line, "\x00")) // must not panic
	})
}
