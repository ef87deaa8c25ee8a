package manifest

import (
	"errors"
	"math/rand"
	"reflect"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
)

// walk is a database that changes at random, and what a target has of it.
type walk struct {
	rng  *rand.Rand
	tree *Tree
	m    *Manifest
}

func newWalk(seed int64) *walk {
	w := &walk{rng: rand.New(rand.NewSource(seed))}
	w.m = &Manifest{
		Host: "h", Path: "/p", Program: "t", PageBytes: 512, Cut: [16]byte{1},
		At: history.Position{Lineage: [16]byte{9}, Number: 3, Epoch: 1},
	}
	w.m.FileBytes = int64(w.rng.Intn(200)) * chunkstore.ChunkBytes
	w.tree = NewTree(chunkstore.Plain{}, w.m.Chunks())
	w.pack()
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
		for range objects {
			places = append(places, w.ref().Place)
			places[len(places)-1].Bytes = 5
		}
		return places, nil
	}
	var err error
	w.m.Earlier = nil
	w.m.Levels, w.m.Top, w.m.Patches, err = w.tree.Pack(nil, 3, nil, put)
	if err != nil {
		panic(err)
	}
}

// next returns another version.
func (w *walk) next() *Manifest {
	n := *w.m
	n.At = history.Position{}
	n.Sequence++
	n.Cut = [16]byte{byte(w.rng.Intn(256)), 5}
	n.Time = time.Unix(int64(1+w.rng.Intn(1000)), 0).UTC()
	if w.rng.Intn(3) == 0 {
		n.FileBytes = int64(w.rng.Intn(200)) * chunkstore.ChunkBytes
		w.tree.Resize(n.Chunks())
	}
	for range w.rng.Intn(6) {
		if w.tree.Len() > 0 {
			w.tree.Set(w.rng.Intn(w.tree.Len()), w.ref())
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
	w.tree.Describe(&n)
	return &n
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

func sameVersion(a, b *Manifest) bool {
	x, y := *a, *b
	x.At, y.At = history.Position{}, history.Position{}
	if len(x.Patches) == 0 {
		x.Patches = nil
	}
	if len(y.Patches) == 0 {
		y.Patches = nil
	}
	if len(x.Inline) == 0 {
		x.Inline = nil
	}
	if len(y.Inline) == 0 {
		y.Inline = nil
	}
	return reflect.DeepEqual(x, y)
}

// What steps make of a version is the version that they were taken of, also after they were stored.
func TestSteps(t *testing.T) {
	steps, whole := 0, 0
	for seed := range int64(300) {
		w := newWalk(seed)
		for range 20 {
			if w.rng.Intn(8) == 0 {
				w.pack()
			}
			next := w.next()
			body, err := w.m.StepTo(next).Encode(chunkstore.Plain{})
			if err != nil {
				t.Fatal(err)
			}
			s, err := DecodeStep(chunkstore.Plain{}, body)
			if err != nil {
				t.Fatal(err)
			}
			if steps++; s.Whole {
				whole++
			}
			got, err := w.m.Apply(s)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if !sameVersion(got, next) {
				t.Fatalf("seed %d: a step from\n%+v\nmakes\n%+v\nwant\n%+v", seed, w.m, got, next)
			}
			stored, err := got.Encode(chunkstore.Plain{})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			again, err := Decode(chunkstore.Plain{}, stored)
			if err != nil || !sameVersion(again, next) {
				t.Fatalf("seed %d: stored, it is another version: %v", seed, err)
			}
			w.check(t, got)
			w.m = got
		}
	}
	if whole*5 > steps {
		t.Errorf("%d of %d steps are whole versions", whole, steps)
	}
}

// check compares the tree of m with the one that was changed.
func (w *walk) check(t *testing.T, m *Manifest) {
	t.Helper()
	tree := m.Tree(chunkstore.Plain{})
	for i := range m.Chunks() {
		if got, missing := tree.peek(i); missing != nil {
			continue
		} else if want := w.tree.At(i); got != want {
			t.Fatalf("chunk %d is %v, want %v", i, got, want)
		}
	}
}

func TestStepDamage(t *testing.T) {
	w := newWalk(1)
	body, err := w.m.StepTo(w.next()).Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := DecodeStep(chunkstore.Plain{}, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		bad := append([]byte(nil), body...)
		bad[i] ^= 1
		got, err := DecodeStep(chunkstore.Plain{}, bad)
		same := err == nil && reflect.DeepEqual(got, want) // zstd says some things in two ways
		if !same && !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("byte %d of %d: %v", i, len(body), err)
		}
		if _, err := DecodeStep(chunkstore.Plain{}, body[:i]); !errors.Is(err,
			chunkstore.ErrCorrupt) {
			t.Errorf("cut off at %d of %d: %v", i, len(body), err)
		}
	}
}

func TestOwner(t *testing.T) {
	o := Owner{Host: "a", Program: "verneuil 1", PID: 12, Since: time.Unix(5, 0).UTC()}
	body, err := o.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeOwner(chunkstore.Plain{}, body); err != nil || got != o {
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
		s := w.m.StepTo(w.next())
		f.Add(seed, plainStep(s))
	}
	f.Fuzz(func(t *testing.T, seed int64, plain []byte) {
		w := newWalk(seed % 100)
		s, err := DecodeStep(chunkstore.Plain{}, chunkstore.Plain{}.SealBody(plain))
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
	body, err := s.Encode(chunkstore.Plain{})
	if err == nil {
		body, err = chunkstore.Plain{}.OpenBody(body)
	}
	if err != nil {
		panic(err)
	}
	return body
}
