package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// awaitQuiet waits until nothing is fetched ahead.
func awaitQuiet(all *Set) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !all.Quiet() {
		<-tick.C
	}
}

// TestF5DamagedNeighbour: a chunk that is damaged, or a pack that is gone, is the error of who
// reads it, and of nobody who reads what is fetched together with it.
func TestF5DamagedNeighbour(t *testing.T) {
	const chunks, bad = 100, 20 // chunks 64 and on are in another pack
	for what, c := range map[string]struct {
		damage func(p *source, place chunkstore.Place) error
		lost   func(chunk int) bool
	}{
		"a chunk": {
			func(p *source, place chunkstore.Place) error {
				key := place.Pack.String()
				o, err := p.Target.Chunks.Get(t.Context(), key, chunkstore.GetOptions{})
				if err == nil {
					o.Body[place.Offset+place.Bytes/2] ^= 1
					_, err = p.Target.Chunks.Put(t.Context(), key, o.Body, chunkstore.Condition{})
				}
				return err
			},
			func(chunk int) bool { return chunk == bad },
		},
		"a pack": {
			func(p *source, place chunkstore.Place) error {
				return p.Target.Chunks.Delete(t.Context(), place.Pack.String())
			},
			func(chunk int) bool { return chunk < chunkstore.PackMax },
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newSource(t)
			file := random(chunks*chunkstore.ChunkBytes, 1)
			m := p.Publish(file, 0)
			fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
				return p.Store.GetObjects(ctx, p.Target, refs)
			}
			ref, err := m.Tree(p.Target.Sealer).Lookup(t.Context(), bad, fetch)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(p, ref.Place); err != nil {
				t.Fatal(err)
			}
			r := p.open(p.follow(Options{Deadline: 5 * time.Second}))
			for i := range chunks { // a scan, with all that is read ahead
				got := make([]byte, 1000)
				off := int64(i)*chunkstore.ChunkBytes + 5000
				err := r.Read(t.Context(), got, off)
				if c.lost(i) != chunkstore.IsFault(err) || err != nil && !chunkstore.IsFault(err) {
					t.Errorf("chunk %d: %v", i, err)
				}
				if err == nil && !bytes.Equal(got, file[off:][:1000]) {
					t.Errorf("chunk %d: other bytes", i)
				}
			}
		})
	}
}

// wide publishes a version of so many leaves, of which each has one chunk that is there: its first,
// which begins with the leaf's number. If filled, the leaves are as long as they come.
func wide(p *source, leaves int, filled bool) (chunks int) {
	const fanout = 512
	tree := manifest.NewTree(p.Target.Sealer, leaves*fanout)
	var objects []chunkstore.Hashed
	for k := range leaves {
		chunk := binary.BigEndian.AppendUint64(nil, uint64(k)+1)
		chunk = append(chunk, make([]byte, chunkstore.ChunkBytes-len(chunk))...)
		objects = append(objects, chunkstore.Hash(p.Target.Sealer, chunk))
	}
	places, err := publishtest.PutAll(p.Target, objects)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := range leaves * fanout {
		if k := i / fanout; i%fanout == 0 {
			tree.Set(i, chunkstore.Ref{ID: objects[k].ID(), Place: places[k]})
		} else if filled { // stands nowhere
			id := p.Target.Sealer.Identify(binary.BigEndian.AppendUint64(nil, uint64(i)))
			tree.Set(i, chunkstore.Ref{ID: id, Place: places[k]})
		}
	}
	put := func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
		return publishtest.PutAll(p.Target, objects)
	}
	m := p.Newest
	m.FileBytes = int64(tree.Len()) * chunkstore.ChunkBytes
	m.Levels, m.Top, m.Patches, err = tree.Pack(p.t.Context(), 0, nil, put)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Put(&m)
	return tree.Len()
}

// TestLeavesTogether: the leaves of a tree come one by one as long as that may have been all, and
// then together.
func TestLeavesTogether(t *testing.T) {
	for _, c := range []struct {
		name   string
		leaves int
		filled bool
		alone  int // leaves that come by themselves; after them no more request
	}{
		{"few", 13, true, 0}, // with the opening
		{"many", 30, true, 3},
		{"short ones", 30, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSource(t)
			chunks := wide(p, c.leaves, c.filled)
			all := p.follow(Options{})
			r := p.open(all)
			awaitQuiet(all)
			step := int64(chunks/c.leaves) * chunkstore.ChunkBytes
			for k := range c.leaves {
				before := p.Hooks.Gets()
				number := make([]byte, 8)
				leaf := k * 7 % c.leaves
				if err := r.Read(t.Context(), number, int64(leaf)*step); err != nil {
					t.Fatal(err)
				}
				if n := binary.BigEndian.Uint64(number); n != uint64(leaf)+1 {
					t.Errorf("leaf %d has the chunk of %d", leaf, n)
				}
				awaitQuiet(all)
				want := 1 // the chunk
				switch {
				case k+1 < c.alone:
					want = 2
				case k+1 == c.alone:
					want = 3
				}
				if n := p.Hooks.Gets() - before; n != want {
					t.Errorf("leaf %d, the %dth: %d requests, want %d", leaf, k+1, n, want)
				}
			}
		})
	}
}

// TestLeavesTogetherFail: leaves that cannot be fetched together are fetched by who needs them.
func TestLeavesTogetherFail(t *testing.T) {
	p := newSource(t)
	step := int64(wide(p, 13, true)/13) * chunkstore.ChunkBytes
	all := p.follow(Options{Deadline: 5 * time.Second})
	var gets atomic.Int64
	p.Hooks.Set(func(string) error {
		if gets.Add(1) == 1 { // all of them, with the opening
			return errors.New("connection reset")
		}
		return nil
	}, nil)
	r := p.open(all)
	awaitQuiet(all)
	for k := range int64(13) {
		number := make([]byte, 8)
		if err := r.Read(t.Context(), number, k*step); err != nil {
			t.Fatal(err)
		}
		if n := binary.BigEndian.Uint64(number); n != uint64(k)+1 {
			t.Errorf("leaf %d has the chunk of %d", k, n)
		}
		awaitQuiet(all)
	}
}
