package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/replicate"
	"verneuil/replicate/mirror"
	"verneuil/spool"
	"verneuil/spool/sqlitefile"
	"verneuil/vfs"
)

// flushFlags are the flags of flush.
type flushFlags struct{ allowEmpty, asJSON bool }

func flushCommand(g *global) *cobra.Command {
	var (
		path  string
		flags flushFlags
	)
	command := &cobra.Command{
		Use:   "flush [SPOOLDIR | DB]",
		Short: "Send everything that is left in a spooling directory",
		Long: `Send what applications have left in SPOOLDIR, their replication_spooling_dir. With DB,
send what they have left of that database; without an argument, take the spooling directory
from the configuration. Each spool remembers its targets, so SPOOLDIR needs no configuration,
unless a crash has damaged the spool, or came before it was told its targets. Credentials
come from the environment.

Prints each database that was sent. Succeeds only if every target has everything, and the
configuration, if it is for this spooling directory, names no others. If a database was
deleted, the line says so; its spool is removed some ten minutes after this was first
noticed, if everything was sent.

A directory without spools is an error, as its name may be mistyped; --allow-empty permits
it.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) (err error) {
			if len(args) > 0 || path != "" {
				if path, err = onePath(path, args); err != nil {
					return err
				}
			}
			doing := []string{"flush"}
			if path != "" {
				doing = append(doing, path)
			}
			return fail(flush(command.Context(), g, path, flags), doing...)
		},
	}
	command.Flags().StringVarP(&path, "source-path", "s", "",
		"the database, as with DB")
	command.Flags().BoolVar(&flags.allowEmpty, "allow-empty", false,
		"accept a directory without spools")
	command.Flags().BoolVar(&flags.asJSON, "json", false, "print one JSON object per database")
	return command
}

// flush flushes each spool that path stands for, and prints the results.
func flush(ctx context.Context, g *global, path string, o flushFlags) error {
	dirs, err := g.spools(path)
	if o.allowEmpty && (errors.Is(err, errNoSpools) || errors.Is(err, fs.ErrNotExist)) {
		return nil
	} else if err != nil {
		return err
	}
	var failed []error
	for _, dir := range dirs {
		f := flushed{dir: dir}
		if f.err = f.flush(ctx, g); f.err != nil {
			if !errors.Is(f.err, spool.ErrUnwritable) {
				f.err = errors.Join(f.err, spool.TryWrite(dir))
			}
			failed = append(failed, fmt.Errorf("%s: %w", f.name, f.err))
		}
		if err := f.print(o.asJSON); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d databases: %w", len(failed), len(dirs), errors.Join(failed...))
	}
	return nil
}

// flushed says what became of one spool.
type flushed struct {
	dir     string
	name    string // the database's path, or dir if the spool does not say
	deleted bool   // the database was
	err     error
}

func (f *flushed) print(asJSON bool) (err error) {
	switch {
	case asJSON && f.err != nil:
		return printJSON(map[string]any{"database": f.name, "spool": f.dir, "flushed": false,
			"deleted": f.deleted, "error": f.err.Error()})
	case asJSON:
		return printJSON(map[string]any{"database": f.name, "spool": f.dir, "flushed": true,
			"deleted": f.deleted})
	case f.err == nil && f.deleted:
		_, err = fmt.Println(f.name + ": deleted, everything was sent")
	case f.err == nil:
		_, err = fmt.Println(f.name)
	}
	return err
}

// flush sends what the spool has. If the database was deleted, what is not in the spool is lost.
func (f *flushed) flush(ctx context.Context, g *global) (err error) {
	f.name = f.dir
	remains, err := spool.RemainsOf(f.dir)
	if err != nil || remains == nil || !remains.Sent && !remains.Lost {
		f.name, err = flushSpool(ctx, g, f.dir)
		if remains == nil {
			return err
		}
		if now, lookErr := spool.RemainsOf(f.dir); lookErr != nil || now == nil {
			return err // it is back
		} else {
			remains = now
		}
	}
	f.name, f.deleted = remains.Path, true
	if _, sweepErr := spool.Sweep(f.dir, time.Now()); sweepErr != nil {
		g.log.Debug("sweep", "spool", f.dir, "error", sweepErr)
	}
	if remains.Sent {
		return nil
	}
	return errors.Join(errDeleted(remains, f.dir), err)
}

// errDeleted says what some target lacks of a database that was deleted.
func errDeleted(r *spool.Remains, dir string) error {
	unsent := "its last state"
	if r.Unsent > 0 {
		unsent = fmt.Sprintf("%d transaction(s), the last of %s", r.Unsent,
			r.Last.UTC().Format(time.RFC3339))
	}
	if !r.Lost {
		return fmt.Errorf("the database was deleted or moved, and was not sent completely yet; "+
			"unsent: %s", unsent)
	}
	return fmt.Errorf("the database was deleted or moved before everything was sent; "+
		"unsent, and lost without the file: %s; "+
		"flush repeats this for seven days, or until you remove %s", unsent, dir)
}

var errNoSpools = errors.New("it contains no spools: is it a replication_spooling_dir? " +
	"(if it is, and nothing was written yet, give --allow-empty)")

// spools returns the spools that flush has to send. path is a database, a spooling directory, or
// one spool; if it is empty, the configuration names the spooling directory.
func (g *global) spools(path string) ([]string, error) {
	if path == "" {
		config, err := g.parse()
		if err != nil {
			return nil, err
		}
		if config.ReplicationSpoolingDir == "" {
			return nil, errors.New("flush what? give SPOOLDIR, or a configuration (--config) " +
				"with replication_spooling_dir")
		}
		path = config.ReplicationSpoolingDir
		if _, err := os.Stat(path); err != nil {
			return nil, notThere(path, err)
		}
	} else if err := g.checkFile(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		dir, err := g.spoolOf(path)
		return []string{dir}, err
	}
	if _, err := os.Lstat(filepath.Join(path, "source.json")); err == nil {
		path, err = filepath.Abs(path)
		return []string{path}, err
	}
	dirs, err := spoolsBelow(path)
	if err == nil && len(dirs) == 0 {
		err = errNoSpools
	}
	return dirs, err
}

// spoolOf returns the spool of the database at path, which the configuration knows.
func (g *global) spoolOf(path string) (string, error) {
	config, err := g.parse()
	if err != nil {
		return "", err
	}
	root := config.ReplicationSpoolingDir
	if root == "" {
		return "", errors.New("not a directory; for one database, " +
			"its configuration (--config) must name replication_spooling_dir")
	}
	if path, err = canonicalPath(path); err != nil {
		return "", err
	}
	dir := spool.Dir(root, path)
	if !isSpool(dir) {
		return "", errors.New(withoutSpool(root, path).Error)
	}
	return dir, nil
}

// spoolsBelow returns the directories below root that a recorder or a sync has made.
func spoolsBelow(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, entry := range entries {
		if dir := filepath.Join(root, entry.Name()); isSpool(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// isSpool reports whether a recorder or a sync has made dir. It also does so if dir belongs to
// another user, so that we may not look into it.
func isSpool(dir string) bool {
	for _, name := range []string{"source.json", "state"} {
		_, err := os.Lstat(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return true
		}
	}
	return false
}

// flushSpool flushes the spool in dir. It returns the database's path, or dir if the spool does not
// name one.
func flushSpool(ctx context.Context, g *global, dir string) (name string, err error) {
	source, err := spool.ReadSourceConfig(dir)
	configured, ok := g.source(dir)
	if err != nil {
		if !ok {
			return dir, fmt.Errorf("the spool does not name its targets (give the configuration "+
				"whose replication_spooling_dir it is in): %w", err)
		}
		source = configured
	}
	rate := source.APICallsPerSecond
	if rate == 0 {
		rate = -1 // somebody waits
	}
	sealer, err := keyring.Open(keyring.Source{File: source.KeyFile, Command: source.KeyCommand},
		g.log)
	if err != nil {
		return source.Path, err
	}
	store, err := chunkstore.Open(ctx, source.Targets, chunkstore.Options{
		Sealer: sealer, CallsPerSecond: rate, Concurrency: source.UploadConcurrency, Log: g.log,
		Timeout: cmp.Or(g.timeout, time.Duration(source.TimeoutMS)*time.Millisecond),
	})
	if err != nil {
		return source.Path, err
	}
	defer store.Close()
	bar := &progress{}
	defer bar.end()
	f := &flushing{dir: dir, source: source, store: store, log: g.log, progress: bar.set}
	wal, err := f.rollBack(ctx)
	if err != nil {
		return source.Path, err
	}
	if wal {
		err = f.sync(ctx)
	} else {
		err = f.replicate(ctx)
	}
	if err == nil && ok {
		err = f.agrees(ctx, configured)
	}
	return source.Path, err
}

// agrees fails if the configuration has the database replicated under another host name or to other
// targets than the programs do that have written to it: what was sent is not there.
func (f *flushing) agrees(ctx context.Context, configured spool.SourceConfig) error {
	store, err := chunkstore.Open(ctx, configured.Targets, chunkstore.Options{Log: f.log})
	if err != nil {
		return err
	}
	defer store.Close()
	if replicate.Purpose(configured.Host, store.Targets) ==
		replicate.Purpose(f.source.Host, f.store.Targets) {
		return nil
	}
	return fmt.Errorf("everything was sent to %s, where the programs that write to it replicate "+
		"it, and not to %s, which the configuration names: start them again with it, or, when "+
		"they have ended, run: verneuilctl sync %s", whereTo(f.source.Host, f.store),
		whereTo(configured.Host, store), f.source.Path)
}

// whereTo names what a database is replicated to, and under which host name.
func whereTo(host string, store *chunkstore.Store) string {
	var names []string
	for _, t := range store.Targets {
		names = append(names, t.Name)
	}
	return fmt.Sprintf("%s (of host %s)", cmp.Or(strings.Join(names, ", "), "no target"), host)
}

// source is what the configuration says of the database whose spool is in dir.
func (g *global) source(dir string) (spool.SourceConfig, bool) {
	config, err := g.parse()
	if err != nil || len(config.Targets) == 0 || config.ReplicationSpoolingDir == "" {
		return spool.SourceConfig{}, false
	}
	if !sameDirectory(config.ReplicationSpoolingDir, filepath.Dir(dir)) {
		return spool.SourceConfig{}, false
	}
	path, err := spool.PathOf(dir)
	return config.Source(path), err == nil
}

// sameDirectory reports whether a and b are names of one directory, which is there.
func sameDirectory(a, b string) bool {
	ours, err := os.Stat(a)
	if err != nil {
		return false
	}
	theirs, err := os.Stat(b)
	return err == nil && os.SameFile(ours, theirs)
}

// flushing is the flush of one spool.
type flushing struct {
	dir      string
	source   spool.SourceConfig
	store    *chunkstore.Store
	log      *slog.Logger
	progress func(phase string, done, total int64)
}

// rollBack lets SQLite roll back the transaction that a dead process has left unfinished,
// and reports whether the database is in WAL mode.
func (f *flushing) rollBack(ctx context.Context) (wal bool, err error) {
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
	var header sqlitefile.Header
	_, err = database.ReadAt(header[:], 0)
	if err := errors.Join(notEOF(err), database.Close()); err != nil {
		return false, err
	}
	live, err := mirror.LiveJournal(path)
	if err != nil {
		return false, err
	}
	if live {
		// A living writer is left alone: SQLite sees its lock. If it keeps us
		// from looking, it is about to commit, and there is nothing to roll back.
		var e sqlite3.Error
		err := recoverDatabase(ctx, path)
		switch {
		case errors.As(err, &e) && e.Code == sqlite3.ErrBusy:
		case errors.Is(err, errEncrypted):
			// Its writer lives, or the replicator waits until somebody rolls it back
		case err != nil:
			return false, explainOpen(path, err)
		}
	}
	return header.WAL(), nil
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
		OpenSource:  func() (mirror.Source, error) { return borrowed{pinned}, nil },
		Seen:        pinned.seen,
		Progress:    f.progress,
		Log:         f.log,
	})
	return err
}

// replicate does what the application's replicator would do: it drains the spool, or lets the
// process that serves it do so.
func (f *flushing) replicate(ctx context.Context) error {
	sp, err := spool.Open(f.dir)
	if err != nil {
		// It is from another boot, and void. The database has everything.
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
		OpenSource: func() (mirror.Source, error) { return mirror.OpenSourceFile(f.source.Path) },
		Progress:   f.progress,
		Log:        f.log,
		Reported:   true,
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
