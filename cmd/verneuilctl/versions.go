package main

import (
	"context"
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
--at, newest first: when the target got each version, its ID, the size of its manifest,
and the target. An S3 bucket keeps versions if its versioning is on, as long as its
lifecycle rules say. A directory keeps the last 1,000; of older ones it keeps the last of
each hour, and after 30 days the last of each day.`,
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
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	locator, err := from.locate(s)
	if err != nil {
		return err
	}
	versions, err := locator.Versions(ctx, limit)
	if err == nil && len(versions) == 0 {
		return s.explain(ctx, locator, fmt.Errorf("manifest %s: %w", locator, locate.ErrNoVersion))
	}
	if limit > 0 && len(versions) > limit {
		versions = versions[:limit]
	}
	if printErr := printVersions(versions, asJSON); printErr != nil {
		return printErr
	}
	return err
}

func printVersions(versions []locate.Version, asJSON bool) error {
	if asJSON {
		for _, v := range versions {
			err := printJSON(map[string]any{"stored": v.Stored.UTC(), "version_id": v.ID,
				"manifest_bytes": v.Bytes, "target": v.Target})
			if err != nil {
				return err
			}
		}
		return nil
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, v := range versions {
		fmt.Fprintf(out, "%s\t%s\t%d\t%s\n", v.Stored.UTC().Format(time.RFC3339Nano), v.ID, v.Bytes,
			v.Target)
	}
	return out.Flush()
}
