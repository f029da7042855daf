package testnode

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pfsEnv names two PFs on one wire that the tests may have for themselves, by
// their PCI addresses.
const pfsEnv = "CANDOR_TEST_PFS"

// patience is how long hardware may take to find its link, and a driver to make an
// interface.
const patience = 10 * time.Second

// PFs are the PCI addresses of the PFs that the tests may have, two of them. A test
// that has none is skipped.
func PFs(t testing.TB) []string {
	t.Helper()
	pfs := strings.Fields(os.Getenv(pfsEnv))
	if len(pfs) != 2 {
		t.Skipf("needs two SR-IOV PFs of its own (%s): runs in the test guest", pfsEnv)
	}
	return pfs
}

// Link is an interface as ip(8) shows it.
type Link struct {
	Name   string          `json:"ifname"`
	MAC    string          `json:"address"`
	Parent string          `json:"parentdev"` // the PCI address of its device
	VFs    json.RawMessage `json:"vfinfo_list"`
}

// Links lists the node's interfaces.
func Links(t testing.TB) []Link {
	t.Helper()
	return parse(t, []byte(IP(t, "-j", "-d", "link", "show")))
}

func parse(t testing.TB, text []byte) (links []Link) {
	t.Helper()
	if err := json.Unmarshal(text, &links); err != nil {
		t.Fatal(err)
	}
	return links
}

// LinkOf is the name of a PCI device's interface on the node, "" where there is none.
func LinkOf(t testing.TB, address string) string {
	t.Helper()
	for _, link := range Links(t) {
		if link.Parent == address {
			return link.Name
		}
	}
	return ""
}

// NameOf is what the interface of a PCI device is called on the node: by the
// machine's own names, of which the kernel gives the first that is free, those of
// VFs and PFs would meet there.
func NameOf(address string) string { return "n" + strings.ReplaceAll(address, ":", "-") }

// Take brings the interface of a PCI device from the machine's namespace into the
// node's, and returns the name that it had; "" where the machine's has none.
func Take(t testing.TB, address string) (name string) {
	t.Helper()
	host := []string{"--net=/proc/1/ns/net", "ip"}
	out, err := exec.Command("nsenter", append(host, "-j", "-d", "link", "show")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range parse(t, out) {
		if link.Parent != address {
			continue
		}
		name = link.Name
		out, err := exec.Command("nsenter", append(host, "link", "set", link.Name, "netns", strconv.Itoa(os.Getpid()), "name", NameOf(address))...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return name
}

// TakePF brings a PF to the node, up and with a link, and so many VFs of it. The
// test gives it back at its end, without VFs.
func TakePF(t testing.TB, address string, vfs int) {
	t.Helper()
	machines := Take(t, address)
	t.Cleanup(func() {
		SetVFs(t, address, 0)
		IP(t, "link", "set", LinkOf(t, address), "down", "netns", "1", "name", machines)
	})
	name := LinkOf(t, address)
	IP(t, "link", "set", name, "up")
	Within(t, name+" has a link", func() bool { return strings.Contains(IP(t, "link", "show", name), "LOWER_UP") })
	SetVFs(t, address, vfs)
}

// SetVFs gives a PF so many VFs, with their interfaces on the node.
func SetVFs(t testing.TB, pf string, count int) {
	t.Helper()
	Write(t, Sysfs(pf, "sriov_numvfs"), "0")
	if count == 0 {
		return
	}
	Write(t, Sysfs(pf, "sriov_numvfs"), strconv.Itoa(count))
	TakeVFs(t, pf, count)
	// On 6.1 the PF knows the MAC that a VF's driver has drawn once the VF was up.
	for i := range count {
		IP(t, "link", "set", NameOf(VF(t, pf, i)), "up")
		IP(t, "link", "set", NameOf(VF(t, pf, i)), "down")
	}
}

// TakeVFs brings the interfaces of a PF's first VFs to the node.
func TakeVFs(t testing.TB, pf string, count int) {
	t.Helper()
	for i := range count {
		Within(t, "a VF's interface", func() bool {
			Take(t, VF(t, pf, i))
			return LinkOf(t, VF(t, pf, i)) != ""
		})
	}
}

// VF is the PCI address of a PF's VF.
func VF(t testing.TB, pf string, index int) string {
	t.Helper()
	to, err := os.Readlink(Sysfs(pf, fmt.Sprintf("virtfn%d", index)))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(to)
}

// Driver is the folder of a PCI device's driver, where it can be bound and unbound.
func Driver(t testing.TB, address string) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(Sysfs(address, "driver"))
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// Sysfs is a path below the folder of a PCI device.
func Sysfs(address string, elements ...string) string {
	return filepath.Join(append([]string{"/sys/bus/pci/devices", address}, elements...)...)
}

// Write writes to a file of sysfs.
func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// Within waits until something is so, as long as hardware may take.
func Within(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
