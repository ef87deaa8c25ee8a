package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"verneuil/replicate/locate"
)

func versionsCommand(g *global) *cobra.Command {
	var (
		from   origin
		limit  int
		asJSON bool
	)
	command := &cobra.Command{
		Use:        "versions SOURCE",
		SuggestFor: []string{"history", "log", "snapshots"},
		Short:      "List the versions of a database that the targets keep",
		Long: `List the versions that restore, manifest and shell can go back to with --version-id or
--at. First the records, each of which makes a version: when the target got the first and
the last of them, their IDs, their size, and the target. Between these two, every number is
a version's ID: LINEAGE-NUMBER. Then the versions that are kept as manifests, newest first:
when the target got each of them, its ID, the size of its manifest, and the target.

Replication keeps a manifest every ten minutes while it writes. Besides, an S3 bucket keeps
versions of the manifest if its versioning is on, as long as its lifecycle rules say. A
directory keeps the last 1,000; of older ones it keeps the last of each hour, and after 30
days the last of each day.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := from.of(args); err != nil {
				return err
			}
			if limit < 0 {
				return fmt.Errorf("--limit %d: want 0 or more", limit)
			}
			return fail(listVersions(command.Context(), g, &from, limit, asJSON), "versions",
				from.String())
		},
	}
	from.flags(command)
	command.Flags().IntVarP(&limit, "limit", "n", 100, "list at most this many; 0: all")
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return command
}

// listVersions prints what it found, even if a target did not answer.
func listVersions(ctx context.Context, g *global, from *origin, limit int, asJSON bool) error {
	s, err := from.open(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	locator, err := from.locate(s)
	if err != nil {
		return err
	}
	kept, err := locator.Versions(ctx, limit)
	var records []locate.Records
	if err == nil || len(kept) > 0 { // else there is no hope
		var failed error
		records, failed = locator.Records(ctx)
		err = errors.Join(err, failed)
	}
	if err == nil && len(kept) == 0 && len(records) == 0 {
		return s.explain(ctx, locator, fmt.Errorf("manifest %s: %w", locator, locate.ErrNoVersion))
	}
	if limit > 0 && len(kept) > limit {
		kept = kept[:limit]
	}
	printed := printVersions
	if asJSON {
		printed = printVersionsJSON
	}
	return cmp.Or(printed(records, kept), err)
}

func printVersionsJSON(records []locate.Records, kept []locate.Version) error {
	for _, r := range records {
		err := printJSON(map[string]any{"first_stored": r.First.UTC(),
			"first_version_id": r.From.String(), "stored": r.Last.UTC(),
			"version_id": r.To.String(), "record_bytes": r.Bytes, "target": r.Target})
		if err != nil {
			return err
		}
	}
	for _, v := range kept {
		err := printJSON(map[string]any{"stored": v.Stored.UTC(), "version_id": v.ID,
			"manifest_bytes": v.Bytes, "target": v.Target})
		if err != nil {
			return err
		}
	}
	return nil
}

func printVersions(records []locate.Records, kept []locate.Version) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, r := range records {
		fmt.Fprintf(out, "%s to %s\t%v to %016x\t%d\t%s\n", r.First.UTC().Format(time.RFC3339Nano),
			r.Last.UTC().Format(time.RFC3339Nano), r.From, r.To.Number, r.Bytes, r.Target)
	}
	if len(records) > 0 { // the columns of the others are narrower
		fmt.Fprintln(out)
	}
	for _, v := range kept {
		fmt.Fprintf(out, "%s\t%s\t%d\t%s\n", v.Stored.UTC().Format(time.RFC3339Nano), v.ID, v.Bytes,
			v.Target)
	}
	return out.Flush()
}
