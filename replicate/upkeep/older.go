package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

// older is a version before the newest: a checkpoint that is kept, or a version of the manifest
// that its bucket keeps.
type older struct {
	id     string // by which it can be restored
	key    string // of its object
	stored time.Time
	get    func(context.Context) (*manifest.Manifest, error)
}

// olderOf lists the versions before the newest that t has of the database whose manifest has that
// key; those of the manifest's bucket where they may be listed.
func olderOf(ctx context.Context, t *chunkstore.Target, key string) (all []older, err error) {
	kept, err := versions.ListKept(ctx, t, key)
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		get := func(ctx context.Context) (*manifest.Manifest, error) {
			return versions.GetKept(ctx, t, key, k.ID)
		}
		all = append(all, older{k.ID.String(), versions.KeptKey(key, k.ID), k.Stored, get})
	}
	bucket, ok := t.Manifests.(chunkstore.Versioned)
	if !ok {
		return all, nil
	}
	err = bucket.ListVersions(ctx, key, func(o chunkstore.Object) bool {
		get := func(ctx context.Context) (*manifest.Manifest, error) {
			got, err := bucket.GetVersion(ctx, key, o.Version,
				chunkstore.GetOptions{BytesMax: manifest.BytesMax})
			if err != nil {
				return nil, err
			}
			m, err := versions.Decode(t.Sealer, key, got.Body)
			if err != nil {
				return nil, fmt.Errorf("version %s: %w", o.Version, err)
			}
			return m, nil
		}
		all = append(all, older{o.Version, key, o.Modified, get})
		return ctx.Err() == nil
	})
	if errors.Is(err, chunkstore.ErrDenied) { // that is a right of its own
		err = nil
	}
	return all, cmp.Or(err, ctx.Err())
}
