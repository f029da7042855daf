package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"candor.dev/candor/shim/prepare"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/urfave/cli/v2"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name:      "spec",
		Usage:     "show, as a diff, what would be patched into a bundle's config.json",
		ArgsUsage: "BUNDLE",
		Description: "Touches nothing. Both sides are indented alike, so that the diff shows what changes and no more;\n" +
			"the file itself is patched in place, byte for byte the same elsewhere.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "caller", Usage: "who would ask: containerd:NAMESPACE, kubernetes:NAMESPACE, docker, podman, crio, runc", Value: "containerd:default"},
			&cli.BoolFlag{Name: "no-time-namespace", Usage: "as for a runtime that has no time namespaces"},
		},
		Action: func(c *cli.Context) error {
			dir, err := oneArgument(c, "the directory that holds config.json")
			if err != nil {
				return err
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			preview, err := prepare.Container{
				Bundle: dir, ConfigPath: c.String("config"),
				Caller:        func(map[string]string) string { return c.String("caller") },
				TimeNamespace: func(context.Context, string) bool { return !c.Bool("no-time-namespace") },
			}.Preview(c.Context)
			if err != nil {
				return err
			}
			return printPreview(c, filepath.Join(dir, "config.json"), preview)
		},
	}
}

func printPreview(c *cli.Context, path string, p prepare.Preview) error {
	before, err := indent(p.Before)
	if err != nil {
		return err
	}
	after, err := indent(p.After)
	if err != nil {
		return err
	}
	diff := difflib.UnifiedDiff{
		A: difflib.SplitLines(before), B: difflib.SplitLines(after),
		FromFile: path, ToFile: path + " (patched)", Context: 3,
	}
	if err := difflib.WriteUnifiedDiff(c.App.Writer, diff); err != nil {
		return err
	}
	if p.Changes.NoView != "" {
		fmt.Fprintf(c.App.ErrWriter, "candor: no resource view: %s\n", p.Changes.NoView)
	}
	if p.Refused != nil {
		return fmt.Errorf("the container would be refused: %w", p.Refused)
	}
	return nil
}

func indent(spec []byte) (string, error) {
	var b bytes.Buffer
	if err := json.Indent(&b, spec, "", "  "); err != nil {
		return "", fmt.Errorf("indent spec: %w", err)
	}
	b.WriteByte('\n')
	return b.String(), nil
}
