package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pciBus is the PCI bus as sysfs shows it. Which network namespace sysfs was
// mounted in does not matter here; it does for the devices' net folders, which are
// empty for an interface that is in another one, and so are not asked.
type pciBus string

// sysPCI is where sysfs has the machine's devices.
const sysPCI pciBus = "/sys/bus/pci/devices"

func (b pciBus) path(address string, elements ...string) string {
	return filepath.Join(append([]string{string(b), address}, elements...)...)
}

// pfs returns the addresses of all devices that can have VFs.
func (b pciBus) pfs() ([]string, error) {
	files, err := filepath.Glob(b.path("*", "sriov_numvfs"))
	if err != nil {
		return nil, fmt.Errorf("list PFs: %w", err)
	}
	addresses := make([]string, len(files))
	for i, f := range files {
		addresses[i] = filepath.Base(filepath.Dir(f))
	}
	return addresses, nil
}

// vfs returns the addresses of a PF's VFs by their numbers.
func (b pciBus) vfs(pf string) (map[int]string, error) {
	links, err := filepath.Glob(b.path(pf, "virtfn*"))
	if err != nil {
		return nil, fmt.Errorf("list the VFs of %s: %w", pf, err)
	}
	vfs := make(map[int]string, len(links))
	for _, l := range links {
		index, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(l), "virtfn"))
		if err != nil {
			continue
		}
		to, err := os.Readlink(l)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the VFs go away this moment
		}
		if err != nil {
			return nil, fmt.Errorf("list the VFs of %s: %w", pf, err)
		}
		vfs[index] = filepath.Base(to)
	}
	return vfs, nil
}

// driver returns the name of a device's driver, "" where it has none.
func (b pciBus) driver(address string) string {
	to, err := os.Readlink(b.path(address, "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// model returns a device's vendor and device ids, as in "8086:10c9".
func (b pciBus) model(address string) (string, error) {
	var ids []string
	for _, name := range []string{"vendor", "device"} {
		text, err := os.ReadFile(b.path(address, name))
		if err != nil {
			return "", fmt.Errorf("read what device %s is: %w", address, err)
		}
		ids = append(ids, strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
	}
	return strings.Join(ids, ":"), nil
}

func (b pciBus) number(address, name string) (int, error) {
	text, err := os.ReadFile(b.path(address, name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
