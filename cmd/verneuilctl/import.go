package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/remote/cephsqlite"
	"verneuil/replicate/remote/deposit"
	"verneuil/replicate/restore"
	"verneuil/replicate/versions"
	"verneuil/vfs"
)

// wantInStore is said where a database in a store is missing.
const wantInStore = "give file:///STORE/PATH, with a STORE of the configuration"

func createCommand(g *global) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "create file:///STORE/PATH",
		Short: "Make an empty database in a store",
		Long: `Make an empty database that lives in a store of the configuration, unless there is one of
that path. Before that, the store is asked to create one object several times at once: where
it does not keep what databases rely on, they cannot live.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which database? " + wantInStore)
			}
			i := &importing{to: args[0], asJSON: asJSON}
			return fail(i.run(command.Context(), g), "create", args[0])
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print as JSON what was made")
	return command
}

func importCommand(g *global) *cobra.Command {
	i := &importing{}
	command := &cobra.Command{
		Use:   "import FILE|SOURCE file:///STORE/PATH",
		Short: "Put a copy of a database into a store",
		Long: `Copy the database FILE, as of its last commit, into a store of the configuration, where the
copy lives from then on; or the newest version of SOURCE, which is a URI such as
verneuil://HOST/PATH, or an older one. Whoever uses FILE goes on with FILE: stop that first.
Until all is there, nothing is. An import that was interrupted goes on when it is started
again on the same day (UTC), but into a directory: what the store has is not sent again.

cephsqlite:///POOL:NAMESPACE/NAME is what Ceph's libcephsqlite calls file:///POOL:NAMESPACE/NAME
(*POOLID: works, too). It is copied under its lock, which ends 30 s after its user has died; the
cluster is told to refuse that client from then on, as libcephsqlite does.

A database that is there is replaced only with --replace, and only while nobody holds it.
Who has it open reads the copy at his next transaction. All versions before that stay, to be
gone back to.`,
		Args: atMost(2),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("give what to copy, and where to: file:///STORE/PATH")
			}
			i.from, i.to = args[0], args[1]
			var err error
			if i.striped, i.ofCeph, err = cephsqlite.Parse(i.from); err != nil {
				return err
			} else if i.ofCeph && i.source.past() {
				return errors.New("a database of libcephsqlite has no versions: leave out " +
					"--at and --version-id")
			}
			if !i.ofCeph && (i.source.past() || schemeOf(i.from) != "") {
				i.source.uri = i.from
				if err := i.source.check(); err != nil {
					return err
				}
			}
			return fail(i.run(command.Context(), g), "import", locate.Redacted(i.from))
		},
	}
	i.source.flagsOfPast(command)
	command.Flags().BoolVar(&i.replace, "replace", false, "replace a database that is there")
	command.Flags().BoolVar(&i.asJSON, "json", false, "print as JSON what was done")
	return command
}

// importing is an import on its way; without a from, what is made is empty.
type importing struct {
	from   string
	source origin // what from stands for, if it is a URI
	to     string

	striped cephsqlite.Name // what from stands for, if ofCeph
	ofCeph  bool

	replace, asJSON bool

	address locate.Address // of to
	bar     progress
	found   atomic.Int64 // packs that are there, such as those of an import that was interrupted
}

func (i *importing) run(ctx context.Context, g *global) error {
	s, err := g.openAt(ctx, i.to, &i.address)
	if err != nil {
		return err
	}
	defer s.Close()
	defer i.bar.end()
	if err := i.check(ctx, s); err != nil {
		return err
	}
	began := time.Now()
	m, err := i.put(ctx, g, s)
	if err != nil {
		return i.explain(err)
	}
	found := i.found.Load()
	s.log.Info("imported", "from", i.from, "database", i.address.String(), "bytes", m.FileBytes,
		"packs_found", found, "seconds", time.Since(began).Seconds())
	switch {
	case i.from == "":
	case found > 0:
		i.bar.summary("imported %s, of which %d packs were there", humanBytes(m.FileBytes), found)
	default:
		i.bar.summary("imported %s", humanBytes(m.FileBytes))
	}
	if !i.asJSON {
		return nil
	}
	return printJSON(map[string]any{"database": i.address.String(), "store": i.address.Store,
		"path": i.address.Path, "file_bytes": m.FileBytes, "epoch": m.Epoch,
		"packs_found": found, "sequence": m.Sequence,
		"version_id": versions.IDOf(m.At).String(), "time": m.Time.UTC()})
}

// openAt opens the store that the database called uri lives in, and finds out which that is.
func (g *global) openAt(ctx context.Context, uri string, a *locate.Address) (*session, error) {
	config, err := g.parse()
	if err != nil {
		return nil, err
	}
	ok := false
	if *a, ok, err = locate.ParseAddressURI(uri, config.Remote.Has); err != nil {
		return nil, err
	} else if !ok {
		other, isURI, _ := locate.ParseAddressURI(uri, func(string) bool { return true })
		if !isURI {
			return nil, fmt.Errorf("%s: %s", locate.Redacted(uri), wantInStore)
		}
		return nil, config.Remote.Missing(other.Store)
	}
	return g.openNamed(ctx, a.Store)
}

// check fails before all the work if it would be in vain.
func (i *importing) check(ctx context.Context, s *session) error {
	if i.replace {
		return nil
	}
	_, err := locate.InStore(i.address, s.store).Fetch(ctx)
	if err == nil {
		return i.explain(deposit.ErrExists)
	}
	return nil // there is none, or it is found out in the end
}

// explain says what to do about err.
func (i *importing) explain(err error) error {
	switch {
	case i.from == "":
		return err
	case errors.Is(err, deposit.ErrExists):
		err = fmt.Errorf("%w (--replace replaces it)", err)
	case errors.Is(err, deposit.ErrHeld):
		err = fmt.Errorf("%w (lock info tells more, lock break takes it away)", err)
	}
	return fmt.Errorf("%v: %w", i.address, err)
}

// put puts the copy, or an empty database.
func (i *importing) put(
	ctx context.Context, g *global, s *session,
) (m *manifest.Manifest, err error) {
	o := deposit.Options{
		Target: s.store.Targets[0], Path: i.address.Path, Owner: s.owner(), Replace: i.replace,
		Concurrency: s.config.UploadConcurrency,
		Progress:    func(done, total int64) { i.bar.set("import", done, total) },
		Found:       i.found.Store,
	}
	switch {
	case i.from == "":
		return deposit.Put(ctx, o, deposit.Empty{})
	case i.source.uri == "" && !i.ofCeph:
		path, err := canonicalPath(i.from)
		if err != nil {
			return nil, err
		}
		return i.putFile(ctx, o, path)
	}
	dir, err := os.MkdirTemp(cmp.Or(s.config.TempDir, os.TempDir()), "verneuilctl-import-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := &output{file: dir + "/database"}
	if i.ofCeph {
		if err := i.fetchStriped(ctx, s, out.file); err != nil {
			return nil, fmt.Errorf("%v: %w", i.striped, err)
		}
		return i.putFile(ctx, o, out.file)
	}
	if err := fetchInto(ctx, g, &i.source, out, &i.bar); err != nil {
		return nil, fmt.Errorf("%v: %w", &i.source, err)
	}
	return i.putFile(ctx, o, out.file)
}

// fetchStriped copies the database of libcephsqlite to a file.
func (i *importing) fetchStriped(ctx context.Context, s *session, file string) error {
	return cephsqlite.Fetch(ctx, i.striped, file, cephsqlite.Options{
		Progress: func(done, total int64) { i.bar.set("fetch", done, total) },
		Blocked: func(address string) {
			s.log.Warn("the cluster was told to refuse the last user of the database, which has "+
				"not given it back", "database", i.striped.String(), "client", address)
		},
	})
}

// fetchInto restores the version that from names to a file.
func fetchInto(
	ctx context.Context, g *global, from *origin, out *output, bar *progress,
) error {
	s, found, err := from.fetchFor(ctx, g, out)
	if err != nil {
		return err
	}
	defer s.Close()
	options := restore.Options{
		Store:       s.store,
		Concurrency: s.config.DownloadConcurrency(),
		Progress:    func(done, total int64) { bar.set("fetch", done, total) },
	}
	return restoreFound(ctx, s, from, found, func(f locate.Found) error {
		options.Manifest, options.From = f.Manifest, f.From
		return restore.File(ctx, out.file, options)
	})
}

// putFile puts a copy of the database at path, as of its last commit.
func (i *importing) putFile(
	ctx context.Context, o deposit.Options, path string,
) (m *manifest.Manifest, err error) {
	pinned, err := pin(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer func() { err = errors.Join(err, pinned.Close()) }()
	return deposit.Put(ctx, o, pinned)
}

// owner is this process, for others to read.
func (s *session) owner() manifest.Owner {
	return manifest.Owner{
		Host: s.config.Host(), Program: vfs.Program + " verneuilctl", PID: os.Getpid(),
		Since: time.Now(),
	}
}
