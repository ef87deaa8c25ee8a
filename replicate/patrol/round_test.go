package patrol_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/replicate/patrol"
)

// touches is a bucket that counts how often each key was touched, and what else was asked.
type touches struct {
	chunkstore.Bucket
	mu     sync.Mutex
	of     map[string]int
	others int
}

func (b *touches) Touch(ctx context.Context, key string) error {
	b.mu.Lock()
	b.of[key]++
	b.mu.Unlock()
	return b.Bucket.(chunkstore.Toucher).Touch(ctx, key)
}

func (b *touches) Get(ctx context.Context, key string,
	o chunkstore.GetOptions) (chunkstore.Object, error) {
	b.mu.Lock()
	b.others++
	b.mu.Unlock()
	return b.Bucket.Get(ctx, key, o)
}

// patrolled is a target with a version of 256 MiB, whose chunks stand in full packs.
type patrolled struct {
	*testing.T
	target *chunkstore.Target
	counts *touches
	tree   *manifest.Tree
	refs   []chunkstore.Ref
	packs  map[string]bool // that the version names, and the marker
}

func newPatrolled(t *testing.T) *patrolled {
	const chunks = 4096
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	w := &patrolled{T: t, target: target, packs: map[string]bool{chunkstore.MarkerKey: true}}
	if _, err := chunkstore.Identify(t.Context(), target.Chunks, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	tree := manifest.NewTree(target.Sealer, chunks)
	for start := 0; start < chunks; start += chunkstore.PackMax {
		var objects [][]byte
		for i := range chunkstore.PackMax {
			objects = append(objects, binary.BigEndian.AppendUint32(nil, uint32(start+i)))
		}
		w.refs = append(w.refs, storetest.PutObjects(t, target, objects...)...)
	}
	for i, ref := range w.refs {
		tree.Set(i, ref)
		w.packs[ref.Place.Pack.String()] = true
	}
	m := &manifest.Manifest{FileBytes: chunks * chunkstore.ChunkBytes, PageBytes: 4096}
	var err error
	m.Levels, m.Top, m.Patches, err = tree.Pack(t.Context(), 72, nil,
		func(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
			for some := range slices.Chunk(objects, chunkstore.PackMax) {
				var p chunkstore.Pack
				for _, h := range some {
					p.Seal(target.Sealer, h)
				}
				at, _, err := target.PutPack(t.Context(), &p)
				if err != nil {
					return nil, err
				}
				w.packs[at[0].Pack.String()] = true
				places = append(places, at...)
			}
			return places, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	w.counts = &touches{Bucket: target.Chunks, of: make(map[string]int)}
	target.Chunks = w.counts
	w.tree = m.Tree(target.Sealer) // as who has not put it: nothing is loaded
	return w
}

// round has p do what is due in one round from now on, and returns when it has ended. between is
// called before each slice.
func (w *patrolled) round(p *patrol.Patrol, now time.Time, round time.Duration,
	between func(n int)) time.Time {
	w.Helper()
	for end, n := now.Add(round), 0; now.Before(end); n++ {
		at, ok := p.Due(now, false)
		if !ok {
			w.Fatal("nothing will ever be due")
		}
		if at.After(now) {
			now = at
		}
		if now.After(end) {
			now = end
		}
		between(n)
		slice := p.Start(w.Context(), now, func() patrol.Version {
			return patrol.Version{Tree: w.tree.Clone()}
		})
		err := slice.Run()
		p.Done(slice, now, err)
		if err != nil || len(slice.Gone()) > 0 {
			w.Fatal(err, slice.Gone())
		}
	}
	for {
		if at, ok := p.Due(now, false); !ok || at.After(now) {
			return now
		}
		slice := p.Start(w.Context(), now, func() patrol.Version {
			return patrol.Version{Tree: w.tree.Clone()}
		})
		p.Done(slice, now, slice.Run())
		if p.Err() != nil {
			w.Fatal(p.Err())
		}
	}
}

// TestP1RoundTouchesEachOnce: a round touches each pack that the version names, be it of chunks or
// of leaves, once, however the version changes; that of 100 GB takes no more than 30,000 requests.
func TestP1RoundTouchesEachOnce(t *testing.T) {
	w := newPatrolled(t)
	const period = 8 * time.Hour
	const round = period - period/8
	p := patrol.New(w.target, period, func() *slog.Logger { return slog.New(slog.DiscardHandler) })
	now := time.Unix(1e9, 0)
	p.Begin(now, now)
	for n := 1; n <= 3; n++ {
		between := func(int) {}
		if n == 2 { // what is changed stands in other packs that there are
			between = func(k int) {
				w.tree.Set(k, w.refs[len(w.refs)-1-k])
				w.tree.Set(len(w.refs)-1-k, w.refs[k])
			}
		}
		now = w.round(p, now, round, between)
		for name := range w.packs {
			if w.counts.of[name] != n {
				t.Errorf("after %d rounds pack %s was touched %d times", n, name, w.counts.of[name])
			}
		}
		if len(w.counts.of) != len(w.packs) {
			t.Errorf("%d packs were touched, of %d", len(w.counts.of), len(w.packs))
		}
	}
	touched := 0
	for _, times := range w.counts.of {
		touched += times
	}
	scaled := (touched/3 + w.counts.others) * 100e9 / (len(w.refs) * chunkstore.ChunkBytes)
	t.Logf("%d touches in 3 rounds, and %d other requests: %d for a round of 100 GB",
		touched, w.counts.others, scaled)
	if scaled > 30000 {
		t.Errorf("a round of 100 GB takes %d requests", scaled)
	}
}
