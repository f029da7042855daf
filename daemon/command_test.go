package daemon

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args string
		want commandLine
		err  string
	}{
		{args: "", want: commandLine{}},
		{args: "--config /c --state-dir=/s --own-cgroup", want: commandLine{config: "/c", stateDir: "/s", ownCgroup: true}},
		{args: "reload --state-dir /s", want: commandLine{command: "reload", stateDir: "/s"}},
		{args: "reload --own-cgroup", err: `unknown argument "--own-cgroup" (see candord --help)`},
		{args: "--standby", err: `unknown argument "--standby" (see candord --help)`},
		{args: "heal --state-dir /s", want: commandLine{command: "heal", stateDir: "/s"}},
		{
			args: "worker --state-dir /s --generation 7 --supervisor 12 --device 44",
			want: commandLine{
				command: "worker", stateDir: "/s", generation: 7, generationStr: "7",
				supervisor: 12, super: "12", device: 44, deviceStr: "44",
			},
		},
		{args: "--state-dir", err: "--state-dir needs a value"},
		{args: "--generation 7", err: `unknown argument "--generation" (see candord --help)`},
		{args: "serve", err: `unknown argument "serve" (see candord --help)`},
		{args: "worker --generation x", err: `--generation: strconv.ParseUint: parsing "x": invalid syntax`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got, err := parseCommandLine(strings.Fields(tt.args))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestCommandSaysWhatIsWrongInOneLine(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := Main([]string{"--help"}, fakeParts(), &out, &complaints); code != 0 || !strings.HasPrefix(out.String(), "candord serves") {
		t.Errorf("--help: %d, %q", code, out.String())
	}
	out.Reset()
	if code := Main([]string{"reload", "--help"}, fakeParts(), &out, &complaints); code != 0 || !strings.HasPrefix(out.String(), "candord reload lets") {
		t.Errorf("reload --help: %d, %q", code, out.String())
	}
	out.Reset()
	if code := Main([]string{"--version"}, fakeParts(), &out, &complaints); code != 0 || !strings.HasPrefix(out.String(), "candord ") {
		t.Errorf("--version: %d, %q", code, out.String())
	}
	if code := Main([]string{"--nonsense"}, fakeParts(), &out, &complaints); code != 1 || strings.Count(complaints.String(), "\n") != 1 {
		t.Errorf("--nonsense: %d, %q", code, complaints.String())
	}
}
