package locate_test

import (
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/locate"
)

// TestTargetThatLags: who opens a database gets the version of the target that is furthest on; who
// has another one's is told of it when he doubts, and follows that target from then on.
func TestTargetThatLags(t *testing.T) {
	key := manifest.PlainName("h", "/db")
	version := func(sequence uint64) *manifest.Manifest {
		return &manifest.Manifest{Host: "h", Path: "/db", Lineage: [16]byte{1}, Epoch: 1,
			Sequence: sequence, Time: time.Unix(int64(sequence), 0)}
	}
	for ahead := range 2 {
		have := []*manifest.Manifest{version(5), version(5)}
		have[ahead] = version(7)
		store := storeOf(t, key, have)
		locator, err := Parse("verneuil://h/db", "", store)
		if err != nil {
			t.Fatal(err)
		}
		put := func(i int, m *manifest.Manifest) {
			t.Helper()
			body, err := m.Encode(chunkstore.Plain{})
			if err != nil {
				t.Fatal(err)
			}
			old, err := store.Targets[i].Manifests.Stat(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Targets[i].Manifests.Put(t.Context(), key, body,
				chunkstore.Condition{IfMatch: old.ETag}); err != nil {
				t.Fatal(err)
			}
		}
		at := func(f Found, sequence uint64, target int) {
			t.Helper()
			if f.Manifest.Sequence != sequence || f.From != store.Targets[target] {
				t.Errorf("version %d of %v, want %d of %v", f.Manifest.Sequence, f.From.Name,
					sequence, store.Targets[target].Name)
			}
		}
		next := func(f Found, want bool) Found {
			t.Helper()
			f, news, err := locator.FetchFrom(t.Context(), f)
			if err != nil || news != want {
				t.Fatalf("news: %v, %v; want %v", news, err, want)
			}
			return f
		}
		f, err := locator.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at(f, 7, ahead)
		put(ahead, version(8))
		f = next(f, true)
		at(f, 8, ahead)
		other := 1 - ahead
		put(other, version(9))
		f = next(f, false)
		at(f, 8, ahead)
		f = next(f.Doubted(), true)
		at(f, 9, other)
		put(other, version(10))
		f = next(f, true)
		at(f, 10, other)
		f = next(f.Doubted(), false)
		at(f, 10, other)
	}
}
