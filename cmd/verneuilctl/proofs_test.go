package main

import (
	"log/slog"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/replicate"
	"verneuil/replicate/proof"
)

// TestProofsAreAsked: run asks for a proof when it first sees a database, when that was written to,
// and as often as the user wants; and not again soon where that fails.
func TestProofsAreAsked(t *testing.T) {
	plan := &faultbucket.Plan{}
	store := storetest.Open(t, &dir.Config{Path: t.TempDir()})
	target := plan.Target(store.Targets[0])
	now := time.Now()
	p := &proofs{ctx: t.Context(), store: chunkstore.NewStore(target), now: func() time.Time {
		return now
	}, log: slog.New(slog.DiscardHandler), known: make(map[string]knownProof)}
	database := standing{Status: replicate.Status{
		Database: replicate.Database{Path: "/a.db", Host: "h"}}}
	answered := false
	// step scrapes twice, so long after the last time: want requests, and then to know of at.
	step := func(what string, later time.Duration, requests int, at time.Time) {
		t.Helper()
		now = now.Add(later)
		before := plan.Calls()
		all := []standing{database}
		if due := p.look(all); len(due) > 0 {
			p.ask(due)
		}
		if due := p.look(all); len(due) > 0 {
			t.Errorf("%s: it is due again at once", what)
		}
		if calls := plan.Calls() - before; calls != requests || !all[0].Proven.Equal(at) ||
			all[0].ProofAsked.IsZero() == answered {
			t.Errorf("%s: %d requests, want %d; %v, want %v, asked %v", what, calls, requests,
				all[0].Proven, at, all[0].ProofAsked)
		}
	}
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	prove := func() {
		t.Helper()
		at = at.Add(time.Second)
		if err := proof.Keep(t.Context(), store.Targets[0], manifest.PlainName("h", "/a.db"),
			proof.Proof{Time: at}); err != nil {
			t.Fatal(err)
		}
	}
	plan.At, plan.ForGood = 1, true
	step("the target does not answer", 0, 1, time.Time{})
	step("a moment later", proofRetry-1, 0, time.Time{})
	plan.Heal()
	answered = true
	step("it does", 1, 1, time.Time{})
	prove()
	old := at
	step("idle for a month", 30*24*time.Hour, 0, time.Time{})
	database.Total = 7
	step("it was written to", 1, 1, at)
	prove()
	database.Total = 9
	step("again, a moment later", proofAfter-1, 0, old)
	step("an hour later", 1, 1, at)
	p.every = 24 * time.Hour
	old = at
	prove()
	step("before the interval is over", p.every-1, 0, old)
	step("then", 1, 1, at)
	second := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	p.store = chunkstore.NewStore(target, second)
	step("a second target, without a proof", p.every, 1, time.Time{})
}
