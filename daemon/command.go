package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"candor.dev/candor/resview"
	"candor.dev/candor/statedir"
	"candor.dev/candor/version"
	"golang.org/x/sys/unix"
)

// Parts are what candord is made of beside this package.
type Parts struct {
	// StateDir finds the state directory by the configuration's path. It is
	// not asked where --state-dir is given.
	StateDir func(configPath string) (string, error)
	// DefaultConfig is the path of the configuration without --config.
	DefaultConfig string
	// Log makes the logger of a component.
	Log func(stateDir, component string) *slog.Logger
	// Worker makes what a worker serves, and the tasks that it runs beside.
	Worker func(stateDir, configPath string, log *slog.Logger) (resview.OpenFunc, []func(context.Context) error, error)
	// Metrics makes the task that answers a monitoring system; nil where none
	// is answered. See [WorkerConfig].
	Metrics func(stateDir, configPath string, log *slog.Logger) func(ctx context.Context, status func() Status) error
}

const usage = `candord serves the resource view and gives back what dead containers hold.

usage: candord [--config FILE] [--state-dir DIR]
       candord reload [--config FILE] [--state-dir DIR]

  --config FILE     the node's policy; its state_dir says where candord works
  --state-dir DIR   the state directory, instead of the policy's
  --own-cgroup      move into a cgroup of its own (for a candord that an engine started)
  --help, --version

candord is a small supervisor and a worker that does the work. Either may be killed
or replaced; readers in containers notice nothing.

"candord reload" has the candord that runs replace its worker by one of the file
that lies at its path now: see "candord reload --help".

SIGTERM ends it. SIGHUP ends it too, but leaves the worker that serves the view
of running containers to the next candord, which takes over from it: a restart of
the unit ("systemctl restart candord") is so, and replaces the supervisor as well.

Under systemd it takes its socket from candord.socket, and leaves the connection
with systemd (FileDescriptorStoreMax= of the unit), so that readers wait and see no
error even while both are dead.
`

const reloadUsage = `candord reload lets a worker of a newly installed candord take over.

usage: candord reload [--config FILE] [--state-dir DIR]

  --config FILE     the node's policy; its state_dir says which candord is meant
  --state-dir DIR   the state directory, instead of the policy's

Install the new files over the old ones (put them in their place, never write into
them), then reload. The candord that runs starts a worker of the file at its path
beside the one that serves. When that one is ready it takes over, and readers in
containers notice nothing. On success one line says which version served before and
which one does now:

  reloaded: version 0.4.0, generation 7 -> version 0.5.0, generation 8

A new candord that does not start, or cannot take over, is an error, and the old
worker serves on. Reloads that are asked for at the same time come one after the
other. The exit status is 0 when the new worker serves, else 1.

The supervisor goes on with the code that it was started with. It is replaced by a
restart of the unit (systemctl restart candord; without systemd SIGHUP, and the next
container starts another), which readers do not notice either.

"systemctl reload candord" is the same command.
`

// commandLine are candord's arguments. The commands worker and heal are for candord
// itself.
type commandLine struct {
	command              string
	config, stateDir     string
	ownCgroup            bool
	standby              bool
	generation           uint64
	supervisor           int
	help, version        bool
	device               uint64
	viewError            string
	deviceStr            string
	generationStr, super string
}

func parseCommandLine(args []string) (c commandLine, err error) {
	if len(args) > 0 && (args[0] == "worker" || args[0] == "heal" || args[0] == "reload") {
		c.command, args = args[0], args[1:]
	}
	values := map[string]*string{"--config": &c.config, "--state-dir": &c.stateDir}
	if c.command == "worker" {
		values["--generation"], values["--supervisor"] = &c.generationStr, &c.super
		values["--device"], values["--view-error"] = &c.deviceStr, &c.viewError
	}
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		switch {
		case name == "--help" || name == "-h":
			c.help = true
		case name == "--version":
			c.version = true
		case name == "--standby" && c.command == "worker":
			c.standby = true
		case name == "--own-cgroup" && c.command == "":
			c.ownCgroup = true
		case values[name] == nil:
			return c, fmt.Errorf("unknown argument %q (see candord --help)", name)
		case joined:
			*values[name] = value
		case len(args) == 0:
			return c, fmt.Errorf("%s needs a value", name)
		default:
			*values[name], args = args[0], args[1:]
		}
	}
	if c.command == "worker" {
		if c.generation, err = strconv.ParseUint(c.generationStr, 10, 64); err != nil {
			return c, fmt.Errorf("--generation: %w", err)
		}
		if c.supervisor, err = strconv.Atoi(c.super); err != nil {
			return c, fmt.Errorf("--supervisor: %w", err)
		}
		if c.device, err = strconv.ParseUint(c.deviceStr, 10, 64); err != nil {
			return c, fmt.Errorf("--device: %w", err)
		}
	}
	return c, nil
}

// Main is candord: it runs what the arguments (without the program's name) say
// and returns the exit status.
func Main(args []string, parts Parts, stdout, stderr io.Writer) int {
	c, err := parseCommandLine(args)
	if err == nil {
		err = run(c, parts, stdout)
	}
	if errors.Is(err, resview.ErrDisconnected) {
		return exitDisconnected
	}
	if err != nil {
		fmt.Fprintf(stderr, "candord: %s\n", oneLine(err))
		return 1
	}
	return 0
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func run(c commandLine, parts Parts, stdout io.Writer) (err error) {
	switch {
	case c.help && c.command == "reload":
		_, err = io.WriteString(stdout, reloadUsage)
		return err
	case c.help:
		_, err = io.WriteString(stdout, usage)
		return err
	case c.version:
		_, err = fmt.Fprintf(stdout, "candord %s\n", version.String())
		return err
	case os.Geteuid() != 0:
		return errors.New("has to run as root")
	}
	unix.Umask(0o077)
	// Executed through /proc/self/exe it would be called "exe" in ps(1).
	if name, err := unix.BytePtrFromString("candord"); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	if c.config == "" {
		c.config = parts.DefaultConfig
	}
	if c.stateDir == "" {
		if c.stateDir, err = parts.StateDir(c.config); err != nil {
			return fmt.Errorf("%w (--state-dir DIR works without a policy)", err)
		}
	}
	switch c.command {
	case "worker":
		return runWorker(c, parts)
	case "heal":
		return heal(c.stateDir, parts.Log(c.stateDir, "candord"))
	case "reload":
		return runReload(c.stateDir, stdout)
	}
	if err := settle(); err != nil {
		return err
	}
	return runSupervisor(c, parts)
}

func runWorker(c commandLine, parts Parts) error {
	log := parts.Log(c.stateDir, "candord")
	open, background, err := parts.Worker(c.stateDir, c.config, log)
	if err != nil {
		if c.standby {
			refuse(err)
		}
		return err
	}
	// Signals of a terminal or of systemd are meant for the supervisor; only
	// it knows whether the worker has to go (but see endWhenOrphaned).
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	config := WorkerConfig{
		StateDir:   c.stateDir,
		Generation: c.generation,
		Supervisor: c.supervisor,
		Device:     c.device,
		ViewError:  c.viewError,
		Standby:    c.standby,
		Open:       open,
		Background: background,
		Log:        log,
	}
	if parts.Metrics != nil {
		config.Metrics = parts.Metrics(c.stateDir, c.config, log)
	}
	return RunWorker(context.Background(), config)
}

func runReload(stateDir string, stdout io.Writer) error {
	before, after, err := Reload(context.Background(), stateDir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "reloaded: version %s, generation %d -> version %s, generation %d\n",
		before.Version, before.Generation, after.Version, after.Generation)
	return err
}

func runSupervisor(c commandLine, parts Parts) error {
	socket, stored, err := takeActivated()
	if err != nil {
		return err
	}
	notify := os.Getenv("NOTIFY_SOCKET")
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil { // ours, and no worker's
		return err
	}
	// Best effort: it needs CAP_SYS_RESOURCE.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0)
	executable, err := os.Executable()
	if err != nil {
		executable = ""
	}
	stop := make(chan Stop, 1)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for sig := range signals {
			how := Terminate
			if sig == syscall.SIGHUP {
				how = HandOver
			}
			select {
			case stop <- how:
			default: // it is ending already
			}
		}
	}()
	s, err := NewSupervisor(SupervisorConfig{
		StateDir:   c.stateDir,
		ConfigPath: c.config,
		Executable: executable,
		OwnCgroup:  c.ownCgroup,
		Socket:     socket,
		Store:      newDescriptorStore(notify, stored),
		Log:        parts.Log(c.stateDir, "candord"),
	})
	if err != nil {
		return err
	}
	return s.Run(stop)
}

// settledEnv marks a candord that is where it has to be.
const settledEnv = "CANDORD_SETTLED"

// settle executes candord once more in pid 1's mount namespace and without the
// descriptors that its starter left open. Entering a namespace on one thread
// would leave the Go runtime's others behind.
func settle() error {
	if os.Getenv(settledEnv) != "" {
		return os.Unsetenv(settledEnv)
	}
	first := uint(listenFirst + activated())
	if err := unix.CloseRange(first, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		// Linux 5.11; without it the descriptors stay open, no more.
		_ = err
	}
	env := append(os.Environ(), settledEnv+"=1")
	err := statedir.InHostMounts(func() error {
		if err := unix.Chdir("/"); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", os.Args, env)
	})
	return fmt.Errorf("start in pid 1's mount namespace: %w", err)
}
