package render

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"candor.dev/candor/cgroup"
)

// buildHost makes the tree of a machine that testdata/hosts describes: comments;
// a line of its CPUs; then its files, each after a line "-- NAME --". What every
// CPU has in the same form is made from the one line: as many files as a machine
// with 128 CPUs has are no reading.
func buildHost(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/hosts", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	parts := strings.Split("\n"+string(text), "\n-- ")
	for line := range strings.Lines(parts[0]) {
		var m machine
		if _, err := fmt.Sscanf(line, "cpus %d sockets %d threads %d", &m.cpus, &m.sockets, &m.threads); err == nil {
			m.build(t, root)
		}
	}
	for _, part := range parts[1:] {
		file, content, ok := strings.Cut(part, " --")
		content = strings.TrimPrefix(content, "\n")
		if !ok {
			t.Fatalf("%s: no name: %.40q", name, part)
		}
		if content != "" && !strings.HasSuffix(content, "\n") {
			content += "\n" // the one before the next name
		}
		put(t, filepath.Join(root, file), content)
	}
	return root
}

func put(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, name, content)
}

// machine is one whose CPUs are numbered core by core, all first threads before
// all second ones, as firmware of two-socket machines has it. Without sockets the
// kernel is one without NUMA; else each is a node.
type machine struct{ cpus, sockets, threads int }

func (m machine) build(t testing.TB, root string) {
	t.Helper()
	cpu, node := filepath.Join(root, "sys/devices/system/cpu"), filepath.Join(root, "sys/devices/system/node")
	sockets := max(m.sockets, 1)
	cores := m.cpus / m.threads
	var info strings.Builder
	var all, inPackage, threads []int
	for id := range m.cpus {
		all = append(all, id)
	}
	for id := range m.cpus {
		core := id % cores
		socket := core / (cores / sockets)
		inPackage, threads = inPackage[:0], threads[:0]
		for other := range m.cpus {
			if other%cores/(cores/sockets) == socket {
				inPackage = append(inPackage, other)
			}
			if other%cores == core {
				threads = append(threads, other)
			}
		}
		fmt.Fprintf(&info, "processor\t: %d\ncpu MHz\t\t: 2800.000\nphysical id\t: %d\nsiblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\n\n",
			id, socket, len(inPackage), core%(cores/sockets), cores/sockets)
		dir := filepath.Join(cpu, "cpu"+strconv.Itoa(id))
		for file, content := range map[string]string{
			"topology/physical_package_id": strconv.Itoa(socket), "topology/core_id": strconv.Itoa(core % (cores / sockets)),
			"topology/thread_siblings_list": list(threads), "topology/thread_siblings": mask(threads, all),
			"topology/package_cpus_list": list(inPackage), "topology/package_cpus": mask(inPackage, all),
			"cache/index3/shared_cpu_list": list(inPackage), "cache/index3/level": "3", "cache/index3/size": "262144K",
			"cpuidle/state0/usage": "81234", "online": "1",
		} {
			put(t, filepath.Join(dir, file), content+"\n")
		}
		if m.sockets > 0 {
			link(t, fmt.Sprintf("../../node/node%d", socket), filepath.Join(dir, fmt.Sprintf("node%d", socket)))
			put(t, filepath.Join(node, fmt.Sprintf("node%d/cpulist", socket)), list(inPackage)+"\n")
		}
	}
	put(t, filepath.Join(root, "proc/cpuinfo"), info.String())
	for file, content := range map[string]string{
		"online": list(all), "present": list(all), "possible": "0-255", "offline": fmt.Sprintf("%d-255", m.cpus),
		"isolated": "", "kernel_max": "8191", "uevent": "", "power/control": "auto",
	} {
		put(t, filepath.Join(cpu, file), content+"\n")
	}
	if m.sockets > 0 {
		put(t, filepath.Join(node, "online"), fmt.Sprintf("0-%d\n", m.sockets-1))
	}
}

func list(ids []int) string { return string(cgroup.AppendList(nil, ids)) }

func mask(ids, all []int) string {
	return strings.TrimSpace(string(appendCPUMask(nil, slices.Sorted(slices.Values(ids)), all)))
}

func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// fixtureRoot gives the tree of a fixture: one that testdata/hosts describes, or a
// recorded one, whose name begins with the tree's.
func fixtureRoot(t testing.TB, name string) string {
	t.Helper()
	if _, err := fs.Stat(os.DirFS("testdata/hosts"), name+".txt"); err == nil {
		return buildHost(t, name)
	}
	return filepath.Join("testdata", name[:2])
}
