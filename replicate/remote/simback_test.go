package remote

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// rollback is what a world knows of its store having been put back to an older copy. w.mu guards
// it.
type rollback struct {
	copied  time.Duration // when the copy was made
	at      time.Duration // when it was put back; 0: it was not, yet
	orphans int           // records that were created after that, of which others are not there
	ruined  bool          // what was put back has a checkpoint of what is not there
	// lacks are the packs that are gone, and are named by what was created since: when they were.
	lacks map[string]time.Duration
	// histories are those that were begun because of such records.
	histories int
	lacking   int           // packs that were gone when they were named
	kind      lossKind      // instead, one object was lost
	key       string        // this one
	begun     time.Duration // when the last of them was
	again     bool          // the checkpoint is there again
	named     int           // calls that failed since, and named the pack
	told      int           // calls that failed since, as the store is not what it was
}

// doubtTime is for how long after the store was put back COMMIT may answer for what is not there: a
// look is due each renewal time, and takes a moment.
func (s *settings) doubtTime() time.Duration {
	return s.lease.LeaseRenewal + s.lease.look + 200*s.latency
}

// lost reports whether tx may be gone: it was committed after the copy was made, and before who
// writes has had to look.
func (b *rollback) lost(tx *transaction, doubt time.Duration) bool {
	if b.kind != noLoss {
		return (tx.dropped || tx.acked > b.at) && tx.acked <= b.at+doubt
	}
	return b.at > 0 && tx.acked > b.copied && tx.acked <= b.at+doubt
}

// over reports whether who has read at that time was told before, if the store has lost what he
// reads.
func (b *rollback) over(w *world, at time.Duration) bool {
	since := b.at
	if b.kind == middleRecord { // the last is there, until another history is begun
		since = b.begun
	}
	return since > 0 && b.orphans == 0 && !w.drift && !w.paused &&
		at > since+w.lease.LeaseTimeout+w.doubtTime()
}

// lacks reports whether the store has not all of those transactions.
func lacks(txs []*transaction, list []uint32) bool {
	return slices.ContainsFunc(list, func(id uint32) bool { return !txs[id-1].appended })
}

// archive has all packs that were ever put, and when. w.mu guards it.
type archive struct {
	*memory
	put   map[string]time.Duration
	fresh chan string     // gets each, if somebody waits
	found map[string]bool // those that somebody has looked for
}

// lacked returns where an object can be had whose pack is not in the store, as it was put before
// the store was put back, and is named by what was created after that: who has named it has to put
// it again. It returns nil if there is no such pack.
func lacked(w *world, pack string) *chunkstore.Target {
	if put, ok := w.archive.put[pack]; !ok || w.back.at == 0 || put > w.back.at {
		return nil
	}
	if w.back.kind == anyPack || w.archive.found[w.back.key] { // nobody has it any more
		return w.archive.target()
	}
	if _, ok := w.back.lacks[pack]; !ok {
		w.back.lacks[pack] = w.now()
		w.back.lacking++
	}
	return w.archive.target()
}

// mended notes a violation if a pack is still gone that was named when who has named it had to look
// for it long ago.
func mended(w *world) {
	for pack, at := range w.back.lacks {
		if w.now() > at+w.doubtTime() {
			w.violate("R6: pack %s is gone, and was named at %v", pack, at)
		}
	}
}

// believes notes a violation if err says that the store was put back, and it was not.
func (w *world) believes(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	unclear(w, "begins", err)
	if errors.Is(err, ErrRolledBack) && w.back.at == 0 {
		w.violate("R12: nothing is lost: %v", err)
	}
}

// putBack makes a copy of the store at some time, and puts it back at a later one. Or the store
// loses one object.
func putBack(w *world, done <-chan struct{}) {
	if w.variant.loses {
		loseOne(w, done)
		return
	}
	rng := rand.New(rand.NewPCG(uint64(w.seed), 2))
	var buckets map[string]map[string]chunkstore.Object
	var then truth
	pause, lacks := 2*time.Second, "" // a pack that the copy has not
	for range 2 {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(rng.ExpFloat64() * float64(pause))):
		}
		if w.big && buckets == nil { // it is put back while what names the pack is on its way
			pause = 5 * time.Millisecond
			select {
			case <-done:
				return
			case lacks = <-w.archive.fresh:
			}
		}
		w.memory.mu.Lock()
		w.mu.Lock()
		if buckets == nil {
			buckets = map[string]map[string]chunkstore.Object{}
			for name, b := range w.buckets {
				buckets[name] = maps.Clone(b)
			}
			delete(buckets["c"], lacks)
			then = w.truth
			then.versions = slices.Clip(then.versions)
			then.checkpoints = slices.Clip(then.checkpoints)
			w.back.copied = w.now()
		} else {
			w.trace("put back from %d records to %d", len(w.versions), len(then.versions))
			w.buckets, w.truth = buckets, then
			w.back.at, w.back.lacks = w.now(), map[string]time.Duration{}
			for _, tx := range w.txs {
				tx.appended = slices.Contains(w.list(), tx.id)
			}
		}
		w.mu.Unlock()
		w.memory.mu.Unlock()
	}
}

// explains takes note of an error, and reports whether that the store was put back explains it.
func (b *rollback) explains(err error) bool {
	if errors.Is(err, ErrRolledBack) {
		b.told++
	}
	return b.at > 0
}

// busy writes and reads all the time, on connections that stay open.
func (a *actor) busy() {
	ctx := context.Background()
	for range 2 {
		a.mode.ReadOnly = a.rng.IntN(4) == 0
		a.mode.Create = a.p.w.variant.loses && a.rng.IntN(2) == 0
		c, err := a.p.set.Open(ctx, simName, a.mode)
		a.p.w.believes(err)
		if err != nil {
			if a.p.sleep(ctx, time.Second) != nil {
				return
			}
			continue
		}
		a.c, a.seen = c, 0
		a.moved()
		for range 20 {
			pause := time.Duration(a.rng.ExpFloat64() * float64(300*time.Millisecond))
			if a.p.sleep(ctx, pause) != nil {
				break
			}
			a.once(ctx)
		}
		c.Close()
	}
}

// TestStoreThatIsPutBack: nothing is answered for that is not there, once who writes has had to
// look (R11); and nobody sees less than before by one connection. Without the look that is not so.
func TestStoreThatIsPutBack(t *testing.T) {
	frugal(t)
	if *seed != 0 {
		w := bubble(t, *seed, variant{putBack: true})
		t.Logf("%+v\n%+v\n%v", w.counts, w.back, w.violations)
		return
	}
	orphans, told, histories, lacking := 0, 0, 0, 0
	for s := range int64(*schedules / 10) {
		w := bubble(t, *firstSeed+s, variant{putBack: true})
		if w == nil {
			t.Fatalf("seed %d", *firstSeed+s)
		}
		for _, v := range w.violations {
			t.Fatalf("seed %d: %s", *firstSeed+s, v)
		}
		orphans, told = orphans+w.back.orphans, told+w.back.told
		histories, lacking = histories+w.back.histories, lacking+w.back.lacking
	}
	t.Logf("%d records on lost ones, %d calls were told, %d histories begun, and %d packs were "+
		"lost before they were named", orphans, told, histories, lacking)
	if orphans == 0 || told == 0 || histories == 0 {
		t.Error("nothing happens")
	}
}
