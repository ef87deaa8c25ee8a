package remote

import (
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// trim removes from time to time what upkeep would: the records that a checkpoint has which was put
// twice Grace ago, but for fences that must stay; and in some variants what it must not.
func (w *world) trim(done <-chan struct{}) {
	pause := 5 * time.Minute
	if w.variant.trimsAtOnce || w.variant.collects {
		pause = 5 * time.Second
	}
	for {
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
		w.memory.mu.Lock()
		w.trimLocked()
		w.memory.mu.Unlock()
	}
}

// put is when a checkpoint was put.
type put struct {
	number uint64
	at     time.Duration
}

// trimLocked is called with memory.mu.
func (w *world) trimLocked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.variant.collects {
		w.collect()
	}
	var aged uint64 // records up to there may go
	for _, p := range w.checkpoints {
		if w.now()-p.at >= 2*history.Grace || w.variant.trimsAtOnce {
			aged = p.number
		}
	}
	newest, ok := w.buckets["m"][manifest.PlainName("", simPath)]
	if !ok || aged == 0 {
		return
	}
	m, err := manifest.Decode(chunkstore.Plain{}, newest.Body)
	if err != nil {
		panic(err)
	}
	for n := uint64(1); n < aged; n++ {
		if !slices.Contains(m.At.Fences, n) || w.variant.trimsFences {
			key := fmt.Sprintf("log-%x-%016x", w.lineage, n)
			if _, ok := w.buckets["c"][key]; ok {
				w.counts.Trimmed++
				delete(w.buckets["c"], key)
			}
		}
	}
}

// collect deletes all packs that the newest version does not name, however new they are.
func (w *world) collect() {
	live := map[string]bool{}
	for _, ref := range w.newest.Top {
		live[ref.Place.Pack.String()] = true
	}
	for _, p := range w.newest.Patches {
		live[p.Place.Pack.String()] = true
	}
	for key := range w.buckets["c"] {
		if kindOf(key) == "pack" && !live[key] {
			delete(w.buckets["c"], key)
		}
	}
}
