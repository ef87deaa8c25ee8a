package courier

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// ledgerWorld is a spool in which a target has a ledger.
type ledgerWorld struct {
	testing.TB
	sp  *spool.Spool
	now time.Time
}

func newLedgerWorld(t *testing.T) *ledgerWorld {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	return &ledgerWorld{t, sp, time.Unix(1_700_000_000, 5)}
}

func (w *ledgerWorld) ledger() *ledger { return ledgerOf(w.sp, "a target") }

func ledgerID(n byte) chunkstore.ID { return chunkstore.Plain{}.Identify([]byte{n}) }

// ledgerRef has two objects in each pack.
func ledgerRef(n byte) chunkstore.Ref {
	return chunkstore.Ref{ID: ledgerID(n), Place: chunkstore.Place{
		Pack: chunkstore.Sum([]byte{n / 2}), Offset: 100 + uint32(n), Bytes: 1 << 20 * uint32(n),
	}}
}

// load checks that the ledger has these objects, where they are, and no others.
func (w *ledgerWorld) load(want ...byte) {
	w.Helper()
	ids, err := w.ledger().Load(w.now)
	if err != nil {
		w.Fatal(err)
	}
	for _, n := range want {
		if place, ok := ids[ledgerID(n)]; !ok || place != ledgerRef(n).Place {
			w.Errorf("%d is in the ledger: %v, at %+v", n, ok, place)
		}
	}
	if len(ids) != len(want) {
		w.Errorf("%d IDs, want %d", len(ids), len(want))
	}
}

// note notes IDs, that much later than now.
func (w *ledgerWorld) note(later time.Duration, ids ...byte) {
	w.Helper()
	l := w.ledger()
	defer l.Close()
	var all []chunkstore.Ref
	for _, n := range ids {
		all = append(all, ledgerRef(n))
	}
	if err := l.Note(all, w.now.Add(later)); err != nil {
		w.Fatal(err)
	}
}

// TestLedger: what a kill or a damaged disk leaves of a ledger is a beginning of it, never an
// ID that was not noted; and what is noted later counts.
func TestLedger(t *testing.T) {
	w := newLedgerWorld(t)
	w.load()
	w.note(0, 1, 2, 6, 7)
	w.note(-25*time.Hour, 3) // too old
	w.note(time.Hour, 4)     // the clock was set back: how old, nobody knows
	w.note(-23*time.Hour, 5)
	w.load(1, 2, 5, 6, 7)
	if ids, err := ledgerOf(w.sp, "another").Load(w.now); err != nil || ids != nil {
		t.Errorf("another target's ledger: %v, %v", ids, err)
	}

	names, err := filepath.Glob(filepath.Join(w.sp.Dir(), "put.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole { // cut anywhere, and go on
		if err := os.WriteFile(names[0], whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var want []byte
		if n >= 24+3*36+4*40 {
			want = []byte{1, 2, 6, 7}
		}
		w.load(want...)
		w.note(0, 9)
		w.load(append(want, 9)...)
	}
	for n := range whole { // damaged anywhere
		damaged := append([]byte(nil), whole...)
		damaged[n] ^= 4
		if err := os.WriteFile(names[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		ids, err := w.ledger().Load(w.now)
		if err != nil {
			t.Fatalf("byte %d: %v", n, err)
		}
		for _, known := range []byte{1, 2, 5, 6, 7} {
			if ids[ledgerID(known)] == ledgerRef(known).Place {
				delete(ids, ledgerID(known))
			}
		}
		if len(ids) > 0 {
			t.Fatalf("byte %d: what was not noted: %v", n, ids)
		}
	}
	if err := w.ledger().Remove(); err != nil {
		t.Fatal(err)
	}
	w.load()
}

// TestHollowLedger: what a ledger claims, and its length, cost no memory, if there is nothing in
// it.
func TestHollowLedger(t *testing.T) {
	l := newLedgerWorld(t).ledger()
	header := make([]byte, putHeaderBytes)
	copy(header, putMagic)
	binary.LittleEndian.PutUint32(header[4:], putBytesMax-putHeaderBytes)
	if err := os.WriteFile(l.name, header, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.name, 1<<30); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if ids, err := l.Load(time.Now()); err != nil || ids != nil {
		t.Errorf("%d IDs, %v", len(ids), err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// FuzzLedger: whatever a ledger's file is, it is read, or refused, without harm, and what is noted
// behind it counts.
func FuzzLedger(f *testing.F) {
	root := f.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		f.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 5)
	l := ledgerOf(sp, "a target")
	if err := l.Note([]chunkstore.Ref{ledgerRef(1), ledgerRef(2), ledgerRef(3)}, now); err != nil {
		f.Fatal(err)
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(l.name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= putHeaderBytes { // or hardly anything gets past the sum
			block := b[:min(len(b), putHeaderBytes+int(binary.LittleEndian.Uint32(b[4:])))]
			binary.LittleEndian.PutUint32(block[16:], putSum(block))
		}
		if err := os.WriteFile(l.name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := l.Load(now)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Note([]chunkstore.Ref{ledgerRef(200)}, now); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		after, err := l.Load(now)
		if err != nil {
			t.Fatal(err)
		}
		if before == nil {
			before = make(map[chunkstore.ID]chunkstore.Place)
		}
		before[ledgerID(200)] = ledgerRef(200).Place
		if !maps.Equal(before, after) {
			t.Errorf("%d objects, and after one more %d", len(before), len(after))
		}
	})
}
