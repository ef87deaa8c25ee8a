package upkeep_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/remote/deposit"
	"verneuil/replicate/versions"
)

// liver is a database that lives in a store, and who holds it: he has put the packs of a
// transaction, and not yet appended it.
type liver struct {
	*gcWorld
	key    string
	writer *history.Writer
	body   []byte // the record that he is to append
}

// noise is a source, and a change, of so many bytes that are no others.
type noise []byte

func (n noise) Size() (int64, error) { return int64(len(n)), nil }
func (n noise) ReadAt(p []byte, off int64) (int, error) {
	if k := copy(p, n[off:]); k < len(p) {
		return k, io.EOF
	}
	return len(p), nil
}
func (n noise) ReadBase(_ context.Context, p []byte, off int64) error {
	clear(p[copy(p, n[off:]):])
	return nil
}
func (noise) Cached(int64, int) bool { return false }

func (w *gcWorld) deposit(path string, content noise) *manifest.Manifest {
	w.t.Helper()
	m, err := deposit.Put(w.t.Context(), deposit.Options{Target: w.Target, Path: path,
		Owner: manifest.Owner{Host: "a"}, Replace: true}, content)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func newLiver(t *testing.T) *liver {
	l := &liver{gcWorld: newGCWorld(t, 1), key: manifest.PlainName("", "/x.db")}
	l.deposit("/other.db", nil)
	before := noise(storetest.Noise(1, 1<<20))
	l.deposit("/x.db", before)
	f, err := versions.OpenNewest(t.Context(), l.Target, l.key)
	if err != nil {
		t.Fatal(err)
	}
	base := f.Newest()
	l.writer = history.NewWriter(f.Reader())
	if err := l.writer.Take(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	after := noise(storetest.Noise(2, 1<<20))
	ch := compose.Change{Bytes: 1 << 20, Read: func(k int, block []byte) error {
		copy(block, after[k*compose.BlockBytes:])
		return nil
	}}
	for off := int64(0); off < ch.Bytes; off += compose.BlockBytes {
		ch.Offsets = append(ch.Offsets, off)
	}
	c := compose.New(compose.Options{Target: l.Target})
	draft, err := c.Compose(t.Context(), base, ch, before)
	if err == nil {
		l.body, err = draft.Step(base).Encode()
	}
	if err != nil || len(draft.Changed) == 0 {
		t.Fatalf("compose: %+v, %v", draft, err)
	}
	return l
}

// wake has the holder append what he has composed, and fails unless the newest version has all that
// it names.
func (l *liver) wake() (appended bool) {
	l.t.Helper()
	err := l.writer.Append(l.t.Context(), l.body, false)
	if err != nil && !errors.Is(err, history.ErrFenced) {
		l.t.Fatal(err)
	}
	f, openErr := versions.OpenNewest(l.t.Context(), l.Target, l.key)
	if openErr != nil {
		l.t.Fatal(openErr)
	}
	packs := l.chunks.keys(l.t, "")
	for i := range f.Newest().Chunks() {
		ref, err := f.Newest().Tree(l.Target.Sealer).Lookup(l.t.Context(), i, l.Target.GetObjects)
		if err != nil {
			l.t.Fatal(err)
		}
		if ref.ID != chunkstore.ZeroID && !packs[ref.Place.Pack.String()] {
			l.t.Fatalf("chunk %d: pack %v is gone", i, ref.Place.Pack)
		}
	}
	return err == nil
}

// pass has time pass, which another database's version shows.
func (l *liver) pass(d time.Duration) {
	l.t.Helper()
	l.clock.advance(d)
	l.deposit("/other.db", nil)
}

// TestG7Sleepers: a holder who has put packs, and slept for longer than packs stay that nobody
// names, is refused when he wakes; one who shows that he lives is not, nor is one where nothing is
// to be deleted.
func TestG7Sleepers(t *testing.T) {
	t.Run("slept", func(t *testing.T) {
		l := newLiver(t)
		l.pass(60 * time.Hour)
		if found := l.collect(true); found.Packs.Objects == 0 {
			t.Errorf("his packs stay: %+v", found)
		}
		if l.wake() {
			t.Error("he was not refused")
		}
		f, err := versions.OpenNewest(t.Context(), l.Target, l.key)
		if err != nil || !f.Newest().At.Released || len(f.Newest().At.Fences) == 0 {
			t.Errorf("it was not given back, or its fence may be trimmed: %+v, %v",
				f.Newest().At, err)
		}
	})
	t.Run("lives", func(t *testing.T) {
		l := newLiver(t)
		l.clock.advance(40 * time.Hour) // his packs are young
		storetest.MustPut(t, l.Target.Chunks, versions.LeaseKey(l.key), "beat",
			chunkstore.Condition{})
		l.pass(30 * time.Minute)
		l.collect(true)
		if !l.wake() {
			t.Error("he was refused")
		}
	})
	t.Run("a look", func(t *testing.T) {
		l := newLiver(t)
		l.pass(60 * time.Hour)
		if found := l.collect(false); found.Packs.Objects == 0 {
			t.Errorf("his packs are no garbage: %+v", found)
		}
		if !l.wake() {
			t.Error("he was refused")
		}
	})
	t.Run("wakes as it is collected", func(t *testing.T) {
		l := newLiver(t)
		l.pass(60 * time.Hour)
		woken := false
		l.chunks.before = func(verb, key string) {
			if verb == "stat" && key == versions.LeaseKey(l.key) && !woken {
				woken = true
				if err := l.writer.Append(t.Context(), l.body, false); err != nil {
					t.Errorf("he was first: %v", err)
				}
			}
		}
		l.collect(true)
		if !woken {
			t.Fatal("nobody asked for his heartbeat")
		}
		l.body = nil
		l.wake()
	})
}

// TestLeases: heartbeats and wants stay as long as their databases do, and while they are young.
func TestLeases(t *testing.T) {
	l := newLiver(t)
	gone := manifest.PlainName("", "/gone.db")
	keys := map[string]bool{versions.LeaseKey(l.key): true, versions.WantKey(l.key): true,
		versions.LeaseKey(gone): false, versions.WantKey(gone): false}
	for key := range keys {
		storetest.MustPut(t, l.Target.Chunks, key, "beat", chunkstore.Condition{})
	}
	l.pass(time.Hour)
	if found := l.collect(true); found.Leases.Objects != 0 {
		t.Errorf("young ones are deleted: %+v", found)
	}
	l.pass(60 * time.Hour)
	if found := l.collect(true); found.Leases.Objects != 2 || found.Leases.Bytes != 8 {
		t.Errorf("deleted: %+v", found)
	}
	there := l.chunks.keys(t, "")
	for key, stays := range keys {
		if there[key] != stays {
			t.Errorf("%s is there: %v", key, there[key])
		}
	}
}
