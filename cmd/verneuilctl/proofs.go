package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/proof"
)

const (
	// proofAfter is how long what is known of a database that is not idle is not asked again.
	proofAfter = time.Hour
	// proofRetry is how long a target that could not be asked is left alone.
	proofRetry = 10 * time.Minute
)

// knownProof is when a database was last proven to restore, as far as it is known.
type knownProof struct {
	at    time.Time // from the target where that is longest ago; zero: from one of them never
	asked time.Time // when the targets were asked; zero: they were not
	calls int64     // the requests for the database until then
	tried time.Time // when they could not be asked, since
}

// askProof asks each target when the database was last proven to restore from it, and returns the
// time that is longest ago; zero: of one there is no proof. A request for each.
func askProof(ctx context.Context, store *chunkstore.Store, host, path string) (time.Time, error) {
	var oldest time.Time
	for i, t := range store.Targets {
		p, err := proof.Last(ctx, t, manifest.Name(t.Sealer, host, path))
		switch {
		case ctx.Err() != nil:
			return time.Time{}, ctx.Err()
		case err != nil && !errors.Is(err, chunkstore.ErrAbsent):
			return time.Time{}, fmt.Errorf("%s: %w", t.Name, err)
		case i == 0 || p.Time.Before(oldest):
			oldest = p.Time
		}
	}
	return oldest, nil
}

// proofs is what verneuilctl run knows of proofs. A scrape never waits for a target: what is due
// is asked behind it, and the next scrape has it.
//
// A database's targets are asked when it is first seen; again after an hour, if it sent requests
// since; and every so often, if the user wants that. So one that is idle sends none, unless the
// user wants it.
type proofs struct {
	ctx   context.Context
	store *chunkstore.Store
	every time.Duration // 0: an idle database's are asked once
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	known  map[string]knownProof // by path
	asking bool
	told   string // the error that the log has
}

// fill says in all what is known, and has asked what is due.
func (p *proofs) fill(all []standing) {
	if due := p.look(all); len(due) > 0 {
		go p.ask(due)
	}
}

// look says in all what is known, and returns which of them are due, for the caller to ask; none,
// while another one does.
func (p *proofs) look(all []standing) (due []standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range all {
		s, k := &all[i], p.known[all[i].Path]
		s.Proven, s.ProofAsked = k.at, k.asked
		if s.Host != "" && p.due(k, s.Total) {
			due = append(due, *s)
		}
	}
	if len(due) == 0 || p.asking || p.ctx.Err() != nil {
		return nil
	}
	p.asking = true
	return due
}

// due reports whether the targets are to be asked about a database of so many requests.
func (p *proofs) due(k knownProof, calls int64) bool {
	now := p.now()
	switch since := now.Sub(k.asked); {
	case now.Sub(k.tried) < proofRetry:
		return false
	case k.asked.IsZero():
		return true
	default:
		return calls != k.calls && since >= proofAfter || p.every > 0 && since >= p.every
	}
}

// ask asks the targets about databases, one after the other.
func (p *proofs) ask(due []standing) {
	for _, s := range due {
		at, err := askProof(p.ctx, p.store, s.Host, s.Path)
		if p.ctx.Err() != nil {
			break
		}
		p.mu.Lock()
		k := p.known[s.Path]
		if err == nil {
			k, p.told = knownProof{at: at, asked: p.now(), calls: s.Total}, ""
		} else if k.tried = p.now(); p.told != err.Error() {
			p.told = err.Error()
			p.log.Warn("the proof of restore is not known", "database", s.Path, "error", err)
		}
		p.known[s.Path] = k
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.asking = false
	p.mu.Unlock()
}

// fixed is proofs that were asked for once.
type fixed map[string]knownProof

func (f fixed) fill(all []standing) {
	for i := range all {
		all[i].Proven, all[i].ProofAsked = f[all[i].Path].at, f[all[i].Path].asked
	}
}
