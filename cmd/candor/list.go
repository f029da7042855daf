package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"candor.dev/candor/ledger"
	"candor.dev/candor/lifecycle"
	"candor.dev/candor/request"
	"github.com/urfave/cli/v2"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:    "list",
		Aliases: []string{"ls"},
		Usage:   "list what every container holds",
		Flags:   []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print a JSON list of records"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return onNode(c, func(n *lifecycle.Node) error {
				records, err := n.Store().List()
				if c.Bool("json") {
					return errors.Join(printJSON(c.App.Writer, shown(n, records)), err)
				}
				return errors.Join(printTable(c.App.Writer, shown(n, records), time.Now()), err)
			})
		},
	}
}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "print all that is recorded of one container, as JSON",
		ArgsUsage: "ID|KEY",
		Action: func(c *cli.Context) error {
			id, err := oneArgument(c, "a container's id, or the key of its record")
			if err != nil {
				return err
			}
			return onNode(c, func(n *lifecycle.Node) error {
				r, err := find(n, id)
				if err != nil {
					return err
				}
				return printJSON(c.App.Writer, shown(n, []*ledger.Record{r})[0])
			})
		},
	}
}

// allRecords are those of a node whose ledger need not be there: without one,
// nobody holds anything.
func allRecords(n *lifecycle.Node) ([]*ledger.Record, error) {
	records, err := n.Store().List()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return records, err
}

// find returns the record of a container by its key or, where it is the only
// one of that name, by its id.
func find(n *lifecycle.Node, name string) (*ledger.Record, error) {
	records, err := allRecords(n)
	var found []*ledger.Record
	for _, r := range records {
		if r.Key == name {
			return r, nil
		}
		if r.ID == name {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errors.Join(fmt.Errorf("container %s holds nothing of this node (see candor list)", name), err)
	}
	var keys []string
	for _, r := range found {
		keys = append(keys, r.Key)
	}
	return nil, fmt.Errorf("%d containers are called %s: name one by its key: %s", len(found), name, strings.Join(keys, ", "))
}

// shownRecord is a record with what only the kernel knows.
type shownRecord struct {
	*ledger.Record
	Alive bool `json:"alive"`
}

func shown(n *lifecycle.Node, records []*ledger.Record) []shownRecord {
	list := make([]shownRecord, 0, len(records))
	for _, r := range records {
		list = append(list, shownRecord{Record: r, Alive: n.Alive(r)})
	}
	return list
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printTable(w io.Writer, records []shownRecord, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "CONTAINER\tCALLER\tSTATE\tPID\tNICS\tEGRESS LIMIT\tVIEW\tSINCE")
	for _, r := range records {
		state := string(r.State)
		if !r.Alive {
			state += ", dead"
		}
		var nics []string
		for _, nic := range r.NICs {
			nics = append(nics, fmt.Sprintf("%s=%s(%s)", nic.Interface, nic.Name, nic.MAC))
		}
		limit, view := "-", "-"
		if r.Egress != nil {
			limit = request.Rate(r.Egress.LimitBits).String()
		}
		if r.View != nil {
			view = fmt.Sprintf("%d files", len(r.View.Files))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.ID, orDash(r.Caller), state, r.Owner.PID,
			orDash(strings.Join(nics, " ")), limit, view, now.Sub(r.Created).Round(time.Second))
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
