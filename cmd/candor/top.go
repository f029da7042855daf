package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"

	"candor.dev/candor/journal"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/request"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

const (
	// looks is how often in an interval the queues are looked at.
	looks = 10
	// minInterval and maxInterval bound the time between two tables.
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	// clearScreen moves the cursor home and clears what is below it (ECMA-48).
	clearScreen = "\x1b[H\x1b[J"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show what containers send, against their limits",
		Description: "One line for each device with a limit, the busiest first: RATE and LIMIT in bits per second (bytes as the\n" +
			"limit counts them: with the header of the link layer), the share of the limit that was used, packets that the\n" +
			"queue dropped, bytes that wait in it now, and HELD: the share of looks, ten in an interval, at which any waited.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Aliases: []string{"d"}, Usage: "time between two tables", Value: 2 * time.Second},
			&cli.BoolFlag{Name: "once", Usage: "print one table, after one interval"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON list instead of a table, one for each interval"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			interval := c.Duration("interval")
			if interval < minInterval || interval > maxInterval {
				return fmt.Errorf("top: an interval is %s to %s, not %s", minInterval, maxInterval, interval)
			}
			return lookingAtNode(c, func(n *lifecycle.Node) error {
				ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
				defer stop()
				before, err := limitsOf(n)
				for {
					rows, limits, lookErr := watch(ctx, n, before, interval)
					if ctx.Err() != nil {
						return nil
					}
					if lookErr = errors.Join(err, lookErr); c.Bool("once") {
						return errors.Join(printTop(c, rows), lookErr)
					}
					if err := printTop(c, rows); err != nil {
						return err
					}
					if lookErr != nil {
						fmt.Fprintf(c.App.ErrWriter, "candor: %s\n", journal.OneLine(lookErr))
					}
					before, err = limits, nil
				}
			})
		},
	}
}

// topRow is what a container sent through one device in an interval.
type topRow struct {
	Container    string  `json:"container"`
	Key          string  `json:"key"`
	Device       string  `json:"device"`
	RateBits     uint64  `json:"rate_bits"`
	LimitBits    uint64  `json:"limit_bits"`
	Packets      uint64  `json:"packets_per_second"`
	Drops        uint32  `json:"dropped_packets"`
	BacklogBytes uint32  `json:"backlog_bytes"`
	HeldShare    float64 `json:"held_share"`
}

// limitID names a limit among all of a node.
type limitID struct{ key, device string }

// sample is a limit as it was at a time.
type sample struct {
	lifecycle.LimitStatus
	at time.Time
}

func limitsOf(n *lifecycle.Node) (map[limitID]sample, error) {
	list, err := n.Limits()
	now := time.Now()
	limits := make(map[limitID]sample, len(list))
	for _, l := range list {
		limits[limitID{l.Key, l.Device}] = sample{l, now}
	}
	return limits, err
}

// watch looks at the limits for an interval, and returns what was sent in it and the
// limits as they are at its end.
func watch(ctx context.Context, n *lifecycle.Node, before map[limitID]sample, interval time.Duration) ([]topRow, map[limitID]sample, error) {
	tick := time.NewTicker(interval / looks)
	defer tick.Stop()
	held, seen := map[limitID]int{}, 0
	var now map[limitID]sample
	for end := time.Now().Add(interval); ; {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-tick.C:
		}
		var err error
		now, err = limitsOf(n)
		seen++
		for id, l := range now {
			if l.BacklogPackets > 0 {
				held[id]++
			}
		}
		if time.Now().Before(end) && seen < looks {
			continue
		}
		var rows []topRow
		for id, l := range now {
			rows = append(rows, rowOf(before[id], l, float64(held[id])/float64(seen)))
		}
		slices.SortFunc(rows, func(a, b topRow) int {
			return cmp.Or(cmp.Compare(b.RateBits, a.RateBits), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Device, b.Device))
		})
		return rows, now, err
	}
}

// rowOf compares two samples. Of a limit that was not there before, or whose counters
// began anew, nothing is known yet.
func rowOf(before, now sample, held float64) topRow {
	row := topRow{
		Container: now.Container, Key: now.Key, Device: now.Device, LimitBits: now.LimitBits,
		BacklogBytes: now.BacklogBytes, HeldShare: held,
	}
	seconds := now.at.Sub(before.at).Seconds()
	if before.at.IsZero() || now.Bytes < before.Bytes {
		return row
	}
	row.RateBits = uint64(float64(now.Bytes-before.Bytes) * 8 / seconds)
	row.Packets = uint64(float64(now.Packets-before.Packets) / seconds)
	row.Drops = now.Drops - before.Drops
	return row
}

func printTop(c *cli.Context, rows []topRow) error {
	if c.Bool("json") {
		if rows == nil {
			rows = []topRow{}
		}
		return printJSON(c.App.Writer, rows)
	}
	if !c.Bool("once") {
		if _, err := io.WriteString(c.App.Writer, clearScreen); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CONTAINER\tDEVICE\tRATE\tLIMIT\tUSED\tPACKETS/S\tDROPPED\tWAITING\tHELD")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f%%\t%d\t%d\t%d B\t%.0f%%\n", r.Container, r.Device, rounded(r.RateBits),
			request.Rate(r.LimitBits), 100*float64(r.RateBits)/float64(r.LimitBits), r.Packets, r.Drops, r.BacklogBytes, 100*r.HeldShare)
	}
	return w.Flush()
}

// rounded writes a measured rate with three digits.
func rounded(bits uint64) string {
	v, suffix := float64(bits), ""
	for _, s := range []string{"k", "M", "G", "T", "P"} {
		if v < 999.5 {
			break
		}
		v, suffix = v/1000, s
	}
	return fmt.Sprintf("%.3g%s", v, suffix)
}
