package remote

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

// loss is what a world's store loses by itself.
type lossKind int

const (
	noLoss         lossKind = iota
	middleRecord            // one that a reader needs, and others after it stay
	lastRecord              //
	anyPack                 // of the newest version
	freshPack               // as soon as it was put
	newestManifest          // the newest checkpoint
	lossKinds
)

func (k lossKind) String() string {
	return [...]string{"nothing", "a record in the middle", "the last record", "a pack",
		"a pack that was just put", "the checkpoint"}[k]
}

// moment is what was there with a record.
type moment struct {
	newest *manifest.Manifest
	owner  [16]byte
}

// loseOne has the store lose one object at some time.
func loseOne(w *world, done <-chan struct{}) {
	rng := rand.New(rand.NewPCG(uint64(w.seed), 2))
	kind := lossKind(1 + rng.IntN(int(lossKinds-1)))
	wait := time.Duration(rng.ExpFloat64() * float64(4*time.Second))
	var fresh string
	for tries := 0; ; tries++ {
		select {
		case <-done:
			return
		case <-time.After(wait):
		}
		if kind == freshPack {
			select {
			case <-done:
				return
			case fresh = <-w.archive.fresh:
			}
			// It may be named by now, or not.
			<-time.After(time.Duration(rng.ExpFloat64() * float64(2*w.latency)))
		}
		w.memory.mu.Lock()
		w.mu.Lock()
		lost := loseNow(w, rng, kind, fresh)
		w.mu.Unlock()
		w.memory.mu.Unlock()
		if lost {
			return
		}
		wait = 100 * time.Millisecond
	}
}

// loseNow reports whether there was such an object. It is called with memory.mu and mu.
func loseNow(w *world, rng *rand.Rand, kind lossKind, fresh string) bool {
	bucket, key := "c", fresh
	record := uint64(0)
	head := uint64(len(w.versions) - 1)
	switch kind {
	case middleRecord:
		first := max(1, w.puts)
		if head <= first {
			return false
		}
		record = first + rng.Uint64N(head-first)
	case lastRecord:
		if record = head; head == 0 {
			return false
		}
	case anyPack:
		packs := packsOf(w.newest)
		if len(packs) == 0 {
			return false
		}
		key = packs[rng.IntN(len(packs))]
	case newestManifest:
		bucket, key = "m", manifest.PlainName("", simPath)
	}
	if record > 0 {
		key = fmt.Sprintf("log-%x-%016x", w.lineage, record)
	}
	if _, ok := w.buckets[bucket][key]; !ok {
		return false
	}
	delete(w.buckets[bucket], key)
	w.trace("lost: %v, %s, of %d", kind, key, head)
	w.back.kind, w.back.at, w.back.key = kind, w.now(), key
	w.back.lacks = map[string]time.Duration{}
	if record > w.puts {
		m := w.past[record-1]
		w.versions = slices.Clip(w.versions[:record])
		w.past = slices.Clip(w.past[:record])
		w.newest, w.owner = m.newest, m.owner
	}
	for _, tx := range w.txs {
		had := tx.appended
		tx.appended = slices.Contains(w.list(), tx.id)
		tx.dropped = had && !tx.appended
	}
	return true
}

// packsOf returns the packs that the top of a version names.
func packsOf(m *manifest.Manifest) (packs []string) {
	for _, ref := range m.Top {
		packs = append(packs, ref.Place.Pack.String())
	}
	for _, p := range m.Patches {
		packs = append(packs, p.Place.Pack.String())
	}
	slices.Sort(packs)
	return slices.Compact(packs)
}

// unclear notes a violation if an error does not say what is lost. mu is held.
func unclear(w *world, what string, err error) {
	if !w.variant.loses || err == nil || w.back.at == 0 {
		return
	}
	for _, known := range []error{ErrRolledBack, ErrBusy, ErrStale, ErrLost, ErrUnknown, errDead} {
		if errors.Is(err, known) {
			return
		}
	}
	if w.back.names(err) {
		w.back.named++
		return
	}
	w.violate("%v is lost, and who %s is told: %v", w.back.kind, what, err)
}

// TestStoreThatLosesOne: of a store that loses a single object nobody reads what never was, what is
// lost is said to be, by its name, and nothing takes its place.
func TestStoreThatLosesOne(t *testing.T) {
	frugal(t)
	v := variant{putBack: true, loses: true}
	if *seed != 0 {
		w := bubble(t, *seed, v)
		t.Logf("%+v\n%+v\n%v", w.counts, w.back, w.violations)
		return
	}
	var kinds [lossKinds]int
	told, named, histories, ruined := 0, 0, 0, 0
	for s := range int64(max(30, *schedules/10)) {
		w := bubble(t, *firstSeed+s, v)
		if w == nil {
			t.Fatalf("seed %d", *firstSeed+s)
		}
		for _, v := range w.violations {
			t.Errorf("seed %d: %v: %s", *firstSeed+s, w.back.kind, v)
			break
		}
		kinds[w.back.kind]++
		told, named = told+w.back.told, named+w.back.named
		histories += w.back.histories
		if w.back.ruined {
			ruined++
		}
	}
	t.Logf("%v: %d calls were told, %d of them the pack; %d histories begun, %d ruined", kinds,
		told, named, histories, ruined)
	if told == 0 || named == 0 || histories == 0 {
		t.Error("nothing happens")
	}
}

// names reports whether err says what the store has lost, and nobody can mend.
func (b *rollback) names(err error) bool {
	switch {
	case err == nil:
	case b.kind == anyPack, b.kind == freshPack:
		return strings.Contains(err.Error(), b.key)
	case b.kind == newestManifest:
		return errors.Is(err, chunkstore.ErrAbsent) || errors.Is(err, versions.ErrManifestLost)
	}
	return false
}
