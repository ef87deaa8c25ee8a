package manifest

import (
	"context"
	"errors"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/test/crash"
)

// walk is a database that changes at random, and what a target has of it.
type walk struct {
	rng     *rand.Rand
	tree    *Tree
	m       *Manifest // as one reader has it
	objects map[chunkstore.ID][]byte
	late    *Manifest // as a reader has it that began at the last checkpoint
}

func newWalk(seed int64) *walk {
	w := &walk{
		rng: rand.New(rand.NewSource(seed)), objects: make(map[chunkstore.ID][]byte),
	}
	w.m = &Manifest{
		Host: "h", Path: "/p", Program: "t", PageBytes: 512, Cut: [16]byte{1},
		At: history.Position{Lineage: [16]byte{9}, Number: 3, Epoch: 1},
	}
	w.m.FileBytes = int64(w.rng.Intn(200)) * chunkstore.ChunkBytes
	w.tree = NewTree(chunkstore.Plain{}, w.m.Chunks())
	w.pack()
	w.m = w.late
	return w
}

func (w *walk) ref() chunkstore.Ref {
	if w.rng.Intn(6) == 0 {
		return zeroRef
	}
	return chunkstore.Ref{
		ID: chunkstore.ID{1, byte(w.rng.Intn(256)), byte(w.rng.Intn(4))},
		Place: chunkstore.Place{
			Pack: chunkstore.Digest{byte(w.rng.Intn(9))}, Offset: w.rng.Uint32(), Bytes: 7,
		},
	}
}

// pack makes the version one that a checkpoint has.
func (w *walk) pack() {
	put := func(objects []chunkstore.Hashed) (places []chunkstore.Place, err error) {
		for _, o := range objects {
			w.objects[o.ID()] = plainOf(o)
			places = append(places, w.ref().Place)
			places[len(places)-1].Bytes = 5
		}
		return places, nil
	}
	var err error
	m := *w.m
	m.Earlier = nil
	m.Levels, m.Top, m.Patches, err = w.tree.Pack(nil, 3, nil, put)
	if err != nil {
		panic(err)
	}
	if w.late = &m; w.rng.Intn(2) == 0 {
		w.m = &m
	}
}

// next returns another version, and the step to it.
func (w *walk) next() (*Manifest, *Step) {
	n := *w.m
	n.At = history.Position{}
	n.Sequence++
	n.Cut = [16]byte{byte(w.rng.Intn(256)), 5}
	n.Time = time.Unix(int64(1+w.rng.Intn(1000)), 0).UTC()
	shortest, changed := w.tree.Len(), map[int]chunkstore.Ref{}
	for range w.rng.Intn(3) {
		n.FileBytes = int64(w.rng.Intn(200)) * chunkstore.ChunkBytes
		w.tree.Resize(n.Chunks())
		shortest = min(shortest, n.Chunks())
		maps.DeleteFunc(changed, func(i int, _ chunkstore.Ref) bool { return i >= n.Chunks() })
		for range w.rng.Intn(6) {
			if w.tree.Len() > 0 {
				i, ref := w.rng.Intn(w.tree.Len()), w.ref()
				w.tree.Set(i, ref)
				changed[i] = ref
			}
		}
	}
	n.Inline = nil
	for _, p := range w.m.Inline {
		if w.rng.Intn(4) > 0 && p.Offset+int64(len(p.Data)) <= n.FileBytes {
			n.Inline = append(n.Inline, p)
		}
	}
	if w.rng.Intn(2) == 0 && n.FileBytes > 0 {
		n.Inline = w.withPage(n.Inline, int64(w.rng.Intn(int(n.FileBytes/512)))*512)
	}
	if w.rng.Intn(10) == 0 {
		w.tree.Describe(&n)
		return &n, n.WholeStep()
	}
	var patches []Patch
	for _, i := range slices.Sorted(maps.Keys(changed)) {
		patches = append(patches, Patch{i, changed[i]})
	}
	return &n, w.m.StepTo(&n, patches, shortest)
}

// withPage returns pages with a new one at off.
func (w *walk) withPage(pages []Page, off int64) (all []Page) {
	data := make([]byte, 512)
	w.rng.Read(data[:4])
	for _, p := range pages {
		if p.Offset < off {
			all = append(all, p)
		}
	}
	all = append(all, Page{off, data})
	for _, p := range pages {
		if p.Offset > off {
			all = append(all, p)
		}
	}
	return all
}

// What steps make of a version is the version that they were taken of, also after they were stored,
// and from whatever checkpoint a reader began.
func TestStepsBySeed(t *testing.T) {
	for seed := range crash.Seeds(t, 300) {
		seed := int64(seed)
		w := newWalk(seed)
		for range 20 {
			if w.rng.Intn(8) == 0 {
				w.pack()
			}
			next, step := w.next()
			body, err := step.Encode()
			if err != nil {
				t.Fatal(err)
			}
			s, err := DecodeStep(body)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []**Manifest{&w.m, &w.late} {
				if *m, err = (*m).Apply(s); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				w.check(t, seed, *m, next)
			}
		}
	}
}

// check compares m with a version, and its tree with the one that was changed.
func (w *walk) check(t *testing.T, seed int64, m, want *Manifest) {
	t.Helper()
	stored, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if m, err = Decode(chunkstore.Plain{}, stored); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if m.Cut != want.Cut || m.Sequence != want.Sequence || m.FileBytes != want.FileBytes ||
		m.Host != "h" || m.Path != "/p" || !m.Time.Equal(want.Time) ||
		len(m.Inline) != len(want.Inline) ||
		len(m.Inline) > 0 && !reflect.DeepEqual(m.Inline, want.Inline) {
		t.Fatalf("seed %d: a step makes\n%+v\nwant\n%+v", seed, m, want)
	}
	tree := m.Tree(chunkstore.Plain{})
	for i := range m.Chunks() {
		got, err := tree.Lookup(t.Context(), i, w.fetch)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if want := w.tree.At(i); got != want {
			t.Fatalf("seed %d: chunk %d is %v, want %v", seed, i, got, want)
		}
	}
}

func plainOf(o chunkstore.Hashed) []byte {
	var p chunkstore.Pack
	p.Seal(chunkstore.Plain{}, o)
	stored, name, _ := p.Encode(chunkstore.Plain{})
	pieces, err := chunkstore.DecodePack(chunkstore.Plain{}, name, stored)
	if err == nil {
		var plain []byte
		plain, err = chunkstore.OpenObject(chunkstore.Plain{}, nil, o.ID(), pieces[0].Stored)
		if err == nil {
			return plain
		}
	}
	panic(err)
}

func (w *walk) fetch(_ context.Context, refs []chunkstore.Ref) (plain [][]byte, err error) {
	for _, r := range refs {
		plain = append(plain, w.objects[r.ID])
	}
	return plain, nil
}

func TestStepDamage(t *testing.T) {
	w := newWalk(1)
	_, step := w.next()
	body, err := step.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := DecodeStep(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		bad := append([]byte(nil), body...)
		bad[i] ^= 1
		got, err := DecodeStep(bad)
		same := err == nil && reflect.DeepEqual(got, want) // zstd says some things in two ways
		if !same && !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("byte %d of %d: %v", i, len(body), err)
		}
		if _, err := DecodeStep(body[:i]); !errors.Is(err,
			chunkstore.ErrCorrupt) {
			t.Errorf("cut off at %d of %d: %v", i, len(body), err)
		}
	}
}

func TestOwner(t *testing.T) {
	o := Owner{Host: "a", Program: "verneuil 1", PID: 12, Since: time.Unix(5, 0).UTC()}
	body, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeOwner(body); err != nil || got != o {
		t.Errorf("%v, %v", got, err)
	}
	if want := "pid 12 on a (verneuil 1), since 1970-01-01T00:00:05Z"; o.String() != want {
		t.Errorf("%s", o)
	}
}

// Whatever a step says, its version is whole, or it is corrupt.
func FuzzStep(f *testing.F) {
	for seed := range int64(5) {
		w := newWalk(seed)
		_, s := w.next()
		f.Add(seed, plainStep(s))
	}
	f.Fuzz(func(t *testing.T, seed int64, plain []byte) {
		w := newWalk(seed % 100)
		s, err := DecodeStep(chunkstore.EncodeBody(plain))
		if err == nil {
			var m *Manifest
			if m, err = w.m.Apply(s); err == nil {
				if _, err := m.Encode(chunkstore.Plain{}); err != nil &&
					!errors.Is(err, ErrTooLong) {
					t.Fatalf("its version cannot be stored: %v", err)
				}
				m.Tree(chunkstore.Plain{})
			}
		}
		if err != nil && !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func plainStep(s *Step) []byte {
	body, err := s.Encode()
	if err == nil {
		body, err = chunkstore.DecodeBody(body)
	}
	if err != nil {
		panic(err)
	}
	return body
}
