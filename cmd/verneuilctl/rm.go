package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/replicate/proof"
	"verneuil/replicate/remote"
	"verneuil/replicate/versions"
)

func rmCommand(g *global) *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:        "rm file:///STORE/PATH [--force]",
		SuggestFor: []string{"remove", "delete", "drop", "unlink", "destroy"},
		Short:      "Remove a database from a store, with all its versions",
		Long: `Remove a database from a store, with its history and all versions that could be gone
back to. Who holds it loses what he has not committed, and is told at his next commit. He,
and whoever reads it, finds within lease_timeout_ms that it is gone. From then on there may
be a new one of that name. What the database alone has used stays until gc collects it, as
do versions that a bucket keeps by itself. If rm is interrupted, it goes on when it is run
again; until then nobody can open the database.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withDatabase(command.Context(), g, "rm", args, func(
				ctx context.Context, d inStore,
			) error {
				return d.remove(ctx, force)
			})
		},
	}
	command.Flags().BoolVar(&force, "force", false, "do not ask")
	return command
}

func (d inStore) remove(ctx context.Context, force bool) error {
	if !force {
		if err := d.confirmRemoval(ctx); err != nil {
			return err
		}
	}
	// The proof goes first. A database without it is one that was not proven yet; a proof that is
	// left where the database is gone would be shown of the next one of that name.
	if err := d.target().Manifests.Delete(ctx, proof.Key(d.key())); err != nil {
		return fmt.Errorf("remove the proof of restore: %w", err)
	}
	err := remote.Remove(ctx, d.target(), d.key(), d.owner())
	if errors.Is(err, chunkstore.ErrAbsent) {
		err = d.explain(ctx, d.locator(), err)
	}
	return err
}

func (d inStore) confirmRemoval(ctx context.Context) error {
	question, refusal := "", "it would be gone for good (--force removes it)"
	h, err := remote.Inspect(ctx, d.target(), d.key())
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		kept, listErr := versions.ListKept(ctx, d.target(), d.key())
		if listErr != nil {
			return listErr
		} else if len(kept) == 0 {
			return d.explain(ctx, d.locator(), err)
		}
	case chunkstore.IsFault(err): // what is damaged can be removed
	case err != nil:
		return d.explain(ctx, d.locator(), err)
	case h.Held:
		question, refusal = holds(h), fmt.Sprintf("%s holds it, and %s", holder(h), refusal)
	}
	return confirm(question+"Remove "+d.address.String()+", with all its versions?", refusal)
}
