package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/spool"
	"verneuil/vfs"
)

func configCommand(g *global) *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration",
		Args:  unknownCommand,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("missing command: config check")
		},
	}
	var write, asJSON bool
	check := &cobra.Command{
		Use:   "check [--write]",
		Short: "Check the configuration, its directories and its targets",
		Long: `Read the configuration, check the directories that it names, and ask each target for an
object. With --write, make the object that gives each bucket its identity, as the first
backup does, and put it again on the condition that there is none: this proves that we have
the permissions that replication needs. Prints a line for each check; the exit code is 1 if a
check fails. doctor looks at more.`,
		Args: atMost(0),
		RunE: func(command *cobra.Command, _ []string) error {
			return fail(checkConfig(command.Context(), g, write, asJSON), "config check")
		},
	}
	check.Flags().BoolVar(&write, "write", false, "make, get and put an object in each bucket")
	check.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	command.AddCommand(check)
	return command
}

// finding is one line of config check.
type finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	About string `json:"about"` // the error, if it is not OK
}

func checkConfig(ctx context.Context, g *global, write, asJSON bool) error {
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if g.text() == "" {
		return g.errNoTargets()
	}
	failed := 0
	tell := func(what, about string, err error) error {
		f := finding{what, err == nil, about}
		if err != nil {
			f.About = oneLine(err.Error())
			failed++
		}
		if asJSON {
			return printJSON(f)
		}
		state := "ok    "
		if !f.OK {
			state = "FAILED"
		}
		_, err = fmt.Printf("%s  %s: %s\n", state, f.What, f.About)
		return err
	}
	printed := []error{tell("hostname", s.config.Host(), nil)}
	if dir := s.config.ReplicationSpoolingDir; dir == "" {
		printed = append(printed, tell("replication_spooling_dir", "not set: nothing is replicated",
			nil))
	} else {
		printed = append(printed, tell("replication_spooling_dir", dir, checkSpools(dir)))
	}
	if dir := s.config.TempDir; dir != "" {
		printed = append(printed, tell("tempdir", dir, vfs.UsableTempDir(dir)))
	}
	for _, t := range s.config.Targets {
		cache, ok := t.(chunkstore.CacheOpener)
		if !ok {
			continue
		}
		dir, filled := cache.Place()
		if filled {
			printed = append(printed, tell(t.Kind(), dir, vfs.Usable(dir)))
		} else {
			_, err := os.ReadDir(dir)
			printed = append(printed, tell(t.Kind(), dir, err))
		}
	}
	if len(s.store.Targets) == 0 && len(s.config.Remote.Stores) == 0 {
		printed = append(printed, tell("replication_targets", "", g.errNoTargets()))
	}
	for _, t := range s.store.Targets {
		printed = append(printed,
			tell(t.Name, "chunks", wrapped("chunks", checkBucket(ctx, t, t.Chunks, write))),
			tell(t.Name, "manifests",
				wrapped("manifests", checkBucket(ctx, t, t.Manifests, write))))
	}
	for _, name := range s.config.Remote.Names() {
		about, err := s.checkStore(ctx, name, write)
		printed = append(printed, tell("store "+name, about, err))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed > 0:
		return errors.Join(append(printed, fmt.Errorf("failed checks: %d", failed))...)
	}
	return errors.Join(printed...)
}

// checkStore checks a store that databases live in; with write, whether they can live there.
func (s *session) checkStore(ctx context.Context, name string, write bool) (string, error) {
	store, err := s.config.OpenNamedStore(ctx, name, s.log)
	if err != nil {
		return "", err
	}
	defer store.Close()
	t := store.Targets[0]
	err = errors.Join(wrapped("chunks", checkBucket(ctx, t, t.Chunks, write)),
		wrapped("manifests", checkBucket(ctx, t, t.Manifests, write)))
	if err == nil && write {
		if _, err = t.Prove(ctx); err == nil {
			err = t.ProveCreates(ctx)
		}
	}
	about := t.Name
	if info, statErr := os.Stat("/" + name); statErr == nil && info.IsDir() {
		about += "; file:///" + name + "/… names its databases, and not files in the directory /" +
			name
	}
	return about, err
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// checkSpools fails if dir cannot hold spools, or if they would not be trusted.
func checkSpools(dir string) error {
	if err := vfs.Usable(dir); err != nil {
		return err
	}
	// No spool has this name: Trust checks only the directory above it.
	err := spool.Trust(filepath.Join(dir, "none"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return spool.Local(dir)
}

// checkBucket asks for an object that does not exist, and whether the keys fit, or, with write,
// puts one.
func checkBucket(
	ctx context.Context, t *chunkstore.Target, b chunkstore.Bucket, write bool,
) error {
	if !write {
		if err := chunkstore.Reach(ctx, b); err != nil {
			return err
		}
		return chunkstore.CheckRing(ctx, b, t.Sealer)
	}
	// The object that gives a bucket its identity, which every writer makes: nothing is left that
	// was not to be there, and a writer that may neither replace nor delete passes.
	if _, err := chunkstore.Identify(ctx, b, t.Sealer); err != nil {
		return err
	}
	o, err := b.Get(ctx, chunkstore.MarkerKey, chunkstore.GetOptions{})
	if err != nil {
		return err
	}
	_, err = b.Put(ctx, chunkstore.MarkerKey, o.Body, chunkstore.Condition{IfNone: true})
	if errors.Is(err, chunkstore.ErrConflict) { // so it may be put
		return nil
	}
	return err
}
