package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/spool"
	"verneuil/vfs"
)

func flushCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "flush SPOOLDIR",
		Short: "Send everything that is left in a spooling directory",
		Long: `Send what applications have left in SPOOLDIR, their replication_spooling_dir. Each
spool remembers its targets, so no configuration is needed, unless a crash came before it
was told them, or has damaged what it was told; credentials come from the environment.
Succeeds only when every target has everything.`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return fail(flush(command.Context(), g, args[0]), "flush", args[0])
		},
	}
}

// flush flushes each spool below root, and says so.
func flush(ctx context.Context, g *global, root string) error {
	dirs, err := spoolsBelow(root)
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range dirs {
		name, err := flushSpool(ctx, g, dir)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if _, err := fmt.Println(name); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d databases: %w", len(failed), len(dirs), errors.Join(failed...))
	}
	return nil
}

// spoolsBelow returns the directories below root that a recorder or a sync has made, or
// that we may not look into: so is another user's.
func spoolsBelow(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		for _, name := range []string{"source.json", "state"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				dirs = append(dirs, dir)
				break
			}
		}
	}
	return dirs, nil
}

// flushSpool returns the database's path, or the spool's if it does not say.
func flushSpool(ctx context.Context, g *global, dir string) (name string, err error) {
	source, err := spool.ReadSourceConfig(dir)
	if err != nil {
		configured, ok := g.source(dir)
		if !ok {
			return dir, fmt.Errorf("the spool does not say where to send to (VERNEUIL_CONFIG can, if this is below its replication_spooling_dir): %w", err)
		}
		source = configured
	}
	rate := source.APICallsPerSecond
	if rate == 0 {
		rate = -1 // somebody waits
	}
	store, err := chunkstore.Open(ctx, source.Targets, chunkstore.Options{
		CallsPerSecond: rate, Concurrency: source.UploadConcurrency, Log: g.log,
	})
	if err != nil {
		return source.Path, err
	}
	defer store.Close()
	bar := &progress{}
	defer bar.end()
	f := &flushing{dir: dir, source: source, store: store, log: g.log, progress: bar.set}
	wal, err := f.settle(ctx)
	if err != nil {
		return source.Path, err
	}
	if wal {
		return source.Path, f.sync(ctx)
	}
	return source.Path, f.replicate(ctx)
}

// source is what the configuration says of the database whose spool is in dir.
func (g *global) source(dir string) (spool.SourceConfig, bool) {
	config, err := g.parse()
	if err != nil || len(config.Targets) == 0 || config.ReplicationSpoolingDir == "" {
		return spool.SourceConfig{}, false
	}
	ours, err := os.Stat(config.ReplicationSpoolingDir)
	if err != nil {
		return spool.SourceConfig{}, false
	}
	theirs, err := os.Stat(filepath.Dir(dir))
	if err != nil || !os.SameFile(ours, theirs) {
		return spool.SourceConfig{}, false
	}
	path, err := spool.PathOf(dir)
	return config.Source(path), err == nil
}

// flushing is the flush of one spool.
type flushing struct {
	dir      string
	source   spool.SourceConfig
	store    *chunkstore.Store
	log      *slog.Logger
	progress func(phase string, done, total int64)
}

// settle lets SQLite roll back what a process that died has left in the middle,
// and reports whether the database is in WAL mode.
func (f *flushing) settle(ctx context.Context) (wal bool, err error) {
	path := f.source.Path
	err = checkRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // deleted since: the spool may have all of it
	} else if err != nil {
		return false, err
	}
	database, err := os.Open(path)
	if err != nil {
		return false, err
	}
	var header [20]byte
	_, err = database.ReadAt(header[:], 0)
	if err := errors.Join(notEOF(err), database.Close()); err != nil {
		return false, err
	}
	if journal, err := os.Stat(path + "-journal"); err == nil && journal.Size() > 0 {
		// A writer that lives is left alone: SQLite sees its lock. If it keeps us
		// from looking, it is about to commit, and there is nothing to roll back.
		var e sqlite3.Error
		if err := recoverDatabase(ctx, path); err != nil && !(errors.As(err, &e) && e.Code == sqlite3.ErrBusy) {
			return false, err
		}
	}
	return string(header[:15]) == "SQLite format 3" && (header[18] == 2 || header[19] == 2), nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// sync sends a database in WAL mode: its commits are not in the spool's log.
func (f *flushing) sync(ctx context.Context) (err error) {
	pinned, err := pin(ctx, f.source.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pinned.Close()) }()
	_, err = replicate.Sync(ctx, replicate.SyncOptions{
		Store:       f.store,
		Root:        filepath.Dir(f.dir),
		DBPath:      f.source.Path,
		Host:        f.source.Host,
		Program:     vfs.Program,
		Concurrency: f.source.UploadConcurrency,
		OpenSource:  func() (replicate.Source, error) { return borrowed{pinned}, nil },
		Seen:        pinned.seen,
		Progress:    f.progress,
		Log:         f.log,
	})
	return err
}

// replicate does what the application's replicator would: it drains the spool, or
// has the process do it that serves it.
func (f *flushing) replicate(ctx context.Context) error {
	sp, err := spool.Open(f.dir)
	if err != nil {
		// Of another boot: void. The database has it all.
		if sp, err = spool.Create(filepath.Dir(f.dir), f.source.Path, 0o700); err != nil {
			return err
		}
	}
	defer sp.Close()
	r, err := replicate.New(replicate.Options{
		Spool:            sp,
		Store:            f.store,
		Host:             f.source.Host,
		Program:          vfs.Program,
		ManifestInterval: time.Duration(f.source.ManifestIntervalMS) * time.Millisecond,
		Concurrency:      f.source.UploadConcurrency,
		// this process has no SQLite connection to it, so closing the file drops nobody's locks
		OpenSource: func() (replicate.Source, error) { return replicate.OpenSourceFile(f.source.Path) },
		Progress:   f.progress,
		Log:        f.log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	err = r.Flush(ctx)
	cancel()
	return errors.Join(err, <-ended)
}
