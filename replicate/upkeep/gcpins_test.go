package upkeep_test

import (
	"testing"
	"time"

	"verneuil/chunkstore"
)

// TestG3Pinned: a pack that a writer could not touch stays because of a pin, also
// where that comes after the pack was listed; and goes, with the pin, when that is old.
func TestG3Pinned(t *testing.T) {
	w := newGCWorld(t, 21)
	w.begin()
	stray := w.stray()
	name, err := chunkstore.ParseDigest(stray)
	if err != nil {
		t.Fatal(err)
	}
	pin := chunkstore.PinPrefix(name) + "00000001"
	lists := 0
	w.chunks.before = func(verb, key string) {
		if verb != "list" || key != chunkstore.PinKeyPrefix {
			return
		}
		if lists++; lists != 2 { // before packs are deleted
			return
		}
		if _, err := w.chunks.Put(t.Context(), pin, []byte("pin\n"),
			chunkstore.Condition{IfNone: true}); err != nil {
			t.Error(err)
		}
	}
	for k, after := range []time.Duration{100 * time.Hour, 10 * time.Hour, 100 * time.Hour} {
		w.clock.advance(after)
		w.write(1)
		w.checkpoint()
		w.collect(true)
		keys := w.chunks.keys(t, "")
		if keys[stray] != (k < 2) || keys[pin] != (k < 2) {
			t.Errorf("step %d: the pack is there: %v, its pin: %v", k, keys[stray], keys[pin])
		}
	}
}
