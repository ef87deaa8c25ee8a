package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/replicate/upkeep"
)

func gcCommand(g *global) *cobra.Command {
	var (
		o      upkeep.CollectOptions
		store  string
		asJSON bool
	)
	command := &cobra.Command{
		Use:        "gc [--delete] [--host H] [--store STORE]",
		SuggestFor: []string{"collect", "prune", "clean", "cleanup", "expire", "vacuum"},
		Short:      "Delete what no version needs any more",
		Long: `In each target and store of the configuration, or in STORE, find the packs of chunks that no
version names, and the checkpoints and records that are only for versions older than history_hours
(24), and print how many there are, and how many bytes. Only with --delete are they deleted. What
stays: the newest version of every database, each version that is not older than history_hours,
one of each day of the last week, and every version of a manifest that a bucket keeps. A pack that
no version names stays for history_hours and 26 hours more, as it may be of a version that is on
its way.

Databases may be written to and read meanwhile. If one was written to in the last 20
minutes, --delete may first wait for 20 minutes, so that nobody misses what it deletes.

With --host, only the checkpoints, versions and records of this host's databases are deleted.
Packs may be shared by all databases of a bucket: those are deleted that no host needs.

With --delete, a database in a store whose holder has shown no sign of life for an hour is
taken from him: what he had not committed is lost, should he wake up.

Where the key file has older keys, --delete also seals packs with the newest one, and says what
else still needs an older one: see docs/encryption.md.

If a manifest, or a leaf of one, is missing or damaged, nothing is deleted in that target, and
the exit code is 1. The credentials need the rights to get, list (also versions, in S3) and delete;
those of writers and readers do not need the last.`,
		Args: atMost(0),
		RunE: func(command *cobra.Command, _ []string) error {
			return fail(gc(command.Context(), g, o, store, asJSON), "gc")
		},
	}
	flags := command.Flags()
	flags.BoolVar(&o.Delete, "delete", false, "delete it (default: only print what would be)")
	flags.StringVar(&o.Host, "host", "", "only what databases of this host have kept")
	flags.StringVar(&store, "store", "", "only what lies in the bucket of this store")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return command
}

func gc(
	ctx context.Context, g *global, o upkeep.CollectOptions, store string, asJSON bool,
) error {
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	targets, only, err := s.everywhere(ctx, store)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return g.errNoTargets()
	}
	o = s.collectOptions(o)
	var (
		failed []error
		looked []*chunkstore.Target
		found  int // objects of the host
	)
	for _, targets := range byChunks(targets) {
		if only != nil && targets[0].Chunks.String() != only.Chunks.String() {
			continue
		}
		var names []string
		for _, t := range targets {
			names = append(names, t.Name)
		}
		name := strings.Join(names, ", ")
		looked = append(looked, targets...)
		c, err := upkeep.Collect(ctx, targets, o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := printCollected(name, c, o.Delete, asJSON, err); err != nil {
			return err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		} else {
			found += c.Checkpoints.Objects + c.Versions.Objects + c.Records.Objects
		}
	}
	if o.Host != "" && found == 0 && len(failed) == 0 {
		if hosts, all := hostsIn(ctx, looked); all && !slices.Contains(hosts, o.Host) {
			s.log.Warn("gc: no database is of that host", "host", o.Host, "there_are", few(hosts))
		}
	}
	return errors.Join(failed...)
}

// collectOptions returns o with what the configuration says.
func (s *session) collectOptions(o upkeep.CollectOptions) upkeep.CollectOptions {
	o.History = time.Duration(s.config.HistoryHours) * time.Hour
	o.Concurrency, o.Owner = s.config.DownloadConcurrency(), s.owner()
	return o
}

// everywhere returns the targets, and those of the stores, where they are another place; only is
// that of store, if that is not empty. Who collects in one bucket of chunks must know all that
// name something in it.
func (s *session) everywhere(
	ctx context.Context, store string,
) (all []*chunkstore.Target, only *chunkstore.Target, err error) {
	if store != "" && !s.config.Remote.Has(store) {
		return nil, nil, s.config.Remote.Missing(store)
	}
	all = slices.Clone(s.store.Targets)
	for _, name := range s.config.Remote.Names() {
		opened, err := s.config.OpenNamedStore(ctx, name, s.log)
		if err != nil {
			return nil, nil, err
		}
		t := opened.Targets[0]
		if name == store {
			only = t
		}
		if !slices.ContainsFunc(all, func(other *chunkstore.Target) bool {
			return other.Chunks.String() == t.Chunks.String() &&
				other.Manifests.String() == t.Manifests.String()
		}) {
			all = append(all, t)
		}
	}
	return all, only, nil
}

// byChunks puts targets together that have the same bucket of chunks.
func byChunks(targets []*chunkstore.Target) (groups [][]*chunkstore.Target) {
	index := make(map[string]int)
	for _, t := range targets {
		name := t.Chunks.String()
		k, ok := index[name]
		if !ok {
			k = len(groups)
			index[name] = k
			groups = append(groups, nil)
		}
		groups[k] = append(groups[k], t)
	}
	return groups
}

// printCollected prints what was found, or deleted, in a target; after an error, only what had been
// deleted before.
func printCollected(
	name string, c *upkeep.Collected, deleted, asJSON bool, failed error,
) error {
	if failed != nil && !(deleted && c.Objects() > 0) {
		return nil
	}
	if asJSON {
		return printJSON(struct {
			Target  string `json:"target"`
			Deleted bool   `json:"deleted"`
			Whole   bool   `json:"whole"`
			*upkeep.Collected
		}{name, deleted, failed == nil, c})
	}
	verb := "would delete"
	if deleted {
		verb = "deleted"
	}
	what := func(a upkeep.Amount, noun string) string {
		return fmt.Sprintf("%d %s (%s)", a.Objects, noun, humanBytes(a.Bytes))
	}
	leases := ""
	if c.Leases.Objects > 0 {
		leases = ", " + what(c.Leases, "leases")
	}
	fmt.Printf("%s: %s %s, %s, %s, %s%s\n", oneLine(name), verb, what(c.Packs, "packs"),
		what(c.Checkpoints, "checkpoints"), what(c.Versions, "versions"),
		what(c.Records, "records"), leases)
	_, err := fmt.Printf("%s: %d databases; packs in use: %s, of which %s are dead; "+
		"too young to go: %s\n", oneLine(name), c.Databases, what(c.Live, "packs"),
		humanBytes(c.DeadBytes), what(c.Young, "packs"))
	if err != nil || c.Older == nil {
		return err
	}
	return printOlder(name, c.Older)
}

// printOlder prints what is sealed with older keys.
func printOlder(name string, o *upkeep.Older) error {
	if !o.Left() {
		_, err := fmt.Printf("%s: older keys: %d packs (%s) were sealed anew; nothing needs "+
			"them any more\n", oneLine(name), o.Resealed.Objects, humanBytes(o.Resealed.Bytes))
		return err
	}
	_, err := fmt.Printf("%s: older keys: %d packs (%s) were sealed anew; they are still needed "+
		"for %d packs (%s), %d kept versions, %d records, and the newest checkpoints of %d "+
		"databases\n",
		oneLine(name), o.Resealed.Objects, humanBytes(o.Resealed.Bytes), o.Packs.Objects,
		humanBytes(o.Packs.Bytes), o.Checkpoints, o.Records, len(o.Newest))
	for _, database := range o.Newest {
		if err == nil {
			_, err = fmt.Printf("%s: older keys: the next version of %s will be sealed with the "+
				"newest\n", oneLine(name), oneLine(database))
		}
	}
	return err
}
