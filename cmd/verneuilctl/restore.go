package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
	"verneuil/replicate/restore"
)

func restoreCommand(g *global) *cobra.Command {
	var (
		from   origin
		out    output
		asJSON bool
	)
	command := &cobra.Command{
		Use:        "restore SOURCE [--out FILE]",
		SuggestFor: []string{"recover", "pull", "get"},
		Short:      "Write the newest or an older version of a database to a file",
		Long: `Fetch the newest version of the database SOURCE, or an older one, verify every byte of
it, and write it to FILE, which appears whole or not at all; without --out, to stdout.

A file that is there is replaced only with --force, and never while a process has it open,
or while it has a journal or a WAL, which SQLite would replay on what is restored.

A restore to FILE that is interrupted leaves what it has beside FILE, and says where. The next
restore to FILE checks it, and fetches only the rest, also of another version.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := from.of(args); err != nil {
				return err
			}
			if err := out.checkDatabase(asJSON); err != nil {
				return err
			}
			return fail(restoreVersion(command.Context(), g, &from, &out, asJSON), "restore",
				from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	out.flags(command)
	command.Flags().BoolVar(&asJSON, "json", false, "print as JSON what was restored")
	return command
}

func exportCommand(g *global) *cobra.Command {
	var (
		from   origin
		out    output
		asJSON bool
	)
	command := &cobra.Command{
		Use:   "export SOURCE FILE",
		Short: "Write a database that lives in a store to a file",
		Long: `Write the newest version of the database SOURCE, such as file:///STORE/path.db, to FILE,
which appears whole or not at all: what restore SOURCE --out FILE does. The database may be
written to meanwhile. A FILE of - is stdout.`,
		Args: atMost(2),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 2 {
				args, out.file = args[:1], args[1]
			}
			if err := from.of(args); err != nil {
				return err
			}
			if out.file == "" {
				return errors.New("which file? give FILE")
			}
			if err := out.checkDatabase(asJSON); err != nil {
				return err
			}
			return fail(restoreVersion(command.Context(), g, &from, &out, asJSON), "export",
				from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	command.Flags().BoolVar(&out.force, "force", false, "replace an existing file")
	command.Flags().BoolVar(&asJSON, "json", false, "print as JSON what was written")
	return command
}

// restoreMemory is how much memory a restore may take before garbage is collected more often than
// it is else: twice what it needs at a time. With the program itself that is less than 150 MiB.
const restoreMemory = 112 << 20

func restoreVersion(ctx context.Context, g *global, from *origin, out *output, asJSON bool) error {
	s, found, err := from.fetchFor(ctx, g, out)
	if err != nil {
		return err
	}
	defer s.Close()
	m := found.Manifest
	if len(s.store.Targets) == 0 && m.Chunks() > 0 {
		return g.errNoTargets()
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(restoreMemory)
	}
	bar := &progress{}
	defer bar.end()
	options := restore.Options{
		Store:       s.store,
		Concurrency: s.config.DownloadConcurrency(),
		Progress:    func(done, total int64) { bar.set("restore", done, total) },
		Replace:     out.force,
	}
	if err := restoreFound(ctx, s, from, found, func(f locate.Found) error {
		options.Manifest, options.From = f.Manifest, f.From
		if out.toStdout() {
			return restoreToStdout(ctx, options)
		}
		return out.refused(restore.File(ctx, out.file, options))
	}); err != nil {
		return err
	}
	if out.toStdout() {
		return nil
	}
	bar.summary("restored %s", humanBytes(m.FileBytes))
	if !asJSON {
		return nil
	}
	return printJSON(map[string]any{
		"file": out.file, "host": m.Host, "path": m.Path, "file_bytes": m.FileBytes,
		"epoch": m.Epoch, "sequence": m.Sequence, "time": m.Time.UTC(),
	})
}

// restoreFound has do restore the version that was found, or, where its target cannot give all of
// it, the same version as another target has it, perhaps in other packs. It says what to do if
// none has all.
func restoreFound(ctx context.Context, s *session, from *origin, found locate.Found,
	do func(locate.Found) error) error {
	err := do(found)
	if !errors.Is(err, restore.ErrSource) || ctx.Err() != nil {
		return err
	}
	locator, locateErr := from.locate(s)
	if locateErr != nil {
		return errors.Join(err, locateErr)
	}
	for _, twin := range locator.Twins(ctx, found) {
		s.log.Warn("restoring from another target", "target", twin.From.Name, "error", err)
		if twinErr := do(twin); !errors.Is(twinErr, restore.ErrSource) {
			return twinErr
		}
	}
	if chunkstore.IsFault(err) && s.name == "" {
		err = fmt.Errorf("%w. On the database's host, verneuilctl sync DB --read puts again what "+
			"is missing or damaged, if the database still has it; another version may not need it "+
			"(versions, --at)", err)
	}
	return err
}

// restoreToStdout assembles the database in a file without a name first: chunks
// arrive in any order, and nothing may be written before all of it is verified.
func restoreToStdout(ctx context.Context, options restore.Options) error {
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
	if err := restore.To(ctx, f, options); err != nil {
		return err
	}
	content := untilDone{ctx, io.NewSectionReader(f, 0, options.Manifest.FileBytes)}
	if _, err := io.Copy(os.Stdout, content); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// untilDone is a reader that ends with an error when its context does.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
