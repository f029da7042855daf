// Command wire measures what arrives at a device, in bytes on the wire, and
// holds it against a limit. It runs in the network namespace of the device.
//
//	wire -device wire0 -limit 10000000 -what "TCP at 10 Mbit/s" -o FILE
//
// The device's own counter is read: what a limit promises is packets with their
// Ethernet headers, not the payload that iperf3 reports. The sender has to
// segment before the wire (ethtool -K DEV tso off), or one superpacket counts
// one header.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"candor.dev/candor/bench/result"
)

func main() {
	device := flag.String("device", "", "the device at which packets arrive")
	limit := flag.Float64("limit", 0, "the limit in bits per second")
	what := flag.String("what", "", "what is measured")
	out := flag.String("o", "", "the file for the result")
	skip := flag.Duration("skip", time.Second, "time before the first window")
	windows := flag.Int("windows", 12, "how many windows")
	window := flag.Duration("window", 500*time.Millisecond, "length of one window")
	flag.Parse()
	err := errors.New("usage: wire -device DEV -limit BITS -what WHAT -o FILE")
	if *device != "" && *limit > 0 && *what != "" && *out != "" {
		err = run(*device, *limit, *what, *out, *skip, *windows, *window)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		os.Exit(1)
	}
}

func run(device string, limit float64, what, out string, skip time.Duration, windows int, window time.Duration) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer handle.Close()
	time.Sleep(skip)
	bytes, at, err := received(handle, device)
	if err != nil {
		return err
	}
	var rates []float64
	for range windows {
		time.Sleep(window)
		b, t, err := received(handle, device)
		if err != nil {
			return err
		}
		rates = append(rates, float64(b-bytes)*8/t.Sub(at).Seconds()/1e6)
		bytes, at = b, t
	}
	f := result.New("limit")
	f.Against(result.Row{What: what, PeerName: "the limit", Unit: "Mbit/s", Goal: "0.98 to 1.02"}, rates, limit/1e6)
	return f.Write(out)
}

// received returns the device's counter and the time at which it was read.
func received(handle *netlink.Handle, device string) (uint64, time.Time, error) {
	link, err := handle.LinkByName(device)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read counter of %s: %w", device, err)
	}
	return link.Attrs().Statistics.RxBytes, time.Now(), nil
}
