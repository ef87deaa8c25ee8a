package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"verneuil/replicate"
)

func restoreCommand(g *global) *cobra.Command {
	var (
		from origin
		out  string
	)
	command := &cobra.Command{
		Use:   "restore (--manifest URI | [--hostname HOST] --source-path PATH) [--out FILE]",
		Short: "Write the newest or an older version of a database to a file",
		Long: `Fetch the newest version of a database, or an older one, verify every byte of it, and write it to
FILE, which appears whole or not at all; without --out, to stdout.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := from.check(); err != nil {
				return err
			}
			if out == "" && isTerminal(os.Stdout) {
				return errors.New("a database is binary, and stdout a terminal: give --out")
			}
			return fail(restore(command.Context(), g, &from, out), "restore", from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	command.Flags().StringVarP(&out, "out", "o", "", "the file to write (default: stdout)")
	return command
}

func restore(ctx context.Context, g *global, from *origin, out string) error {
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	m, _, err := from.fetch(ctx, s)
	if err != nil {
		return err
	}
	if len(s.store.Targets) == 0 && m.Chunks() > 0 {
		return g.errNoTargets()
	}
	bar := &progress{}
	defer bar.end()
	options := replicate.RestoreOptions{
		Manifest:    m,
		Fetch:       s.store.GetChunkAlone,
		Concurrency: s.config.DownloadConcurrency(),
		Progress:    func(done, total int64) { bar.set("restore", done, total) },
	}
	if out != "" {
		return replicate.RestoreFile(ctx, out, options)
	}
	return restoreToStdout(ctx, options)
}

// restoreToStdout assembles the database in a file without a name first: chunks
// arrive in any order, and nothing may be written before all of it is verified.
func restoreToStdout(ctx context.Context, options replicate.RestoreOptions) error {
	f, err := os.CreateTemp("", "verneuilctl-restore-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if err := f.Truncate(options.Manifest.FileBytes); err != nil {
		return err
	}
	if err := replicate.Restore(ctx, f, options); err != nil {
		return err
	}
	if _, err := io.Copy(os.Stdout, io.NewSectionReader(f, 0, options.Manifest.FileBytes)); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}
