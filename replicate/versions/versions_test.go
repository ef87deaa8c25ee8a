package versions

import (
	"errors"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// writer writes versions of one small database to a directory.
type writer struct {
	t    *testing.T
	to   *chunkstore.Target
	key  string
	w    *history.Writer
	last *manifest.Manifest
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	config := &dir.Config{Path: t.TempDir()}
	target, err := config.Open(chunkstore.NewLimiter(0, 0), chunkstore.Options{}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, to: target}
	w.to.Sealer = chunkstore.Plain{}
	w.last = &manifest.Manifest{
		Host: "h", Path: "/p", PageBytes: 512, FileBytes: 1024,
		Top: []chunkstore.Ref{{ID: chunkstore.ZeroID}}, Cut: [16]byte{1},
		At: history.Position{Lineage: [16]byte{7}, Released: true},
	}
	w.key = manifest.PlainName("h", "/p")
	r, err := history.Create(t.Context(), NewStore(w.to, w.key), Options(), [16]byte{7},
		w.encoded(), "")
	w.must(err)
	w.w = history.NewWriter(r)
	return w
}

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) encoded() []byte {
	w.t.Helper()
	b, err := w.last.Encode(chunkstore.Plain{})
	w.must(err)
	return b
}

// next appends a version that has b in its first page.
func (w *writer) next(b byte) {
	w.t.Helper()
	n := *w.last
	n.Sequence++
	n.Cut = [16]byte{b, byte(n.Sequence)}
	n.Inline = []manifest.Page{{Offset: 0, Data: append([]byte{b}, make([]byte, 511)...)}}
	body, err := w.last.StepTo(&n, nil, 1).Encode()
	w.must(err)
	w.must(w.w.Take(w.t.Context(), nil))
	w.must(w.w.Append(w.t.Context(), body, false))
	n.At = w.w.At()
	w.last = &n
}

func (w *writer) checkpoint() {
	w.t.Helper()
	w.must(w.w.Checkpoint(w.t.Context(), w.encoded()))
}

func (w *writer) wantNext(f *Follower, news bool) {
	w.t.Helper()
	got, err := f.Next(w.t.Context())
	w.must(err)
	m := f.Newest()
	if got != news || m.Cut != w.last.Cut || m.At.Number != w.last.At.Number ||
		len(m.Inline) != len(w.last.Inline) {
		w.t.Fatalf("news %v, version %d at record %d, want %v, %d at %d", got, m.Sequence,
			m.At.Number, news, w.last.Sequence, w.last.At.Number)
	}
	if len(m.Inline) > 0 && m.Inline[0].Data[0] != w.last.Inline[0].Data[0] {
		w.t.Fatalf("version %d has %d, want %d", m.Sequence, m.Inline[0].Data[0],
			w.last.Inline[0].Data[0])
	}
}

func TestFollow(t *testing.T) {
	w := newWriter(t)
	f, err := Open(t.Context(), w.to, w.key)
	w.must(err)
	w.wantNext(f, false)
	w.next(1)
	w.wantNext(f, true)
	w.wantNext(f, false)
	for b := byte(2); b < 60; b++ {
		w.next(b)
	}
	w.wantNext(f, true)
	w.checkpoint()
	w.wantNext(f, false)
	late, err := OpenNewest(t.Context(), w.to, w.key)
	w.must(err)
	w.wantNext(late, false)
	w.next(61)
	w.wantNext(late, true)
	w.wantNext(f, true)

	// A follower that slept while the log was trimmed goes on at the checkpoint.
	sleeper, err := Open(t.Context(), w.to, w.key)
	w.must(err)
	w.next(62)
	w.checkpoint()
	log := NewStore(w.to, w.key).Log([16]byte{7})
	w.must(log.Trim(t.Context(), w.last.At.Number+1, nil))
	sleeper.reader = nil // as after an error
	w.wantNext(sleeper, true)
}

// A version whose record cannot be read is not passed over, and the next checkpoint heals it.
func TestDamagedRecord(t *testing.T) {
	w := newWriter(t)
	f, err := Open(t.Context(), w.to, w.key)
	w.must(err)
	w.must(w.w.Take(t.Context(), nil))
	w.must(w.w.Append(t.Context(), []byte("no step"), false))
	w.last.At = w.w.At()
	if _, err := f.Next(t.Context()); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Fatalf("a record that is no step: %v", err)
	}
	if _, err := f.Next(t.Context()); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Fatalf("the second time: %v", err)
	}
	w.checkpoint()
	w.wantNext(f, false)
	w.next(3)
	w.wantNext(f, true)
}

// A manifest that is in no history is replaced by another one, and then by a history.
func TestWithoutHistory(t *testing.T) {
	w := newWriter(t)
	put := func() {
		_, err := w.to.Manifests.Put(t.Context(), w.key, w.encoded(), chunkstore.Condition{})
		w.must(err)
	}
	w.last.At = history.Position{}
	put()
	f, err := OpenNewest(t.Context(), w.to, w.key)
	w.must(err)
	w.wantNext(f, false)
	w.last.Cut, w.last.Time = [16]byte{9}, time.Unix(3, 0)
	put()
	w.wantNext(f, true)
	w.last.At, w.last.Cut = history.Position{Lineage: [16]byte{7}, Released: true}, [16]byte{8}
	put()
	w.wantNext(f, true)
	other, err := OpenNewest(t.Context(), w.to, w.key)
	w.must(err)
	w.w = history.NewWriter(other.Reader()) // as another one's checkpoint is there
	w.next(4)
	w.wantNext(f, true)
	w.last.At, w.last.Cut = history.Position{}, [16]byte{6}
	put()
	f.reader = nil
	w.wantNext(f, true)
}

func TestAnotherDatabase(t *testing.T) {
	w := newWriter(t)
	w.last.Path = "/q"
	_, err := w.to.Manifests.Put(t.Context(), w.key, w.encoded(), chunkstore.Condition{})
	w.must(err)
	if _, err := Open(t.Context(), w.to, w.key); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("another database's manifest: %v", err)
	}
	if _, err := Open(t.Context(), w.to, "nothing"); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("no manifest: %v", err)
	}
}

// Check is what a flush believes.
func TestCheck(t *testing.T) {
	w := newWriter(t)
	early, err := Open(t.Context(), w.to, w.key)
	w.must(err)
	w.must(early.Reader().Check(t.Context(), history.Position{}))
	w.next(1)
	err = early.Reader().Check(t.Context(), history.Position{})
	if !errors.Is(err, history.ErrBehind) {
		t.Errorf("there is a first record: %v", err)
	}
	w.must(w.w.Reader().Check(t.Context(), history.Position{}))
	other, err := OpenNewest(t.Context(), w.to, w.key)
	w.must(err)
	second := history.NewWriter(other.Reader())
	w.must(second.Take(t.Context(), nil))
	err = w.w.Reader().Check(t.Context(), history.Position{})
	if !errors.Is(err, history.ErrBehind) {
		t.Errorf("another writer has taken over: %v", err)
	}
	w.must(second.Reader().Check(t.Context(), history.Position{}))
	if err := w.w.Reader().Look(t.Context()); err != nil {
		t.Errorf("a look at a checkpoint that is as it was: %v", err)
	}
	log := NewStore(w.to, w.key).Log([16]byte{7})
	w.must(log.Trim(t.Context(), second.At().Number, nil))
	err = second.Reader().Check(t.Context(), history.Position{})
	if !errors.Is(err, history.ErrLost) {
		t.Errorf("records before the last one are gone: %v", err)
	}
	w.last.At = second.At()
	w.must(second.Checkpoint(t.Context(), w.encoded()))
	w.must(second.Reader().Check(t.Context(), history.Position{})) // the checkpoint has them
	if err := w.w.Reader().Look(t.Context()); !errors.Is(err, history.ErrBehind) {
		t.Errorf("another writer's checkpoint: %v", err)
	}
	w.must(second.Append(t.Context(), nil, false))
	w.must(second.Reader().Check(t.Context(), history.Position{}))
	w.must(w.to.Manifests.Delete(t.Context(), w.key))
	if err := second.Reader().Look(t.Context()); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("a look for a checkpoint that is gone: %v", err)
	}
	err = second.Reader().Check(t.Context(), history.Position{})
	if !errors.Is(err, history.ErrBehind) {
		t.Errorf("the checkpoint is gone: %v", err)
	}
}
