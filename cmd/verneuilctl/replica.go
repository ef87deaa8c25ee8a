package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"verneuil/replicate/locate"
)

func replicaCommand(g *global) *cobra.Command {
	var (
		from   origin
		out    output
		follow bool
		asJSON bool
	)
	command := &cobra.Command{
		Use:   "replica SOURCE FILE",
		Short: "Write a small file that opens as a replica of a database",
		Long: `Write FILE, a few lines of text that name the database SOURCE. A program that opens FILE
gets a read replica, even if it cannot use URIs: it opens FILE with the VFS
verneuil_snapshot, or by its path alone if its configuration has "make_default": true and
"replica_files": true. It reads from the targets of its own configuration. A FILE of - is
stdout.`,
		Args: atMost(2),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 && (len(args) == 2 || from.uri != "" || from.sourcePath != "") {
				if out.file != "" {
					return fmt.Errorf("FILE %s and --out both name the output: give one",
						args[len(args)-1])
				}
				args, out.file = args[:len(args)-1], args[len(args)-1]
			}
			if err := from.of(args); err != nil {
				return err
			}
			if out.file == "" {
				return errors.New("which file? give FILE")
			}
			if out.toStdout() && asJSON {
				return errors.New("--json needs a file: without one the replica goes to stdout")
			}
			file := locate.ReplicaFile{}
			if command.Flags().Changed("auto-refresh") {
				file.AutoRefresh = &follow
			}
			return fail(replica(command.Context(), g, &from, &out, file, asJSON), "replica",
				from.String())
		},
	}
	from.flags(command)
	out.flags(command)
	command.Flags().BoolVar(&follow, "auto-refresh", true,
		"whether replicas follow their source (default: as their configuration says)")
	command.Flags().BoolVar(&asJSON, "json", false, "print as JSON what was written")
	return command
}

// replica writes the file, once it knows that there is a version to open.
func replica(ctx context.Context, g *global, from *origin, out *output, file locate.ReplicaFile,
	asJSON bool) error {
	s, found, err := from.fetchFor(ctx, g, out)
	if err != nil {
		return err
	}
	defer s.Close()
	locator, err := from.locate(s)
	if err != nil {
		return err
	}
	if s.name != "" {
		return fmt.Errorf("a replica file names a database in the reader's own targets, and this "+
			"one lives in a store: open %v with vfs=verneuil_snapshot", from)
	}
	if !locator.Named() {
		return errors.New("a replica file names a database in the reader's own targets: " +
			"give its path or verneuil://HOST/PATH")
	}
	m := found.Manifest
	file.Source = "verneuil://" + m.Host + m.Path
	text, err := file.Encode()
	if err != nil {
		return err
	}
	if err := out.write([]byte(text)); err != nil || !asJSON {
		return err
	}
	return printJSON(map[string]any{"file": out.file, "source": file.Source, "host": m.Host,
		"path": m.Path})
}
