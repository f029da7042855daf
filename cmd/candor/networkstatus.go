package main

import (
	"errors"

	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"github.com/urfave/cli/v2"
)

func networkStatusCommand() *cli.Command {
	return &cli.Command{
		Name:      "network-status",
		Usage:     "print the NICs of containers as they are now, in the form of Kubernetes' network-status",
		ArgsUsage: "[ID|KEY]",
		Description: "With an argument, a JSON list as in the annotation k8s.v1.cni.cncf.io/network-status: one element for\n" +
			"each NIC that candor gave the container, as the container's kernel shows it. Without one, an object of\n" +
			"such lists by container, of all that run and have NICs: by id, or by key where several share an id.",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return errors.New("network-status takes at most one argument: a container's id, or the key of its record")
			}
			return lookingAtNode(c, func(n *lifecycle.Node) error {
				if c.NArg() == 0 {
					return printAllStatus(c, n)
				}
				r, err := find(n, c.Args().First())
				if err != nil {
					return err
				}
				list, err := n.NetworkStatus(r)
				if err != nil && len(list) == 0 {
					return err
				}
				return errors.Join(printJSON(c.App.Writer, asAnnotation(list)), err)
			})
		},
	}
}

// printAllStatus goes on past containers that cannot be looked at.
func printAllStatus(c *cli.Context, n *lifecycle.Node) error {
	records, err := allRecords(n)
	errs := []error{err}
	ids := map[string]int{}
	for _, r := range records {
		ids[r.ID]++
	}
	all := map[string][]networkStatus{}
	for _, r := range records {
		if len(r.NICs) == 0 || r.State == ledger.Intent || !n.Alive(r) {
			continue
		}
		name := r.ID
		if ids[name] > 1 {
			name = r.Key
		}
		list, err := n.NetworkStatus(r)
		errs = append(errs, err)
		all[name] = asAnnotation(list)
	}
	return errors.Join(append(errs, printJSON(c.App.Writer, all))...)
}

// networkStatus is one element of the annotation k8s.v1.cni.cncf.io/network-status
// (network-attachment-definition-client, pkg/apis/k8s.cni.cncf.io/v1, NetworkStatus).
type networkStatus struct {
	Name       string      `json:"name"`
	Interface  string      `json:"interface"`
	IPs        []string    `json:"ips,omitempty"`
	MAC        string      `json:"mac"`
	MTU        int         `json:"mtu"`
	Default    bool        `json:"default,omitempty"`
	DNS        struct{}    `json:"dns"`
	DeviceInfo *deviceInfo `json:"device-info,omitempty"`
	Gateway    []string    `json:"gateway,omitempty"`
}

// deviceInfo is the network plumbing group's device information of a PCI device.
type deviceInfo struct {
	Type    string     `json:"type"`
	Version string     `json:"version"`
	PCI     pciAddress `json:"pci"`
}

type pciAddress struct {
	Address string `json:"pci-address"`
}

func asAnnotation(list []lifecycle.NICStatus) []networkStatus {
	out := make([]networkStatus, 0, len(list))
	for _, s := range list {
		status := networkStatus{Name: "candor/" + s.Pool, Interface: s.Interface, MAC: s.MAC, MTU: s.MTU, Default: s.Default}
		for _, a := range s.Addresses {
			status.IPs = append(status.IPs, a.Addr().String())
		}
		for _, gw := range s.Gateways {
			status.Gateway = append(status.Gateway, gw.String())
		}
		if s.PCI != "" {
			status.DeviceInfo = &deviceInfo{Type: "pci", Version: "1.1.0", PCI: pciAddress{s.PCI}}
		}
		out = append(out, status)
	}
	return out
}
