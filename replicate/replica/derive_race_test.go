package replica_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/manifest"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// writer derives versions, of which all pages are stamped with their sequence.
type writer struct {
	*fed
	all   *Set
	rng   *rand.Rand
	file  []byte                  // of the newest version that is published
	m     *manifest.Manifest      // likewise
	tip   atomic.Pointer[Version] // what was derived last, for readers to move to
	moves sync.RWMutex            // of tip, which is not given back while a reader moves
}

// chain derives some versions, of which each is made of the one before, and publishes them, or
// some of them, or none.
func (w *writer) chain(t *testing.T, r *Reader) {
	if err := r.Refresh(context.Background(), true); err != nil {
		t.Error(err)
		return
	}
	if r.Manifest().Cut != w.m.Cut {
		t.Errorf("at version %d, not at %d", r.Sequence(), w.m.Sequence)
	}
	var versions []*Version
	var files [][]byte
	file := w.file
	for range 1 + w.rng.IntN(4) {
		number := r.Sequence() + 1
		next := publishtest.Stamped(66*16, number)
		for i := range 66 * 16 { // what failed had the same number
			binary.BigEndian.PutUint64(next[i*testPage+200:], w.rng.Uint64())
			if w.rng.IntN(100) > 0 && i > 0 {
				copy(next[i*testPage:(i+1)*testPage], file[i*testPage:])
			}
		}
		count(next, r.Counter()+1)
		inline := w.rng.IntN(2) == 0 && inlineBytes(r.Manifest()) < 1<<19
		m, chunks := w.successor(r.Manifest(), file, next, len(file), inline)
		if w.rng.IntN(2) == 0 {
			chunks = nil
		}
		v, err := r.Derive(context.Background(), m, r.Counter()+1, chunks)
		if err != nil {
			t.Error(err)
			return
		}
		r.MoveTo(v)
		w.moves.Lock()
		w.tip.Store(v)
		w.moves.Unlock()
		versions, files, file = append(versions, v), append(files, next), next
	}
	durable := w.rng.IntN(len(versions) + 1)
	for k, v := range versions[:durable] {
		w.file, w.m = files[k], v.Manifest()
		if w.rng.IntN(2) == 0 {
			w.set(w.m)
		}
		v.Publish()
		if w.rng.IntN(2) == 0 {
			w.set(w.m)
		}
	}
	if durable > 0 {
		w.set(w.m)
	}
	w.moves.Lock()
	w.tip.Store(nil)
	w.moves.Unlock()
	for _, v := range versions {
		v.Release()
	}
}

// look reads pages of r's version twice: it does not change, and its header has one counter.
func look(t *testing.T, r *Reader, rng *rand.Rand) {
	counter, _ := shown(t, r)
	if counter != r.Counter() {
		t.Errorf("counter %d, shown %d", r.Counter(), counter)
	}
	for range 20 {
		off := int64(rng.IntN(66*16)) * testPage
		var a, b [testPage]byte
		if err := r.Read(context.Background(), a[:], off); err != nil {
			t.Error(err)
			return
		}
		if !r.ReadAsC(b[:], off) {
			continue
		}
		if a != b {
			t.Errorf("page %d is another one a moment later, of version %d", off/testPage,
				r.Sequence())
		}
		if n := binary.BigEndian.Uint64(a[128:]); n > r.Sequence() {
			t.Errorf("version %d has page %d of version %d", r.Sequence(), off/testPage, n)
		}
	}
}

// TestDeriveConcurrently: while a writer derives, publishes and fails, readers that move to what is
// not published, and readers that follow, see one version each, and all is given back.
func TestDeriveConcurrently(t *testing.T) {
	file := publishtest.Stamped(66*16, 1)
	w := &writer{fed: newFed(t, file, 0), rng: rand.New(rand.NewPCG(3, 4)), file: file}
	w.m = w.newest
	w.all = w.follow(Options{Linger: -1})
	done := make(chan struct{})
	var readers sync.WaitGroup
	for g := range 3 {
		r, err := w.all.OpenFrom(t.Context(), w.fed)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer r.Close()
			rng := rand.New(rand.NewPCG(uint64(g), 5))
			for last := uint64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				switch g % 3 {
				case 0: // it reads what the writer has derived
					w.moves.RLock()
					if v := w.tip.Load(); v != nil {
						r.MoveTo(v)
					}
					w.moves.RUnlock()
				case 1:
					if err := r.Refresh(context.Background(), g == 1); err != nil {
						t.Error(err)
					}
				case 2:
					r.Adopt()
				}
				if g%3 > 0 { // D5
					if r.Sequence() < last {
						t.Errorf("reader %d went back from %d to %d", g, last, r.Sequence())
					}
					last = r.Sequence()
				}
				look(t, r, rng)
			}
		})
	}
	r, err := w.all.OpenFrom(t.Context(), w.fed)
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		w.chain(t, r)
	}
	close(done)
	readers.Wait()
	r.Close()
	awaitNoSlots(t, w.all)
	if n := w.all.MemoryInUse(); n != 0 {
		t.Errorf("%d bytes of tables in use", n)
	}
}
