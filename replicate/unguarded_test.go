package replicate

import (
	"context"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
)

// unguarded is a bucket of a store that does not keep the conditions of Puts.
type unguarded struct{ *memoryBucket }

func (unguarded) ProveConditions(context.Context, string, []byte) (bool, error) {
	return false, nil
}

func (unguarded) Unguarded() bool { return true }

// TestNoHistoryWithoutConditions: in a store that does not keep the conditions of Puts, each
// version is a manifest, whichever of its buckets it is that does not; and where it keeps them
// again, or no more, the database goes on there.
func TestNoHistoryWithoutConditions(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.watch()
	with := func(chunks, manifests bool) func(*Options) {
		return func(o *Options) {
			buckets := [2]chunkstore.Bucket{w.chunks[0], w.manifests[0]}
			for k, keeps := range [2]bool{chunks, manifests} {
				if !keeps {
					buckets[k] = unguarded{buckets[k].(*memoryBucket)}
				}
			}
			o.Store = chunkstore.NewStore(chunkstore.NewTarget("t", buckets[0], buckets[1]))
		}
	}
	for n, c := range []struct{ chunks, manifests bool }{
		{false, false}, {true, false}, {false, true}, {true, true}, {false, false}, {true, true},
	} {
		w.options = with(c.chunks, c.manifests)
		w.loseSpool() // which knows what it has seen of the store
		w.attach()
		before := w.records(0)
		r := w.replicator()
		stop := w.run(r)
		for range 3 {
			w.transact(200)
			w.mustFlush(r)
			w.equal(0, "without conditions")
		}
		stop()
		keeps := c.chunks && c.manifests
		if at := w.manifest(0).At; (at.Lineage != history.Position{}.Lineage) != keeps {
			t.Errorf("step %d: the version is at %+v", n, at)
		}
		if (w.records(0) > before) != keeps {
			t.Errorf("step %d: %d records, and %d before", n, w.records(0), before)
		}
	}
}
