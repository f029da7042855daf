package resview

import (
	"strings"
	"testing"
	"time"

	"candor.dev/candor/ledger"
	"golang.org/x/sys/unix"
)

// below looks a path up in a container's directory, name by name.
func (c client) below(key, path string) uint64 {
	c.t.Helper()
	names := strings.Split(path, "/")
	node := c.file(key, names[0])
	for _, name := range names[1:] {
		var errno unix.Errno
		if node, errno = c.lookup(node, name); errno != 0 {
			c.t.Fatalf("lookup %s in %s: %v", name, path, errno)
		}
	}
	return node
}

func oneDirectory(t *testing.T) client {
	t.Helper()
	store, f := newStore(t), &fakes{}
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	return client{t, server(t, store, newSlots(t), f, 1)}
}

func TestDirectoriesHoldWhatTheContainerHasAndTheLayoutKnows(t *testing.T) {
	c := oneDirectory(t)
	for path, want := range map[string]string{
		"cpu":               ". .. online cpu0/ cpu5/ cpu6/",
		"cpu/cpu5":          ". .. online node0@ topology/",
		"cpu/cpu5/topology": ". .. core_id core_cpus_list",
	} {
		node := c.below("c1", path)
		for _, size := range []uint32{48, 4096} {
			if got := strings.Join(c.list(node, size), " "); got != want {
				t.Errorf("%s in pieces of %d: %s, want %s", path, size, got, want)
			}
		}
	}
	directory := c.below("c1", "cpu/cpu5")
	for _, name := range []string{"cache", "..", ".", "", "node1", "online/x", "cpu5"} {
		if _, errno := c.lookup(directory, name); errno == 0 {
			t.Errorf("%q is found", name)
		}
	}
	if _, errno := c.lookup(c.below("c1", "cpu"), "not-in-the-layout"); errno != unix.ENOENT {
		t.Errorf("what the layout does not know: %v", errno)
	}
	if _, errno := c.lookup(c.below("c1", "cpu/cpu5/online"), "x"); errno != unix.ENOTDIR {
		t.Errorf("below a file: %v", errno)
	}
}

func TestEachKindAnswersItsOwnRequests(t *testing.T) {
	c := oneDirectory(t)
	file, link, directory := c.below("c1", "cpu/cpu5/online"), c.below("c1", "cpu/cpu5/node0"), c.below("c1", "cpu/cpu5")
	if got := c.read(file, c.open(file), 0, 4096); !strings.HasPrefix(got, "view 5 cpu/cpu5/online ") {
		t.Errorf("file: %q", got)
	}
	if r := c.ask(opReadlink, link, nil); r.errno != 0 || !strings.HasPrefix(string(r.data), "view 5 cpu/cpu5/node0 ") {
		t.Errorf("link: %v %q", r.errno, r.data)
	}
	for node, mode := range map[uint64]uint32{file: unix.S_IFREG | 0o444, link: unix.S_IFLNK | 0o777, directory: unix.S_IFDIR | 0o555} {
		r := c.ask(opGetattr, node, make([]byte, 16))
		if got := le.Uint32(r.fixed[16+60:]); r.errno != 0 || got != mode || le.Uint64(r.fixed[16:]) != node {
			t.Errorf("node %#x: %v, mode %#o, want %#o", node, r.errno, got, mode)
		}
		if r := c.ask(opOpen, node, make([]byte, 8)); (r.errno == 0) != (node == file) {
			t.Errorf("open of %#o: %v", mode, r.errno)
		}
		if r := c.ask(opRead, node, readBody(1, 0, 100)); (r.errno == 0) != (node == file) {
			t.Errorf("read of %#o: %v", mode, r.errno)
		}
		if r := c.ask(opReadlink, node, nil); (r.errno == 0) != (node == link) {
			t.Errorf("readlink of %#o: %v", mode, r.errno)
		}
		if r := c.ask(opReaddir, node, readBody(0, 0, 100)); (r.errno == 0) != (node == directory) {
			t.Errorf("readdir of %#o: %v", mode, r.errno)
		}
	}
}

// The kernel may keep a CPU's name only for as long as content is reused: the
// CPUs follow quota and cpuset.
func TestOnlyNamesOfCPUsAreForgottenSoon(t *testing.T) {
	c := oneDirectory(t)
	for path, want := range map[string]time.Duration{
		"cpu": forever, "cpu/online": forever, "cpu/cpu5": contentAge, "cpu/cpu5/topology": forever,
	} {
		parent, name := dirNode(5), path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			parent, name = c.below("c1", path[:i]), path[i+1:]
		}
		r := c.ask(opLookup, parent, append([]byte(name), 0))
		got := time.Duration(le.Uint64(r.fixed[16:]))*time.Second + time.Duration(le.Uint32(r.fixed[32:]))
		if r.errno != 0 || got != want {
			t.Errorf("%s: %v, believed for %v, want %v", path, r.errno, got, want)
		}
	}
}

func TestASuccessorKnowsEveryNode(t *testing.T) {
	store, f, slots := newStore(t), &fakes{}, newSlots(t)
	writeRecord(t, store, "c1", &ledger.View{ID: 5})
	f.add(5)
	one := client{t, server(t, store, slots, f, 1)}
	nodes := map[string]uint64{}
	for _, path := range []string{"cpu", "cpu/cpu5", "cpu/cpu5/online", "cpu/cpu5/node0", "cpu/cpu5/topology/core_id"} {
		nodes[path] = one.below("c1", path)
	}
	for path, node := range nodes {
		c := client{t, server(t, store, slots, f, 2)} // one that has looked up nothing
		var got string
		switch path {
		case "cpu", "cpu/cpu5":
			got = strings.Join(c.list(node, 4096), " ")
		case "cpu/cpu5/node0":
			got = string(c.ask(opReadlink, node, nil).data)
		default:
			got = c.read(node, 99, 0, 4096)
		}
		if !strings.Contains(got, path) && !strings.Contains(got, "online") {
			t.Errorf("%s: %q", path, got)
		}
	}
	// Two containers' nodes differ, and those of no container are stale.
	n, _ := one.s.tree.layout.Find("cpu/cpu5/online")
	if belowNode(5, n) != nodes["cpu/cpu5/online"] || belowNode(6, n) == belowNode(5, n) {
		t.Errorf("node %#x, want %#x", nodes["cpu/cpu5/online"], belowNode(5, n))
	}
	if r := one.ask(opRead, belowNode(6, n), readBody(1, 0, 10)); r.errno != unix.ESTALE {
		t.Errorf("a container without a record: %v", r.errno)
	}
}

func TestNodesWithoutAMeaning(t *testing.T) {
	c := oneDirectory(t)
	n, _ := c.s.tree.layout.Find("cpu/cpu5/online")
	for _, node := range []uint64{0, belowBit, belowNode(0, n), belowNode(5, n) | 511, dirNode(5) | uint64(len(Files())+1), ^uint64(0)} {
		for _, op := range []uint32{opLookup, opGetattr, opReadlink, opOpen, opRead, opReaddir} {
			if r := c.ask(op, node, append([]byte("online\x00"), make([]byte, 40)...)); r.errno == 0 {
				t.Errorf("opcode %d of node %#x is answered", op, node)
			}
		}
	}
}

func TestWhatAContainerDoesNotHaveIsNotFound(t *testing.T) {
	c := oneDirectory(t)
	// The fake has no pressure: nothing is bound in its place.
	if _, errno := c.lookup(dirNode(5), "pressure"); errno != unix.ENOENT {
		t.Errorf("pressure: %v", errno)
	}
	// node is not looked for, as the target decides; but it is empty.
	if _, errno := c.lookup(c.below("c1", "node"), "online"); errno != unix.ENOENT {
		t.Errorf("node/online: %v", errno)
	}
}

func TestContentsOfDirectoriesAreBounded(t *testing.T) {
	c := oneDirectory(t)
	container, err := c.s.tree.byID(5, func() {})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		number := uint64(i%60) | uint64(i)<<13
		if n, ok := c.s.tree.layout.Node(number); ok && n.Kind().IsFile() {
			c.read(belowNode(5, n), 1, 0, 100)
		}
	}
	if len(container.belows) > maxBelow {
		t.Errorf("%d contents are kept", len(container.belows))
	}
}
