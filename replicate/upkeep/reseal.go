package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

// Older is what [Collect] has found to be sealed with keys that are not the newest.
type Older struct {
	Resealed Amount `json:"resealed"` // packs that were sealed anew
	Packs    Amount `json:"packs"`    // that are to be, by a run with Delete
	// Checkpoints, of those that are kept and versions of manifests, and Records, but for fences
	// which no log loses, go when they are too old: the time at which the store got them is that to
	// which one goes back, and it would be lost.
	Checkpoints int `json:"checkpoints"`
	Records     int `json:"records"`
	// Newest are the databases, as HOST:PATH, whose newest checkpoint it is: their writers put
	// another one, sealed with the newest key, with their next version.
	Newest []string `json:"newest,omitempty"`
}

// Left reports whether anything needs an older key.
func (o *Older) Left() bool {
	return o.Packs.Objects > 0 || o.Checkpoints > 0 || o.Records > 0 || len(o.Newest) > 0
}

// resealing is what is done about older keys.
type resealing struct {
	c     *collection
	found *Older
}

// run seals packs with the newest key, where there are others (G8), and finds what else is sealed
// with those.
func (r resealing) run(ctx context.Context) error {
	c, found := r.c, r.found
	if _, older := c.targets[0].Sealer.Ring(); !older {
		return nil
	}
	c.found.Older = found
	if err := c.each(ctx, len(c.packs), func(ctx context.Context, i int) error {
		return r.pack(ctx, c.packs[i])
	}); err != nil {
		return err
	}
	if err := c.each(ctx, len(c.databases), func(ctx context.Context, i int) error {
		return r.newest(ctx, c.databases[i])
	}); err != nil {
		return err
	}
	slices.Sort(found.Newest)
	for _, d := range c.databases {
		for _, v := range d.versions {
			if v.stale && !(v.expired && c.o.Delete) {
				found.Checkpoints++
			}
		}
	}
	return r.records(ctx)
}

func (r resealing) pack(ctx context.Context, p packed) error {
	t := r.c.targets[0]
	fresh, err := chunkstore.FreshPack(ctx, t, p.name, p.bytes)
	amount := &r.found.Packs
	if err == nil && !fresh && r.c.o.Delete {
		amount = &r.found.Resealed
		err = chunkstore.ResealPack(ctx, t, p.name)
	}
	switch {
	case gone(err): // deleted
		return nil
	case errors.Is(err, chunkstore.ErrCorrupt):
		return nil // verify says so, and nobody can open it in any case
	case err == nil && !fresh:
		r.c.add(amount, p.bytes)
	}
	return err
}

// newest notes d if its newest checkpoint is sealed with an older key.
func (r resealing) newest(ctx context.Context, d *database) error {
	if d.target == nil {
		return nil
	}
	o, err := d.target.Manifests.Get(ctx, d.key, chunkstore.GetOptions{Length: manifest.FreshBytes})
	switch {
	case gone(err):
		return nil
	case err != nil:
		return fmt.Errorf("look at manifest %s: %w", d.key, err)
	}
	if !manifest.Fresh(d.target.Sealer, o.Body) {
		r.c.mu.Lock()
		defer r.c.mu.Unlock()
		r.found.Newest = append(r.found.Newest, strings.TrimPrefix(d.host+":"+d.path, ":"))
	}
	return nil
}

// records counts the records that older keys have sealed. In a log these come first, so that few
// are looked at.
func (r resealing) records(ctx context.Context) error {
	c := r.c
	// A fence that a newest version lists stays for ever, and says who took over, and when, and
	// nothing of a database.
	fences := make(map[versions.ID]bool)
	for _, d := range c.databases {
		for _, n := range d.head.Fences {
			fences[versions.ID{Lineage: d.head.Lineage, Number: n}] = true
		}
	}
	numbers := make(map[[16]byte][]uint64)
	err := c.chunks.List(ctx, chunkstore.LogKeyPrefix, func(o chunkstore.Object) bool {
		id, ok := versions.ParseID(o.Key[len(chunkstore.LogKeyPrefix):])
		if ok && !fences[id] {
			numbers[id.Lineage] = append(numbers[id.Lineage], id.Number)
		}
		return ctx.Err() == nil
	})
	if err = orEnded(ctx, err); err != nil {
		return fmt.Errorf("list records: %w", err)
	}
	for lineage, all := range numbers {
		var failed error
		r.found.Records += sort.Search(len(all), func(i int) bool {
			log := versions.LogName(lineage)
			fresh, err := chunkstore.FreshRecord(ctx, c.targets[0], log, all[i])
			if err != nil && !gone(err) {
				failed = err
			}
			return fresh
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}
