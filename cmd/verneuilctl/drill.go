package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/proof"
	"verneuil/replicate/restore"
	"verneuil/replicate/versions"
	"verneuil/vfs"
)

// drillFlags are the flags of verify --drill.
type drillFlags struct {
	on         bool
	scratch    string
	ignoreKeys bool
	encrypted  bool
	noProof    bool
}

// drill is one run of verify --drill: each database is restored from each target by itself.
type drill struct {
	*session
	from *origin
	o    verifyFlags
	bar  progress
	all  []*drilled
}

// drilled is what came of one database in one target.
type drilled struct {
	target   *chunkstore.Target
	key      string
	host     string
	path     string
	manifest *manifest.Manifest // nil: there is no version, and err says why
	seconds  float64
	checked
	source string // how it compares with the source; empty: that was not tried
	kept   bool   // as a proof
	note   string // why it was not, where that is no failure
	err    error  // nil: it was restored, and is whole
}

func runDrill(ctx context.Context, s *session, from *origin, o verifyFlags) error {
	d := &drill{session: s, from: from, o: o}
	defer d.bar.end()
	if err := hasRoom(d.scratch(), 0); err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(restoreMemory)
	}
	var failed []error
	for _, t := range s.store.Targets {
		before := len(d.all)
		if err := d.target(ctx, t); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
		} else if len(d.all) == before && !o.allowEmpty {
			failed = append(failed, fmt.Errorf("%s: no database is in it (if that is right: "+
				"--allow-empty)", t.Name))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	d.bar.end()
	if err := d.print(); err != nil {
		return err
	}
	for _, one := range d.all {
		if one.err != nil {
			failed = append(failed, fmt.Errorf("%s: %s: %w", one.target.Name, one.name(), one.err))
		}
	}
	return errors.Join(failed...)
}

// target drills with what is asked for in t. Its error is of t, not of a database.
func (d *drill) target(ctx context.Context, t *chunkstore.Target) error {
	alone := chunkstore.NewStore(t) // no cache and no other target may help
	if d.from.named() {
		l, err := d.from.locate(&session{config: d.config, store: alone, name: d.name, log: d.log})
		if err != nil {
			return err
		}
		if !l.Named() {
			return fmt.Errorf("%v is a manifest by itself: name a database", d.from)
		}
		d.database(ctx, alone, l.Key())
		return ctx.Err()
	}
	var keys []string
	err := t.Manifests.List(ctx, "", func(o chunkstore.Object) bool {
		if !proof.IsKey(o.Key) {
			keys = append(keys, o.Key)
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	for _, key := range keys {
		if ctx.Err() != nil {
			break
		}
		d.database(ctx, alone, key)
	}
	return ctx.Err()
}

// database drills with the database whose manifest has that key, in the one target of alone.
func (d *drill) database(ctx context.Context, alone *chunkstore.Store, key string) {
	one := &drilled{target: alone.Targets[0], key: key}
	if s, ok := manifest.ParseName(one.target.Sealer, key); ok {
		one.host, one.path = s.Host, s.Path
	}
	d.all = append(d.all, one)
	began := time.Now()
	one.err = d.prove(ctx, alone, one)
	one.seconds = time.Since(began).Seconds()
	if one.err != nil || ctx.Err() != nil || d.from.past() || d.o.drill.noProof {
		return
	}
	m := one.manifest
	err := proof.Keep(ctx, one.target, key, proof.Proof{
		Time: time.Now(), Epoch: m.Epoch, Sequence: m.Sequence, VersionTime: m.Time,
		FileBytes: m.FileBytes, Seconds: one.seconds, Host: d.config.Host(), Program: vfs.Program,
	})
	switch {
	case err == nil:
		one.kept = true
	case errors.Is(err, chunkstore.ErrDenied):
		one.note = "the credentials do not allow to keep when this was"
	default:
		one.err = err
	}
}

// prove restores the version that is asked for, has SQLite check it, and compares it.
func (d *drill) prove(ctx context.Context, alone *chunkstore.Store, one *drilled) (err error) {
	if one.manifest, err = d.version(ctx, alone, one); err != nil {
		return err
	}
	m := one.manifest
	one.host, one.path = m.Host, m.Path
	if err := hasRoom(d.scratch(), m.FileBytes); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(d.scratch(), "verneuilctl-drill-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "database")
	if err := restore.File(ctx, file, restore.Options{
		Manifest: m, Store: alone, From: one.target, Concurrency: d.config.DownloadConcurrency(),
		Progress: func(done, total int64) { d.bar.set("restore "+m.Path, done, total) },
	}); err != nil {
		return err
	}
	if m.Host == d.config.Host() && d.name == "" {
		one.source, err = compareSource(ctx, file, m)
	}
	if err != nil {
		return err
	}
	one.checked, err = checkDatabase(ctx, file)
	switch {
	case (one.unreadable || err != nil && d.o.drill.encrypted) && one.source == sourceEqual:
		return ctx.Err()
	case err != nil && one.source == sourceEqual:
		return fmt.Errorf("%w (it equals its source, which is damaged, too; if it is encrypted "+
			"under a plain header: --encrypted)", err)
	case err != nil:
		return err
	case one.violations > 0 && !d.o.drill.ignoreKeys:
		return fmt.Errorf("foreign keys: %d rows refer to rows that are not there "+
			"(if the application allows that: --ignore-foreign-keys)", one.violations)
	}
	return nil
}

// scratch is the directory that databases are restored to.
func (d *drill) scratch() string {
	return cmp.Or(d.o.drill.scratch, d.config.TempDir, os.TempDir())
}

// version returns the version that is asked for.
func (d *drill) version(
	ctx context.Context, alone *chunkstore.Store, one *drilled,
) (*manifest.Manifest, error) {
	f, err := versions.OpenNewest(ctx, one.target, one.key)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", one.key, err)
	}
	m := f.Newest()
	if !d.from.past() {
		return m, nil
	}
	var l *locate.Locator
	if d.name != "" {
		l = locate.InStore(locate.Address{Store: d.name, Path: m.Path}, alone)
	} else if l, err = locate.Parse("verneuil://"+m.Host+m.Path, "", alone); err != nil {
		return nil, err
	}
	found, err := d.from.fetchFrom(ctx, d.session, l)
	return found.Manifest, err
}

// hasRoom fails if dir has no room for n bytes.
func hasRoom(dir string, n int64) error {
	var at unix.Statfs_t
	if err := unix.Statfs(dir, &at); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if free := int64(at.Bavail) * at.Bsize; n > free {
		return fmt.Errorf("%s has %s free, and the database takes %s: give --scratch DIRECTORY",
			dir, humanBytes(free), humanBytes(n))
	}
	return nil
}
