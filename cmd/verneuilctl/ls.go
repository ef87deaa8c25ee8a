package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/keyring"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/proof"
	"verneuil/replicate/upkeep"
	"verneuil/replicate/versions"
)

// versionsCounted bounds how many versions of a database are counted: each 1,000 take a request,
// and a busy database has thousands a day.
const versionsCounted = 1000

// lsFlags are the flags of ls.
type lsFlags struct {
	host, path string
	store      string
	allowEmpty bool
	asJSON     bool
	dedup      bool
}

func lsCommand(g *global) *cobra.Command {
	var o lsFlags
	command := &cobra.Command{
		Use:        "ls [TARGET|file:///STORE[/PATH]]",
		Aliases:    []string{"list"},
		SuggestFor: []string{"databases", "list-databases", "generations"},
		Short:      "List the databases that a target holds",
		Long: `List the databases in all targets of the configuration, or in TARGET: a part of the name
of a target of the configuration, or any directory, or any bucket of manifests, given as
s3://BUCKET.REGION[.ENDPOINT][/PREFIX]. For each database it prints the host, the path, the
size, how many manifests are kept, how long ago the target got the newest one, and how long
ago a drill (verify --drill) last proved that it restores from there. What came after that
manifest stands in records, which are not read. It makes three requests per database.

With --dedup it also weighs the versions: what they would take if each were stored by itself
(ALONE), and what they take (STORED), as they are stored, compressed; and of all together, where
databases share packs, too, beside all that the bucket of chunks holds. It weighs the newest
version and each checkpoint that is kept, not those that the records between make. For that it
reads them, and their leaves: 25 KB for 32 MiB of a database, those that versions share once.

Of a store that databases live in it lists these, or the one that file:///STORE/PATH names: their
path and size, how long ago the store got the newest version, and who holds the database.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			target := strings.Join(args, "")
			doing := append([]string{"ls"}, args...)
			if name, ok := storeOf(target); ok && o.store == "" {
				o.store, target = name, ""
			}
			one := origin{uri: target}
			switch a, ok, err := one.address(g); {
			case err != nil:
				return fail(err, doing...)
			case ok && o.path == "" && (o.store == "" || o.store == a.Store):
				o.store, o.path, target = a.Store, a.Path, ""
			}
			if o.store != "" {
				if target != "" || o.host != "" {
					return errors.New("--store excludes TARGET and --hostname")
				}
				return fail(lsStore(command.Context(), g, o.store, o), doing...)
			}
			return fail(ls(command.Context(), g, target, o), doing...)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.host, "hostname", "", "only databases of this host")
	flags.StringVarP(&o.path, "source-path", "s", "", "only databases with this path")
	flags.StringVar(&o.store, "store", "", "the databases that live in this store")
	flags.BoolVar(&o.allowEmpty, "allow-empty", false, "accept a target without databases")
	flags.BoolVar(&o.dedup, "dedup", false, "also weigh the versions, and what they share")
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object per line")
	return command
}

// held is what ls prints about one database in one target.
type held struct {
	locate.Holding
	target   *chunkstore.Target
	manifest *manifest.Manifest // the newest; nil: err says why
	versions int
	proof    *proof.Proof   // nil: none is known
	weight   *upkeep.Weight // nil: that was not asked, or err says why
	err      error
}

// ls prints what it found even if something could not be read.
func ls(ctx context.Context, g *global, name string, o lsFlags) error {
	store, targets, err := g.targets(ctx, name)
	if err != nil {
		return err
	}
	defer store.Close()
	var (
		all    []held
		sums   []*dedup
		failed []error
	)
	for _, t := range targets {
		sum := newDedup(t, o.dedup)
		found, err := inventory(ctx, t, o, sum)
		if err == nil {
			err = sum.finish(ctx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
		}
		all, sums = append(all, found...), append(sums, sum)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, h := range all {
		if h.err != nil {
			failed = append(failed, fmt.Errorf("%s: %s: %w", h.target.Name, h.Key, h.err))
		}
	}
	err = printHeld(all, len(targets) > 1, o)
	for _, sum := range sums {
		err = errors.Join(err, sum.print(o.asJSON))
	}
	if err != nil {
		return err
	}
	if len(all) == 0 && len(failed) == 0 && !o.allowEmpty {
		return noneFound(ctx, targets, o)
	}
	return errors.Join(failed...)
}

// noneFound is the error of who has found no database.
func noneFound(ctx context.Context, targets []*chunkstore.Target, o lsFlags) error {
	text := "no database"
	if o.path != "" {
		text += " at " + o.path
	}
	if o.host == "" {
		return errors.New(text + " found (if that is right, give --allow-empty)")
	}
	text += " of host " + o.host + " found"
	if there, _ := hostsIn(ctx, targets); len(there) > 0 {
		text += "; there are some of " + few(there)
	}
	return errors.New(text + " (if that is right, give --allow-empty)")
}

// hostsIn returns the hosts of databases in targets; all, unless there are databases of which the
// names are not known, or a target cannot be asked. Databases of stores have none.
func hostsIn(ctx context.Context, targets []*chunkstore.Target) (hosts []string, all bool) {
	all = true
	seen := make(map[string]bool)
	for _, t := range targets {
		err := locate.Holdings(ctx, t, "", func(h locate.Holding) bool {
			switch {
			case h.Foreign:
				all = false
			case h.Host != "" && !seen[h.Host]:
				seen[h.Host] = true
				hosts = append(hosts, h.Host)
			}
			return true
		})
		all = all && err == nil
	}
	return hosts, all
}

// unconfigured returns the target that name stands for by itself, without the configuration; nil:
// there is none.
func (g *global) unconfigured(ctx context.Context, name string) (*chunkstore.Store, error) {
	options := chunkstore.Options{Log: g.log, Timeout: g.timeout}
	if config, err := g.parse(); err == nil { // it may have the key
		if options.Sealer, err = keyring.Open(config.Keys, g.log); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return chunkstore.Open(ctx, []chunkstore.TargetConfig{&dir.Config{Path: name}}, options)
	}
	if schemeOf(name) == "" {
		return nil, nil
	}
	at, known, err := chunkstore.ParseAddress(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", locate.Redacted(name), err)
	}
	if !known {
		return nil, nil
	}
	for i, config := range at.Targets {
		store, err := chunkstore.Open(ctx, []chunkstore.TargetConfig{config}, options)
		if err != nil || i == len(at.Targets)-1 {
			return store, err
		}
		found := false
		err = locate.Holdings(ctx, store.Targets[0], "", func(locate.Holding) bool {
			found = true
			return false
		})
		if found || err != nil {
			return store, err
		}
	}
	return nil, nil
}

// targets returns the targets that name stands for; the caller closes the store.
func (g *global) targets(
	ctx context.Context, name string,
) (*chunkstore.Store, []*chunkstore.Target, error) {
	if store, err := g.unconfigured(ctx, name); err != nil {
		return nil, nil, err
	} else if store != nil {
		return store, store.Targets, nil
	}
	s, err := g.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(s.store.Targets) == 0 {
		return nil, nil, errors.Join(g.errNoTargets(), s.Close())
	}
	var names []string
	targets := slices.DeleteFunc(slices.Clone(s.store.Targets), func(t *chunkstore.Target) bool {
		names = append(names, t.Name)
		return !strings.Contains(t.Name, name)
	})
	if len(targets) == 0 {
		err := fmt.Errorf("neither a directory nor a target of the configuration, which has %s",
			strings.Join(names, ", "))
		return nil, nil, errors.Join(err, s.Close())
	}
	return s.store, targets, nil
}

// inventory returns what the target holds, by host and path.
func inventory(
	ctx context.Context, t *chunkstore.Target, o lsFlags, sum *dedup,
) ([]held, error) {
	var all []held
	err := locate.Holdings(ctx, t, o.host, func(h locate.Holding) bool {
		if o.path == "" || !h.Whole || h.Path == o.path {
			all = append(all, held{Holding: h, target: t})
		}
		return true
	})
	if len(all) == 0 && err == nil {
		// Under its own names it may have what we look for.
		err = chunkstore.CheckRing(ctx, t.Manifests, t.Sealer)
	}
	var group errgroup.Group
	group.SetLimit(32)
	for i := range all {
		group.Go(func() error {
			all[i].look(ctx)
			return nil
		})
	}
	_ = group.Wait() // each keeps its own
	all = slices.DeleteFunc(all, func(h held) bool {
		return o.host != "" && h.Host != "" && h.Host != o.host ||
			o.path != "" && h.Path != o.path && h.manifest != nil
	})
	slices.SortFunc(all, func(a, b held) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Path, b.Path))
	})
	for i := range all { // each takes many requests at once by itself
		if h := &all[i]; h.err == nil {
			h.weight, h.err = sum.weigh(ctx, h.Key)
		}
	}
	return all, err
}

// look reads the newest manifest, and counts those that are kept.
func (h *held) look(ctx context.Context) {
	follower, err := versions.Open(ctx, h.target, h.Key)
	if h.err = err; err == nil {
		h.manifest = follower.Newest()
		h.Host, h.Path = h.manifest.Host, h.manifest.Path
	}
	h.proof = lastProof(ctx, h.target, h.Key)
	versioned, ok := h.target.Manifests.(chunkstore.Versioned)
	if !ok {
		h.versions = 1
		return
	}
	err = versioned.ListVersions(ctx, h.Key, func(chunkstore.Object) bool {
		h.versions++
		return h.versions < versionsCounted
	})
	if err != nil && h.versions == 0 {
		h.versions = 1 // listing versions needs a right of its own: the newest is there
	}
}

// lastProof returns the last proof of the database whose manifest has that key; nil: none is known.
func lastProof(ctx context.Context, t *chunkstore.Target, key string) *proof.Proof {
	p, err := proof.Last(ctx, t, key)
	if err != nil {
		return nil
	}
	return &p
}

// proven tells people when p was made.
func proven(p *proof.Proof) string {
	if p == nil {
		return "never"
	}
	return humanize.Time(p.Time)
}

func printHeld(all []held, withTarget bool, o lsFlags) error {
	if o.asJSON {
		for _, h := range all {
			if err := printJSON(h.json()); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		return nil
	}
	out := newTable(withTarget)
	out.row("TARGET", append([]string{"HOST", "PATH", "SIZE", "VERSIONS", "NEWEST", "PROVEN"},
		weightHeads(o.dedup)...)...)
	for _, h := range all {
		size, path := unknown(h.err), h.Path
		if h.manifest != nil {
			size = humanBytes(h.manifest.FileBytes)
		} else if !h.Whole {
			path += "…"
		}
		versions := strconv.Itoa(h.versions)
		if h.versions >= versionsCounted {
			versions += "+"
		}
		out.row(h.target.Name, append([]string{h.Host, path, size, versions,
			humanize.Time(h.Stored), proven(h.proof)}, weightCells(o.dedup, h.weight)...)...)
	}
	return out.Flush()
}

// unknown is printed as the size of a database of which err keeps us from knowing it.
func unknown(err error) string {
	switch {
	case errors.Is(err, chunkstore.ErrKey):
		return "encrypted"
	case errors.Is(err, chunkstore.ErrCorrupt), errors.Is(err, chunkstore.ErrAbsent):
		return "damaged"
	}
	return "unreadable"
}

// json is what ls --json prints of h.
func (h *held) json() map[string]any {
	line := map[string]any{
		"host": h.Host, "path": h.Path, "target": h.target.Name,
		"manifest": h.Key, "manifest_bytes": h.ManifestBytes,
		"versions": h.versions, "more_versions": h.versions >= versionsCounted,
		"stored": h.Stored.UTC(), "age_seconds": int64(time.Since(h.Stored).Seconds()),
	}
	if h.proof != nil {
		line["proven"] = h.proof.Time
	}
	if h.weight != nil {
		line["dedup"] = h.weight
	}
	if m := h.manifest; m != nil {
		line["file_bytes"], line["time"] = m.FileBytes, m.Time.UTC()
		line["epoch"], line["sequence"] = m.Epoch, m.Sequence
	}
	if h.err != nil {
		line["error"] = h.err.Error()
	}
	return line
}
