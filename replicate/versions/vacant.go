package versions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
)

// ErrManifestLost: the store has no manifest of a database, and versions of it. Somebody has
// removed it. The message says which is the newest that is kept.
var ErrManifestLost = errors.New("the store has lost its manifest, the newest checkpoint")

// Vacant fails with [ErrManifestLost] if the database whose manifest has that key, and is not in t,
// was there: t keeps a version of it, or records after that. It is for who means to make a database
// where there is none, and asks for one list. Where it fails, and somebody else is about to make
// one, it may be there by then.
func Vacant(ctx context.Context, t *chunkstore.Target, key string) error {
	all, err := ListKept(ctx, t, key)
	if err != nil {
		return err
	}
	left, err := LastSign(ctx, t, key, all)
	if left == nil || err != nil {
		return err
	}
	return fmt.Errorf("%w: versions of it are there, the newest checkpoint of %s. verneuilctl "+
		"versions lists them, and verneuilctl import with --version-id and --replace makes one "+
		"the newest again", ErrManifestLost, left.Stored.UTC().Format(time.DateTime))
}

// LastSign returns the newest of the checkpoints that t keeps of a database by which [Vacant] knows
// that it was there; nil: none of them is.
func LastSign(
	ctx context.Context, t *chunkstore.Target, key string, all []Kept,
) (left *Kept, err error) {
	for _, kept := range all {
		if left != nil && !kept.Stored.After(left.Stored) {
			continue
		}
		if there, err := holds(ctx, t, key, kept.ID); err != nil {
			return nil, err
		} else if there {
			left = &kept
		}
	}
	return left, nil
}

// holds reports whether a checkpoint that is kept is one of a database that was there: it is also
// put by who dies before there is one.
func holds(ctx context.Context, t *chunkstore.Target, key string, id ID) (bool, error) {
	if id.Number > 0 {
		return true, nil
	}
	records, err := NewStore(t, key).Log(id.Lineage).Read(ctx, 1, 1)
	if err != nil || len(records) > 0 {
		return err == nil, err
	}
	m, err := GetKept(ctx, t, key, id)
	if err != nil {
		return chunkstore.IsFault(err), nil
	}
	return m.FileBytes > 0, nil
}
