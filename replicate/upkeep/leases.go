package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// asleep is how long ago the last sign of life of a holder is that is taken for dead: it is far
// more than any lease.
const asleep = time.Hour

// leases are those of databases that live in a store.
type leases struct {
	c    *collection
	gone []chunkstore.Object // of databases that are; and pins that are old
}

// fenceSleeper takes a database that lives in a store from a holder that shows no sign of life, and
// gives it back (G7). Whoever collects does that before he reads what is live. f has read the
// newest version, and goes on to what it is then.
func (l *leases) fenceSleeper(
	ctx context.Context, d *database, f *versions.Follower,
) error {
	c, m := l.c, f.Newest()
	if !c.o.Delete || m.Host != "" || m.At.Lineage == [16]byte{} || m.At.Released {
		return nil
	}
	appended, beat, err := versions.SignsOfLife(ctx, c.chunks, d.key, m.At)
	if err != nil || !later(appended, beat).Before(c.now.Add(-asleep)) {
		return err
	}
	body, err := c.o.Owner.Encode()
	if err != nil {
		return err
	}
	w := history.NewWriter(f.Clone().Reader())
	err = w.Take(ctx, body)
	if err == nil {
		err = w.Append(ctx, nil, true)
	}
	if err != nil && !errors.Is(err, history.ErrBehind) && !errors.Is(err, history.ErrFenced) {
		return fmt.Errorf("take it from a holder that is dead: %w", err)
	}
	_, err = f.Next(ctx) // who was faster is not dead
	return err
}

// list finds what holders of databases have left, and who waited for them, of which there is
// no manifest any more. Nobody knows any more whose they were.
func (l *leases) list(ctx context.Context) error {
	c := l.c
	if c.o.Host != "" {
		return nil
	}
	known := make(map[string]bool)
	for _, d := range c.databases {
		if d.target != nil {
			known[versions.LeaseKey(d.key)], known[versions.WantKey(d.key)] = true, true
		}
	}
	for _, prefix := range []string{chunkstore.LeaseKeyPrefix, chunkstore.WantKeyPrefix} {
		err := c.chunks.List(ctx, prefix, func(o chunkstore.Object) bool {
			if !known[o.Key] && !c.young(o.Modified) {
				l.gone = append(l.gone, o)
				c.found.Leases.add(o.Bytes)
			}
			return ctx.Err() == nil
		})
		if err = orEnded(ctx, err); err != nil {
			return fmt.Errorf("list leases: %w", err)
		}
	}
	return nil
}

// delete deletes them.
func (l *leases) delete(ctx context.Context) error {
	c := l.c
	return c.each(ctx, len(l.gone), func(ctx context.Context, i int) error {
		if err := c.chunks.Delete(ctx, l.gone[i].Key); err != nil {
			return fmt.Errorf("delete a lease: %w", err)
		}
		c.add(&c.found.Leases, l.gone[i].Bytes)
		return nil
	})
}
