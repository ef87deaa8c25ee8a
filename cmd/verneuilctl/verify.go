package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/proof"
	"verneuil/replicate/upkeep"
)

// verifyFlags are the flags of verify.
type verifyFlags struct {
	upkeep.VerifyOptions
	drill      drillFlags
	allowEmpty bool
	asJSON     bool
}

// check fails if the flags do not go together.
func (o *verifyFlags) check(from *origin) error {
	switch {
	case o.drill.on && (o.Read || o.Touch):
		return errors.New("--drill excludes --read and --touch: it reads, and checks, everything")
	case !o.drill.on && from.past():
		return errors.New("--at and --version-id need --drill")
	case !o.drill.on && o.drill != (drillFlags{}):
		return errors.New("--scratch, --ignore-foreign-keys, --encrypted and --no-proof need " +
			"--drill")
	case from.version != "" && !from.named():
		return errors.New("--version-id is of one database: name it")
	}
	return nil
}

func verifyCommand(g *global) *cobra.Command {
	var (
		from  origin
		flags verifyFlags
	)
	command := &cobra.Command{
		Use:        "verify [SOURCE] [--read] [--touch] | --drill [--at TIME]",
		SuggestFor: []string{"check", "fsck"},
		Short:      "Check that targets have all that their newest versions name",
		Long: `In each target, or in the store that --store names or SOURCE lives in, walk the newest version of
a database, or of every database in it, and look for every leaf, node and pack of chunks that it
names. Prints a line for each that is missing or damaged; the exit code is 1 then, and sync --read,
on the database's host, puts it again. Leaves and
nodes are read and checked against their hashes; with --read, chunks are, too. With --touch,
objects become as young as if they had just been put, for a store whose objects expire.
Replication does that every patrol_days for databases that are open.

A target without databases is an error, as its name may be mistyped: a check that has
looked at nothing must not succeed. --allow-empty permits it.

With --manifest (other than verneuil://), each target is searched for what that manifest
names, or, if it has the same version, for what its own manifest of that version names.

With --drill, restore each database, from each target alone and without any cache, to a file
in a scratch directory (tempdir of the configuration, else the system's; --scratch), which is
removed again. SQLite checks that file: integrity_check and foreign_key_check. If its source
is on this host, the two are compared. When the newest version has passed, the target keeps
the time of that proof, which ls and status show.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			what := "every database"
			if err := from.take(args); err != nil {
				return err
			}
			if err := flags.check(&from); err != nil {
				return err
			}
			if from.named() {
				if err := from.check(); err != nil {
					return err
				}
				what = from.String()
			} else if err := from.checkTime(); err != nil {
				return err
			}
			return fail(verify(command.Context(), g, &from, flags), "verify", what)
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	command.Flags().BoolVar(&flags.drill.on, "drill", false,
		"restore to a scratch directory, and have SQLite check what came of it")
	command.Flags().StringVar(&flags.drill.scratch, "scratch", "",
		"where --drill restores to (default: tempdir of the configuration, else the system's)")
	command.Flags().BoolVar(&flags.drill.ignoreKeys, "ignore-foreign-keys", false,
		"rows that refer to rows which are not there are no failure of a drill")
	command.Flags().BoolVar(&flags.drill.encrypted, "encrypted", false,
		"what SQLite cannot read passes a drill if it equals its source on this host")
	command.Flags().BoolVar(&flags.drill.noProof, "no-proof", false,
		"do not keep in the target that the drill succeeded")
	command.Flags().BoolVar(&flags.Read, "read", false, "read every chunk and check its hash")
	command.Flags().BoolVar(&flags.Touch, "touch", false, "keep what is named from expiring")
	command.Flags().BoolVar(&flags.allowEmpty, "allow-empty", false,
		"accept a target without databases")
	command.Flags().BoolVar(&flags.asJSON, "json", false,
		"print one JSON object per line, the last with the sums")
	return command
}

func verify(ctx context.Context, g *global, from *origin, o verifyFlags) error {
	s, err := from.open(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	if len(s.store.Targets) == 0 {
		return g.errNoTargets()
	}
	if o.drill.on {
		return runDrill(ctx, s, from, o)
	}
	v := &verification{origin: from, asJSON: o.asJSON}
	if from.named() {
		if v.locator, err = from.locate(s); err != nil {
			return err
		}
		if !v.locator.Named() {
			found, err := v.locator.Fetch(ctx)
			if err != nil {
				return s.explain(ctx, v.locator, err)
			}
			v.manifest = found.Manifest
		}
	}
	bar := &progress{}
	defer bar.end()
	o.Concurrency = s.config.DownloadConcurrency()
	o.Progress = func(done, total int64) { bar.set("verify", done, total) }
	var failed []error
	for _, t := range s.store.Targets {
		v.target, v.verifier = t, upkeep.NewVerifier(t, o.VerifyOptions)
		before := v.versions
		if err := v.run(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
		} else if v.versions == before && !o.allowEmpty && v.locator == nil {
			failed =
				append(failed, fmt.Errorf("%s: no database is in it (if that is right: "+
					"--allow-empty)", t.Name))
		}
		v.objects += v.verifier.Objects()
		if ctx.Err() != nil {
			break
		}
	}
	bar.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if n := len(v.lacking); n > 0 && n == len(s.store.Targets) {
		return s.explain(ctx, v.locator, v.lacking[0].err)
	}
	for _, l := range v.lacking { // others have it
		v.versions++
		v.found(l.target, v.locator.Key(), l.err)
	}
	if err := v.sum(); err != nil {
		return err
	}
	if v.faults > 0 {
		advice := ""
		if s.name == "" {
			advice = "; on the database's host, verneuilctl sync DB --read puts them again"
		}
		failed = append(failed, fmt.Errorf("%d objects are missing or damaged%s", v.faults, advice))
	}
	return errors.Join(failed...)
}

// verification is one run of the command.
type verification struct {
	origin   *origin
	locator  *locate.Locator    // of the one source to verify; nil: all
	manifest *manifest.Manifest // the version to verify, where locator names but one object

	target   *chunkstore.Target
	verifier *upkeep.Verifier

	lacking []lacking // targets without the source

	asJSON                    bool
	versions, objects, faults int
}

// lacking is a target that has no version of what is to be verified, and how it says so.
type lacking struct {
	target string
	err    error
}

// run verifies what is asked for in the present target.
func (v *verification) run(ctx context.Context) error {
	switch {
	case v.locator == nil:
		return v.all(ctx)
	case v.locator.Named():
		return v.named(ctx, v.locator.Key())
	}
	m := v.manifest
	// Each target has a version in packs of its own.
	own, err := v.verifier.Named(ctx, manifest.Name(v.target.Sealer, m.Host, m.Path))
	if err == nil && own.Cut == m.Cut {
		m = own
	}
	return v.version(ctx, v.locator.String(), m)
}

func (v *verification) all(ctx context.Context) error {
	var keys []string
	if err := v.target.Manifests.List(ctx, "", func(o chunkstore.Object) bool {
		if !proof.IsKey(o.Key) {
			keys = append(keys, o.Key)
		}
		return true
	}); err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	for _, key := range keys {
		if err := v.named(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// named verifies the newest version that the target has under key.
func (v *verification) named(ctx context.Context, key string) error {
	m, err := v.verifier.Named(ctx, key)
	switch {
	case v.locator != nil && errors.Is(err, chunkstore.ErrAbsent):
		v.lacking = append(v.lacking, lacking{v.target.Name, err})
		return nil
	case errors.Is(err, chunkstore.ErrAbsent), errors.Is(err, chunkstore.ErrCorrupt):
		v.versions++
		v.found(v.target.Name, key, err)
		return nil
	case err != nil:
		return fmt.Errorf("manifest %s: %w", key, err)
	}
	return v.version(ctx, key, m)
}

func (v *verification) version(ctx context.Context, name string, m *manifest.Manifest) error {
	v.versions++
	faults, err := v.verifier.Verify(ctx, m)
	for _, fault := range faults {
		v.found(v.target.Name, name, fault)
	}
	return err
}

func (v *verification) found(target, name string, fault error) {
	v.faults++
	if v.asJSON {
		_ = printJSON(map[string]any{"target": target, "manifest": name,
			"fault": fault.Error()})
		return // the sum is printed, or fails, in the same way
	}
	fmt.Println(oneLine(target + ": " + name + ": " + fault.Error()))
}

// sum prints what was looked at, and found.
func (v *verification) sum() error {
	if v.asJSON {
		return printJSON(map[string]any{
			"versions": v.versions, "objects": v.objects, "missing_or_damaged": v.faults,
		})
	}
	_, err := fmt.Printf("versions: %d, objects: %d, missing or damaged: %d\n",
		v.versions, v.objects, v.faults)
	return err
}
