package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"verneuil/replicate"
	"verneuil/replicate/mirror"
	"verneuil/vfs"
)

func syncCommand(g *global) *cobra.Command {
	var (
		path            string
		rewrite, asJSON bool
	)
	command := &cobra.Command{
		Use:        "sync DB [--optimize]",
		SuggestFor: []string{"backup", "push", "snapshot"},
		Short:      "Back up a database as it is now",
		Long: `Back up the database DB, as of its last commit, to every target, and print the name
of its manifest. Sends only what the targets do not have. Writers wait while the
database is read.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) (err error) {
			if path, err = onePath(path, args); err != nil {
				return err
			}
			return fail(syncDatabase(command.Context(), g, path, rewrite, asJSON), "sync", path)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&path, "source-path", "s", "", "the database, as with DB")
	flags.BoolVar(&rewrite, "optimize", false,
		"then rewrite it with pages of 64 KiB, the size of a chunk (VACUUM), and back it up again")
	flags.BoolVar(&asJSON, "json", false, "print as JSON what was done")
	return command
}

func syncDatabase(ctx context.Context, g *global, given string, rewrite, asJSON bool) error {
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	switch {
	case len(s.store.Targets) == 0:
		return g.errNoTargets()
	case s.config.ReplicationSpoolingDir == "":
		return errors.New("configuration: replication_spooling_dir is missing")
	}
	path, err := canonicalPath(given)
	if err != nil {
		return err
	}
	result, err := syncOnce(ctx, s, path)
	if err == nil && rewrite {
		if err = optimize(ctx, path); err != nil {
			return fmt.Errorf("optimize: %w", err)
		}
		result, err = syncOnce(ctx, s, path)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(map[string]any{
			"name": result.Name, "host": s.config.Host(), "path": path, "uploaded": result.Uploaded,
			"chunks": result.Chunks, "bytes": result.Bytes, "calls": result.Calls,
			"process": result.Other,
		})
	}
	_, err = fmt.Println(result.Name)
	return err
}

func syncOnce(ctx context.Context, s *session,
	path string) (result replicate.SyncResult, err error) {
	pinned, err := pin(ctx, path)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, pinned.Close()) }()
	bar := &progress{}
	defer bar.end()
	source := s.config.Source(path)
	result, err = replicate.Sync(ctx, replicate.SyncOptions{
		Store:       s.store,
		Root:        s.config.ReplicationSpoolingDir,
		Permissions: s.config.SpoolingDirPermissions,
		DBPath:      path,
		Host:        s.config.Host(),
		Program:     vfs.Program,
		Concurrency: s.config.UploadConcurrency,
		OpenSource:  func() (mirror.Source, error) { return borrowed{pinned}, nil },
		Seen:        pinned.seen,
		Source:      &source,
		Progress:    bar.set,
		Log:         s.log,
	})
	if err != nil {
		return result, err
	}
	if result.Uploaded {
		bar.summary("backed up %s: %s uploaded, %s requests",
			humanBytes(pinned.size), humanBytes(result.Bytes), humanize.Comma(result.Calls))
	} else {
		bar.summary("backed up %s: nothing to upload", humanBytes(pinned.size))
	}
	s.log.Info("synced", "database", path, "uploaded", result.Uploaded, "chunks", result.Chunks,
		"bytes", result.Bytes, "calls", result.Calls, "process", result.Other)
	return result, nil
}

// borrowed is a pinned database whose user does not close it: the transaction
// must last longer than any one reading.
type borrowed struct{ *pinned }

func (borrowed) Close() error { return nil }
