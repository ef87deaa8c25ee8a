package upkeep_test

import (
	"errors"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/upkeep"
	"verneuil/replicate/versions"
)

// objectsOf returns where all that m names stands: chunks, leaves and nodes.
func objectsOf(t *testing.T, target *chunkstore.Target, m *manifest.Manifest,
) map[chunkstore.Place]bool {
	t.Helper()
	tree := m.Tree(target.Sealer)
	if err := tree.Load(t.Context(), target.GetObjects); err != nil {
		t.Fatal(err)
	}
	all := make(map[chunkstore.Place]bool)
	for ref := range tree.Objects() {
		all[ref.Place] = true
	}
	for i := range tree.Len() {
		if ref := tree.At(i); ref.ID != chunkstore.ZeroID {
			all[ref.Place] = true
		}
	}
	return all
}

// weightOf returns what versions weigh, by all that their trees name.
func weightOf(t *testing.T, target *chunkstore.Target, all []manifest.Manifest) Weight {
	t.Helper()
	want, together := Weight{Versions: len(all)}, make(map[chunkstore.Place]bool)
	for _, m := range all {
		body, err := m.Encode(target.Sealer)
		if err != nil {
			t.Fatal(err)
		}
		want.FileBytes += m.FileBytes
		want.AloneBytes += int64(len(body))
		want.StoredBytes += int64(len(body))
		for at := range objectsOf(t, target, &m) {
			want.AloneBytes += int64(at.Bytes)
			together[at] = true
		}
	}
	for at := range together {
		want.StoredBytes += int64(at.Bytes)
	}
	return want
}

// TestWeigh: versions weigh what they name, alone and together, wherever they stand; one that
// stands in several places counts once.
func TestWeigh(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	const chunks = 1300 // three leaves
	file := make([]byte, chunks*chunkstore.ChunkBytes)
	stamp := func(seed uint64, i int) {
		copy(file[i*chunkstore.ChunkBytes:], storetest.Noise(seed, 100))
	}
	for i := range chunks {
		stamp(1, i)
		file[i*chunkstore.ChunkBytes+50] = byte(i)
		file[i*chunkstore.ChunkBytes+51] = byte(i >> 8)
	}
	p.Publish(file) // kept, and a version of the manifest
	all := []manifest.Manifest{p.Newest}
	for i := range 10 {
		stamp(2, i)
	}
	p.Publish(file)
	p.Checkpoint(true)
	all = append(all, p.Newest)
	if got, err := NewScales(p.Target).Weigh(t.Context(), p.Key()); err != nil ||
		got.Versions != 2 {
		t.Errorf("two checkpoints, of which one is kept and the newest: %+v, %v", got, err)
	}
	stamp(3, 3)
	p.Publish(file) // a record
	all = append(all, p.Newest)

	want := weightOf(t, p.Target, all)
	s := NewScales(p.Target)
	got, err := s.Weigh(t.Context(), p.Key())
	if err != nil || got != want || s.Total() != want {
		t.Errorf("%+v in all %+v, %v; want %+v", got, s.Total(), err, want)
	}
	if want.AloneBytes < 5*want.StoredBytes/2 {
		t.Fatalf("the versions share less than this test thinks: %+v", want)
	}

	// An older version that is gone is left out. If the newest lacks a leaf, that is an error.
	kept := versions.KeptKey(p.Key(), versions.IDOf(all[0].At))
	p.Hooks.OnRecord(func(key string) error {
		if key == kept {
			return chunkstore.ErrAbsent
		}
		return nil
	})
	got, err = NewScales(p.Target).Weigh(t.Context(), p.Key())
	if err != nil || got.Versions != len(all)-1 {
		t.Errorf("the first version is gone: %+v, %v", got, err)
	}
	for at := range objectsOf(t, p.Target, &p.Newest) {
		if err := p.Target.Chunks.Delete(t.Context(), at.Pack.String()); err != nil &&
			!errors.Is(err, chunkstore.ErrAbsent) {
			t.Fatal(err)
		}
	}
	for _, key := range []string{p.Key(), "none"} {
		if _, err := NewScales(p.Target).Weigh(t.Context(), key); !errors.Is(err,
			chunkstore.ErrAbsent) {
			t.Errorf("%s: %v, want that something is gone", key, err)
		}
	}
}
