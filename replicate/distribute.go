package replicate

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"syscall"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/cutter"
)

// newCutter returns what makes versions of the mirror.
func (s *session) newCutter() (*cutter.Cutter, error) {
	files, err := cutter.OpenFiles(s.sp, s.r.o.Store.Sealer())
	if err != nil {
		return nil, err
	}
	return cutter.New(cutter.Options{
		Contents: s.mirror, Files: files, Sealer: s.r.o.Store.Sealer(), Audience: s,
		Sign: s.sign, Prove: s.prove, Meanwhile: s.tracker.Apply, Log: s.log(),
		Fault: s.fault,
	}), nil
}

// sign fills in where a version comes from.
func (s *session) sign(m *manifest.Manifest) {
	m.Host, m.Path, m.Program = s.r.o.Host, s.sp.Path(), s.r.o.Program
	m.Continuity, m.Time = s.st.Continuity.Load(), s.now()
	if st, err := os.Stat(s.sp.Path()); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			m.SourceCtime = time.Unix(sys.Ctim.Unix())
		}
	}
}

// Lacks is the cutter's question whether a target that we push to lacks the object of chunk i.
func (s *session) Lacks(i int) bool {
	for _, t := range s.targets {
		if _, ok := t.missing[i]; ok && t.known && t.conflict == nil {
			return true
		}
	}
	return false
}

// Renamed changes every target's backlog with the cutter's tree.
func (s *session) Renamed(i int, id chunkstore.ID) {
	for _, t := range s.targets {
		if id == chunkstore.ZeroID || t.put[id] {
			delete(t.missing, i)
		} else {
			t.missing[i] = id
		}
	}
}

// Shortened forgets what was cut off from the tree.
func (s *session) Shortened(chunks int) {
	for _, t := range s.targets {
		maps.DeleteFunc(t.missing, func(i int, _ chunkstore.ID) bool { return i >= chunks })
	}
}

// adoptable reports whether every target has been asked what it has, or cannot
// be, and at least one has answered.
func (s *session) adoptable() bool {
	answered := false
	for _, t := range s.targets {
		switch {
		case t.known:
			answered = true
		case t.conflict == nil && !t.failed:
			return false
		}
	}
	return answered
}

// adopt gives a spool without a cut its past: the newest version that a target has under our name.
func (s *session) adopt() error {
	var best *target
	for _, t := range s.targets {
		if !t.known || t.found == nil || t.tree == nil {
			continue
		}
		if best == nil || t.found.Head().Supersedes(best.found.Head()) {
			best = t
		}
	}
	var past *cutter.Past
	if best != nil {
		past = &cutter.Past{
			Version: cutter.Version{Manifest: best.found, Encoded: best.raw, Tree: best.tree},
			Object: func(ctx context.Context, id chunkstore.ID) ([]byte, error) {
				best.calls++
				return best.GetChunk(ctx, id)
			},
		}
	}
	if err := s.cutter.Adopt(s.ctx, past); err != nil {
		return err
	}
	encoded := s.cutter.Last().Encoded
	for _, t := range s.targets {
		if !t.known {
			continue
		}
		if t.raw != nil && bytes.Equal(t.raw, encoded) {
			t.holds = encoded
		}
		s.compare(t)
		s.cutter.AddStore(t.ids.Chunks)
	}
	s.saveAcks()
	return nil
}

// distribute makes a cut if one is due, and starts what can be started for each
// target.
func (s *session) distribute() error {
	for _, t := range s.targets {
		if !t.known && s.ready(t) {
			s.contact(t, nil)
		}
	}
	s.takeHashes()
	if !s.tracker.Current() {
		return nil
	}
	if s.cutter.Last() == nil {
		if !s.adoptable() {
			return nil
		}
		if err := s.tracker.Recheck(); err != nil || !s.tracker.Current() {
			return err
		}
		if err := s.adopt(); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
	}
	if s.cutter.Due() {
		now := s.now()
		if s.wanted.IsZero() {
			s.wanted = now
		}
		if !s.anyReady() || now.Before(s.due()) && !s.hurried() {
			return nil
		}
		if err := s.tracker.Recheck(); err != nil || !s.tracker.Current() {
			return err
		}
		made, err := s.cutter.Cut(s.ctx)
		if err != nil {
			return fmt.Errorf("cut: %w", err)
		}
		if made {
			s.lastCut = s.slot(now)
			s.st.CutAt.Store(s.lastCut.UnixNano())
		}
		s.wanted = time.Time{}
	}
	s.lastPoint = s.mirrorPoint()
	for _, t := range s.targets {
		switch {
		case !t.known || t.conflict != nil:
		case !s.behind(t):
			t.point = s.lastPoint
		case s.ready(t):
			s.push(t)
		}
	}
	s.publishPushed()
	return nil
}

// due is when the next cut may be made.
func (s *session) due() time.Time { return s.lastCut.Add(s.r.o.ManifestInterval) }

// pace returns what the next cut keeps its distance from: the last one, which may be
// another process's. After the clock was set back, that is now.
func (s *session) pace() time.Time {
	at := s.st.CutAt.Load()
	if at == 0 {
		return time.Time{}
	}
	now := s.now()
	return now.Add(-max(now.Sub(time.Unix(0, at)), 0))
}

// slot returns what the next cut's interval counts from, after one that began at
// now. If something waited for that one when it was due, it counts from then: what
// hashing, timers and slow pushes cost does not add up to a longer interval.
func (s *session) slot(now time.Time) time.Time {
	due := s.due()
	if late := now.Sub(due); s.wanted.After(due) || late < 0 || late >= s.r.o.ManifestInterval {
		return now
	}
	return due
}

// publishPushed stores what every target has.
func (s *session) publishPushed() {
	if len(s.targets) == 0 || s.tracker.Lags() {
		return
	}
	least := s.targets[0].point
	for _, t := range s.targets[1:] {
		least.generation = min(least.generation, t.point.generation)
		least.sequence = min(least.sequence, t.point.sequence)
	}
	if least.covers(point{s.st.PushedGeneration.Load(), s.st.PushedSequence.Load()}) {
		s.st.PushedSequence.Store(least.sequence)
		s.st.PushedGeneration.Store(least.generation)
	}
}
