package replicate

import (
	"fmt"
	"os"
	"syscall"
	"time"

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
		Contents: s.mirror, Files: files, Sealer: s.r.o.Store.Sealer(), Audience: s.office,
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

// distribute makes a cut if one is due, and starts what can be started for each
// target.
func (s *session) distribute() error {
	s.office.Contact()
	s.office.TakeHashes()
	if !s.tracker.Current() {
		return nil
	}
	if s.cutter.Last() == nil {
		if !s.office.Adoptable() {
			return nil
		}
		if err := s.tracker.Recheck(); err != nil || !s.tracker.Current() {
			return err
		}
		if err := s.office.Adopt(s.errands.Context()); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
	}
	if s.cutter.Due() {
		now := s.now()
		if s.wanted.IsZero() {
			s.wanted = now
		}
		if !s.office.AnyReady() || now.Before(s.due()) && !s.hurried() {
			return nil
		}
		if err := s.tracker.Recheck(); err != nil || !s.tracker.Current() {
			return err
		}
		made, err := s.cutter.Cut(s.errands.Context())
		if err != nil {
			return fmt.Errorf("cut: %w", err)
		}
		if made {
			s.lastCut = s.slot(now)
			s.st.CutAt.Store(s.lastCut.UnixNano())
		}
		s.wanted = time.Time{}
	}
	s.office.Push(s.mirrorPoint())
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
	if len(s.office.Couriers()) == 0 || s.tracker.Lags() {
		return
	}
	if least := s.office.Least(); least.Covers(s.st.PushedPoint()) {
		s.st.SetPushed(least)
	}
}
