package testnode

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// hotplugEnv names a program by which a virtio NIC is plugged into the running
// machine and pulled out: "plug ID MAC", which prints the interface's name, and
// "unplug ID MAC". Both wait until the kernel has done so.
const hotplugEnv = "CANDOR_TEST_HOTPLUG"

// hotplugID is what the machine calls the NIC that [Plug] plugs in. There is room
// for one.
const hotplugID = "cloud0"

// SkipWithoutHotplug skips a test on a machine into which no NIC can be plugged.
func SkipWithoutHotplug(t testing.TB) {
	t.Helper()
	if os.Getenv(hotplugEnv) == "" {
		t.Skipf("needs a machine into which NICs can be plugged (%s): runs in the test guest", hotplugEnv)
	}
}

// Plug plugs a NIC in and brings it to the node, under the name that it is given.
func Plug(t testing.TB, mac, name string) {
	t.Helper()
	machines := hotplug(t, "plug", mac)
	out, err := exec.Command("nsenter", "--net=/proc/1/ns/net", "ip", "link", "set", machines, "netns", strconv.Itoa(os.Getpid()), "name", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// Unplug pulls out the NIC of [Plug], wherever it is.
func Unplug(t testing.TB, mac string) {
	t.Helper()
	hotplug(t, "unplug", mac)
}

func hotplug(t testing.TB, verb, mac string) string {
	t.Helper()
	out, err := exec.Command(os.Getenv(hotplugEnv), verb, hotplugID, mac).CombinedOutput()
	if err != nil {
		t.Fatalf("%s a NIC: %v: %s", verb, err, out)
	}
	return strings.TrimSpace(string(out))
}
