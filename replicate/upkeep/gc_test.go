package upkeep_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/upkeep"
)

// TestG1AnyVersionOfTheHistoryRestores: random histories, collected at random moments: each version
// that was the newest one within history_hours restores, nothing young goes, and garbage goes
// in the end.
func TestG1AnyVersionOfTheHistoryRestores(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newGCWorld(t, seed)
			w.begin()
			young := map[string]time.Time{}
			deleted := 0
			for range 100 {
				w.step()
				if w.rng.IntN(8) == 0 {
					young[w.stray()] = w.clock.Now()
				}
				if w.rng.IntN(6) > 0 {
					continue
				}
				dry := w.collect(false)
				found := w.collect(true)
				if *found != *dry {
					t.Fatalf("seed %d: would delete %+v, deleted %+v", seed, *dry, *found)
				}
				deleted += found.Packs.Objects
				w.check()
				there := w.chunks.keys(t, "")
				for key, at := range young {
					if !there[key] && w.clock.Now().Sub(at) < historyHours+25*time.Hour {
						t.Fatalf("seed %d: a pack was deleted that was put %v ago", seed,
							w.clock.Now().Sub(at))
					}
				}
			}
			if deleted == 0 {
				t.Errorf("seed %d: nothing was ever deleted", seed)
			}
			w.garbageGoes()
			if !bytes.Equal(w.restore(), w.file) {
				t.Errorf("seed %d: the newest version has other bytes", seed)
			}
		})
	}
}

// step is something that a writer does, and time that passes.
func (w *gcWorld) step() {
	w.t.Helper()
	switch n := w.rng.IntN(100); {
	case n < 60:
		w.write(1 + w.rng.IntN(3))
	case n < 63:
		w.write(60)
	case n < 66:
		w.file = w.file[:len(w.file)/2+w.rng.IntN(1<<20)&^4095]
		w.write(1)
		w.file = append(w.file, make([]byte, 90<<16-len(w.file))...)
	case n < 70:
		w.takeOver()
	case n < 73:
		w.begin()
	case n < 96:
		w.checkpoint()
	default:
		w.clock.advance(time.Duration(w.rng.Int64N(int64(60 * time.Hour))))
	}
	if w.rng.IntN(3) == 0 {
		w.clock.advance(time.Duration(w.rng.Int64N(int64(5 * time.Hour))))
	} else {
		w.clock.advance(time.Duration(w.rng.Int64N(int64(5 * time.Minute))))
	}
}

// TestDeadBytes: what is left of a pack that a version needs little of is told.
func TestDeadBytes(t *testing.T) {
	w := newGCWorld(t, 1)
	w.begin()
	if found := w.collect(false); found.DeadBytes != 0 || found.Live.Objects == 0 {
		t.Errorf("%d bytes are dead in %d packs of a new database", found.DeadBytes,
			found.Live.Objects)
	}
	for i := 1; i < 90; i++ {
		w.stamp(i)
	}
	w.write(0)
	for range 12 { // the first version goes, and its packs stay for one chunk
		w.clock.advance(24 * time.Hour)
		w.write(1)
		w.checkpoint()
	}
	w.collect(true)
	named, bytes := map[string]bool{}, int64(0)
	for _, v := range w.past[len(w.past)-9:] {
		for _, ref := range v.refs {
			named[ref.Place.Pack.String()] = true
		}
	}
	for key := range w.chunks.keys(t, "") {
		if named[key] {
			o, err := w.chunks.Stat(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			bytes += o.Bytes
		}
	}
	if found := w.collect(false); found.DeadBytes == 0 || found.DeadBytes >= bytes {
		t.Errorf("%d bytes are dead of %d", found.DeadBytes, bytes)
	}
}

// TestVerifyTouchesRecords: what makes the newest version of a checkpoint is touched with it, and
// the fences that no log may lose.
func TestVerifyTouchesRecords(t *testing.T) {
	w := newGCWorld(t, 1)
	w.begin()
	w.takeOver() // from nobody
	w.takeOver()
	w.write(1)
	w.checkpoint()
	w.write(1)
	w.write(1)
	w.clock.advance(24 * time.Hour)
	v := upkeep.NewVerifier(w.Target, upkeep.VerifyOptions{Touch: true})
	if m, err := v.Named(t.Context(), w.Key()); err != nil || m.At.Number != 5 {
		t.Fatal(m, err)
	}
	for n, want := range []bool{2: true, 4: true, 5: true} {
		if n == 0 {
			continue
		}
		key := fmt.Sprintf("log-%x-%016x", w.Newest.At.Lineage, n)
		o, err := w.chunks.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if touched := o.Modified.Equal(w.clock.Now()); touched != want {
			t.Errorf("record %d was touched: %v", n, touched)
		}
	}
}

// garbageGoes has two weeks pass, and fails unless all that is left then is of use.
func (w *gcWorld) garbageGoes() {
	w.t.Helper()
	for range 15 {
		w.clock.advance(24 * time.Hour)
		w.write(1)
		w.clock.advance(time.Minute)
		w.checkpoint()
	}
	w.collect(true)
	packs, kept, records := w.counts()
	there := w.chunks.keys(w.t, chunkstore.LogKeyPrefix)
	for _, n := range w.Newest.At.Fences { // T1
		key := fmt.Sprintf("log-%x-%016x", w.Newest.At.Lineage, n)
		if !there[key] {
			w.t.Errorf("fence %d is gone", n)
		}
	}
	if kept > 9 || records > 20+len(w.Newest.At.Fences) {
		w.t.Errorf("%d checkpoints and %d records are left", kept, records)
	}
	// 90 chunks, a pack each at most, and those of the last week, with their leaves.
	if packs > 90+3*9 {
		w.t.Errorf("%d packs are left", packs)
	}
}
