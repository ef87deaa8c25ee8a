package chunkstore_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// TestMendPack: a pack is put again, byte for byte, of what is left of it, of what is known to have
// stood in it, and of what another target has; or else it stays as it is.
func TestMendPack(t *testing.T) {
	s := chunkstore.Plain{}
	plain := [][]byte{bytes.Repeat([]byte("a"), 5000), bytes.Repeat([]byte("b"), 7000),
		bytes.Repeat([]byte("c"), 300)}
	p := new(chunkstore.Pack)
	p.Date(time.Now().Add(-100 * 24 * time.Hour))
	var known []chunkstore.Ref
	for _, b := range plain {
		h := chunkstore.Hash(s, b)
		p.Seal(s, h)
		known = append(known, chunkstore.Ref{ID: h.ID()})
	}
	stored, name, places := p.Encode(s)
	for k := range known {
		known[k].Place = places[k]
	}
	here := func(numbers ...int) func(context.Context, chunkstore.ID) []byte {
		return func(_ context.Context, id chunkstore.ID) []byte {
			for _, k := range numbers {
				if known[k].ID == id {
					return plain[k]
				}
			}
			return []byte("something else, as the file has changed")
		}
	}
	list := int(places[0].Offset)
	oneFlipped := flipped(stored, int(places[1].Offset))
	withoutList := append(make([]byte, list), stored[list:]...)
	for _, c := range []struct {
		name  string
		left  []byte // nil: there is none
		known []chunkstore.Ref
		here  []int
		twin  bool
		fails bool
	}{
		{name: "one object is damaged", left: oneFlipped, here: []int{1}},
		{name: "it is not here", left: oneFlipped, here: []int{0, 2},
			fails: true},
		{name: "another target has it", left: oneFlipped, twin: true},
		{name: "the list is damaged", left: flipped(stored, 20), known: known},
		{name: "the list is gone", left: withoutList, known: known},
		{name: "one is not known", left: withoutList, known: known[:2], here: []int{0, 1, 2},
			fails: true},
		{name: "one in the middle is not known", left: withoutList,
			known: []chunkstore.Ref{known[0], known[2]}, here: []int{0, 1, 2}, fails: true},
		{name: "nothing is known", left: withoutList, here: []int{0, 1, 2}, fails: true},
		{name: "it is cut short", left: stored[:places[1].Offset+1], known: known,
			here: []int{1, 2}},
		{name: "it is gone", known: append(known, known...), here: []int{0, 1, 2}},
		{name: "it is gone, and another target has it", twin: true},
		{name: "it is gone, and so is one of it", known: known, here: []int{0, 1}, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			mendsPack(t, name, stored, c.left, c.twin, c.fails, chunkstore.Remains{
				Known: c.known, Plain: here(c.here...),
			})
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at]++
	return b
}

// mendsPack has a pack mended, of which this is left, which was as stored, and which a twin may
// have.
func mendsPack(t *testing.T, name chunkstore.Digest, stored, left []byte, inTwin, fails bool,
	r chunkstore.Remains) {
	t.Helper()
	target := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	twin := storetest.Open(t, dirTarget(t.TempDir())).Targets[0]
	put := func(to *chunkstore.Target, body []byte) {
		if _, err := to.Chunks.Put(t.Context(), name.String(), body,
			chunkstore.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if left != nil {
		put(target, left)
	}
	if inTwin {
		put(twin, stored)
	}
	r.Twins = []*chunkstore.Target{twin}
	err := chunkstore.MendPack(t.Context(), target, name, r)
	want := stored
	if fails {
		want = left
	}
	if (err != nil) != fails || err != nil && !chunkstore.IsFault(err) {
		t.Errorf("%v; fails %v", err, fails)
	}
	o, err := target.Chunks.Get(t.Context(), name.String(), chunkstore.GetOptions{})
	if want == nil {
		storetest.MustBe(t, err, chunkstore.ErrAbsent)
	} else if err != nil || !bytes.Equal(o.Body, want) {
		t.Errorf("the pack has %d bytes, want %d: %v", len(o.Body), len(want), err)
	}
}
