package upkeep_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/replicate/upkeep"
)

// rotated is a database with a past, whose keys were rotated in the middle of it; dropped has the
// newest key alone.
func rotated(t *testing.T, seed uint64) (w *gcWorld, dropped chunkstore.Sealer) {
	t.Helper()
	keys := keyring.Generate(time.Unix(0, 0), false)
	w = newSealedWorld(t, seed, keyring.New(keys))
	w.age()
	both := keys.Rotate(time.Unix(1, 0))
	w.Target.Sealer = keyring.New(both)
	w.write(2)
	newest, err := both.Drop(both.Infos()[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	return w, keyring.New(newest)
}

// stale returns how many packs an older key has sealed.
func (w *gcWorld) stale() (n int) {
	w.t.Helper()
	err := w.chunks.Bucket.List(w.t.Context(), "", func(o chunkstore.Object) bool {
		name, err := chunkstore.ParseDigest(o.Key)
		if err != nil {
			return true
		}
		fresh, err := chunkstore.FreshPack(w.t.Context(), w.Target, name, o.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		if !fresh {
			n++
		}
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestG8Reseal: after a run that deletes, all packs are of the newest key, have the names, lengths
// and objects that they had, and all versions restore that did; nothing is told to be sealed anew
// twice. The newest version needs the older key no more than for its checkpoint and records.
func TestG8Reseal(t *testing.T) {
	for seed := range uint64(3) {
		w, dropped := rotated(t, seed)
		before := w.stale()
		if found := w.collect(false).Older; before == 0 || w.stale() != before ||
			found.Packs.Objects == 0 || found.Resealed.Objects != 0 || !found.Left() {
			t.Errorf("a run that deletes nothing: %+v, %d of %d stale", found, w.stale(), before)
		}
		found := w.collect(true).Older
		if w.stale() != 0 || found.Resealed.Objects == 0 || found.Packs.Objects != 0 {
			t.Errorf("%+v, and %d packs are stale", found, w.stale())
		}
		if found.Records == 0 || len(found.Newest) != 1 {
			t.Errorf("what needs the older key: %+v", found)
		}
		if again := w.collect(true).Older; again.Resealed.Objects != 0 {
			t.Errorf("again: %+v", again)
		}
		w.check()
		if !bytes.Equal(w.restore(), w.file) {
			t.Error("the newest version is another")
		}
		w.checkpoint()
		if left := w.collect(true).Older; len(left.Newest) != 0 {
			t.Errorf("after a checkpoint: %+v", left)
		}
		w.Target.Sealer = dropped
		if !bytes.Equal(w.restore(), w.file) {
			t.Error("without the older key, the newest version is another")
		}
	}
}

// TestG8HalfRotated: whichever request of a run fails, all versions restore with both keys, and the
// next run does the rest.
func TestG8HalfRotated(t *testing.T) {
	w, _ := rotated(t, 7)
	failed := errors.New("failed")
	for at := 1; ; at++ {
		n := 0
		w.chunks.fail = func(verb, key string) error {
			if len(key) != 64 { // packs
				return nil
			}
			if n++; n == at {
				return fmt.Errorf("%s %s: %w", verb, key, failed)
			}
			return nil
		}
		_, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, w.options(true))
		w.chunks.fail = nil
		w.check()
		if !bytes.Equal(w.restore(), w.file) {
			t.Fatalf("request %d: the newest version is another", at)
		}
		if err == nil {
			if at < 3 || w.stale() != 0 {
				t.Errorf("untouched at %d, %d packs are stale: %v", at, w.stale(), err)
			}
			return
		}
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
}

// TestG8BesideWriter: a writer puts versions, and packs that are there already, while packs are
// sealed anew: nothing of it is lost.
func TestG8BesideWriter(t *testing.T) {
	w, _ := rotated(t, 3)
	busy, written := false, 0
	w.chunks.before = func(verb, key string) {
		if verb != "get" || len(key) != 64 || busy {
			return
		}
		busy = true // the writer's own requests
		defer func() { busy = false }()
		w.write(1)
		written++
	}
	o := w.options(true)
	o.Concurrency = 1
	if _, err := upkeep.Collect(t.Context(), []*chunkstore.Target{w.Target}, o); err != nil {
		t.Fatal(err)
	}
	w.chunks.before = nil
	w.check()
	if !bytes.Equal(w.restore(), w.file) || w.stale() != 0 || written < 3 {
		t.Errorf("%d versions: the newest is another, or %d packs are stale", written, w.stale())
	}
}

// TestG5NoKey: who has not the keys collects nothing.
func TestG5NoKey(t *testing.T) {
	w, _ := rotated(t, 5)
	keys := w.Target.Sealer
	for _, s := range []chunkstore.Sealer{chunkstore.Plain{},
		keyring.New(keyring.Generate(time.Unix(0, 0), false))} {
		w.Target.Sealer = s
		w.refuse(chunkstore.ErrKey.Error())
	}
	w.Target.Sealer = keys
	w.check()
}
