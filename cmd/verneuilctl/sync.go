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
		path string
		o    syncFlags
	)
	command := &cobra.Command{
		Use:        "sync DB [--read] [--optimize]",
		SuggestFor: []string{"backup", "push", "snapshot"},
		Short:      "Back up a database as it is now",
		Long: `Back up the database DB, as of its last commit, to every target, and print the name
of its manifest. Sends only what the targets do not have. Writers wait while the
database is read.

With --read, then read all that the targets have of it, as verify --read does, and put again
what is damaged or missing of the newest version: packs, leaves and nodes, records, the manifest.
If another process replicates the database, that one does, while it works. Prints a line for
each that was found. Older versions are read, too. What only they need cannot be put again: a
line says which version cannot be restored any more, and what is damaged of it; the exit code
is 1 then.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) (err error) {
			if path, err = onePath(path, args); err != nil {
				return err
			}
			return fail(syncDatabase(command.Context(), g, path, o), "sync", path)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&path, "source-path", "s", "", "the database, as with DB")
	flags.BoolVar(&o.read, "read", false,
		"then read all that the targets have of it, and put again what is damaged")
	flags.BoolVar(&o.rewrite, "optimize", false,
		"then rewrite it with pages of 64 KiB, the size of a chunk (VACUUM), and back it up again")
	flags.BoolVar(&o.asJSON, "json", false, "print as JSON what was done")
	return command
}

// syncFlags are the flags of sync.
type syncFlags struct{ read, rewrite, asJSON bool }

func syncDatabase(ctx context.Context, g *global, given string, o syncFlags) error {
	if err := g.checkFile(given); err != nil {
		return err
	}
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
	result, err := syncOnce(ctx, s, path, nil)
	if err == nil && o.rewrite {
		if err = optimize(ctx, path); err != nil {
			return fmt.Errorf("optimize: %w", err)
		}
		result, err = syncOnce(ctx, s, path, nil)
	}
	r := &rereading{session: s, path: path, key: result.Name, asJSON: o.asJSON}
	if err == nil && o.read {
		err = r.run(ctx)
	}
	if err != nil {
		return err
	}
	if !o.asJSON {
		_, err = fmt.Println(result.Name)
		return errors.Join(err, r.err())
	}
	done := map[string]any{
		"name": result.Name, "host": s.config.Host(), "path": path, "uploaded": result.Uploaded,
		"chunks": result.Chunks, "bytes": result.Bytes, "calls": result.Calls,
		"process": result.Other,
	}
	if o.read {
		done["faults"], done["packs_mended"], done["lost_versions"] = r.faults, r.packs, len(r.olds)
	}
	return errors.Join(printJSON(done), r.err())
}

// syncOnce syncs the database; damage was found in targets, and is to be put again.
func syncOnce(ctx context.Context, s *session, path string, damage map[int]replicate.Damage) (
	result replicate.SyncResult, err error,
) {
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
		Damage:      damage,
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
