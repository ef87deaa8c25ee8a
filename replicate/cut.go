package replicate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

const (
	// prehashChunks is how much is hashed at a time before the log is looked at
	// again, and what may be left for the cut itself: 64 MiB, some 50 ms.
	prehashChunks = 1024
	prehashRounds = 8

	sectorBytes = 512
)

// needsCut reports whether the mirror differs from the last cut.
func (s *session) needsCut() bool {
	return s.last == nil || s.mirror.Changed() || s.mirror.Size() != s.last.FileBytes || s.treeAhead || len(s.whole) > 0
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
	if !s.current() {
		return nil
	}
	if s.last == nil && !s.adoptable() {
		return nil
	}
	if s.last == nil {
		if err := s.checkTampered(); err != nil || !s.current() {
			return err
		}
		if err := s.adopt(s.ctx); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
	}
	if s.needsCut() {
		now := s.now()
		if s.wanted.IsZero() {
			s.wanted = now
		}
		if !s.anyReady() || now.Before(s.due()) && !s.hurried() {
			return nil
		}
		if err := s.checkTampered(); err != nil || !s.current() {
			return err
		}
		before := s.last
		if err := s.cut(s.ctx); err != nil {
			return fmt.Errorf("cut: %w", err)
		}
		if s.last != before {
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
	if len(s.targets) == 0 || s.lags() {
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

// cut makes the mirror, as it is, the last cut. Nothing is applied meanwhile but
// by prehash. If nothing differs after all, the last cut stays.
func (s *session) cut(ctx context.Context) error {
	if err := s.prehash(ctx); err != nil {
		return err
	}
	p := s.plan()
	if err := s.hash(ctx, p.whole); err != nil {
		return err
	}
	changed := s.mirror.Size() != s.last.FileBytes || s.treeAhead
	if chunks := s.mirror.Chunks(); chunks != s.tree.Len() {
		s.tree.Resize(chunks)
		s.mirror.TreeHas(chunks)
		s.dropMissing()
	}
	settled := make(map[int]bool)
	for _, i := range p.whole {
		id := s.mirror.Diff(i).Hash
		if s.tree.At(i) == id {
			// as its object; the last cut may have had other pages over that
			changed = changed || !s.asOverlaid(s.last, i)
		} else {
			changed = true
			s.setChunk(i, id)
		}
		settled[i] = true
	}
	if p.first && s.mirror.Diff(0) != nil && s.tree.At(0) != chunkstore.ZeroID {
		s.setChunk(0, chunkstore.ZeroID)
	}
	for _, i := range p.inline {
		changed = changed || s.mirror.Diff(i).Changed
	}
	changed = changed || p.pageOneChanged || s.treeAhead
	if !changed {
		return s.settle(p, settled)
	}
	s.treeAhead = true
	m, encoded, err := s.encode(p)
	if err != nil {
		return err
	}
	if s.died("save") {
		return errDied
	}
	if err := s.prove(); err != nil {
		return err
	}
	if err := s.files.Save(m.Sequence, encoded, s.tree.Objects()); err != nil {
		return err
	}
	if s.died("saved") {
		return errDied
	}
	s.last, s.encoded, s.treeAhead = m, encoded, false
	s.sequence = m.Sequence
	s.noteCarried(p)
	return s.settle(p, settled)
}

// asOverlaid reports whether the inline pages that m has in chunk i are what the mirror has.
func (s *session) asOverlaid(m *manifest.Manifest, i int) bool {
	for _, p := range m.InlineOf(i) {
		b := make([]byte, len(p.Data))
		if _, err := s.mirror.ReadAt(b, p.Offset); err != nil || !bytes.Equal(b, p.Data) {
			return false
		}
	}
	return true
}

// noteCarried notes what a saved cut carries inline.
func (s *session) noteCarried(p *plan) {
	carried := make(map[int]carriage, len(p.inline))
	for _, i := range p.inline {
		c, d := s.carried[i], s.mirror.Diff(i)
		if d.Changed {
			c.changes++
			d.Carried = 0
		} else {
			d.Carried += c.packed
		}
		carried[i] = c
	}
	s.carried = carried
}

// setChunk changes the tree, and every target's backlog with it.
func (s *session) setChunk(i int, id chunkstore.ID) {
	s.treeAhead = true
	s.tree.Set(i, id)
	for _, t := range s.targets {
		if id == chunkstore.ZeroID || t.put[id] {
			delete(t.missing, i)
		} else {
			t.missing[i] = id
		}
	}
}

// dropMissing forgets what was cut off.
func (s *session) dropMissing() {
	for _, t := range s.targets {
		for i := range t.missing {
			if i >= s.tree.Len() {
				delete(t.missing, i)
			}
		}
	}
	for i := range s.whole {
		if i >= s.tree.Len() {
			delete(s.whole, i)
		}
	}
}

// settle notes that the mirror is the last cut, which p describes. whole are the
// chunks that are as their objects.
func (s *session) settle(p *plan, whole map[int]bool) error {
	diffs := s.mirror.Diffs()
	for _, i := range diffs {
		d := s.mirror.Diff(i)
		if i == 0 && p.first {
			d.Whole = false
			d.Set(0, chunkstore.ChunkBytes/sectorBytes) // its object is zeros
		}
		s.mirror.Settle(i, whole[i] || d.Count() == 0)
	}
	clear(s.whole)
	return s.mirror.Cleared(diffs)
}

// hashing bounds, for all databases of the process, the chunks that are hashed at a time.
var hashing = make(chan struct{}, runtime.GOMAXPROCS(0))

// hash computes the IDs of chunks, in parallel, where they are not known.
func (s *session) hash(ctx context.Context, indexes []int) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, i := range indexes {
		d := s.mirror.Diff(i)
		if d.Hashed {
			continue
		}
		if s.mirror.Hole(i) {
			d.Hash, d.Hashed = chunkstore.ZeroID, true
			continue
		}
		if groupCtx.Err() != nil {
			break
		}
		hashing <- struct{}{}
		group.Go(guarded(func() error {
			defer func() { <-hashing }()
			buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
			defer chunkBuffers.Put(buf)
			b, err := s.mirror.Chunk(i, buf[:])
			if err != nil {
				return err
			}
			d.Hash, d.Hashed = hashChunk(b).ID(), true
			return nil
		}))
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkstore.ChunkBytes]byte) }}

// hashChunk hashes what a tree has for a chunk: zeros of any length are a whole chunk of them.
func hashChunk(b []byte) chunkstore.Hashed {
	for _, c := range b {
		if c != 0 {
			return chunkstore.Hash(b)
		}
	}
	return zeroChunk
}

var zeroChunk = chunkstore.Hash(make([]byte, chunkstore.ChunkBytes))

// prehash hashes most of what has to be while the log is applied in between: a
// cut after a base copy must not make the log outgrow its allowance.
func (s *session) prehash(ctx context.Context) error {
	for range prehashRounds {
		var todo []int
		for _, i := range s.plan().whole {
			if !s.mirror.Diff(i).Hashed {
				todo = append(todo, i)
			}
		}
		if len(todo) <= prehashChunks {
			return nil
		}
		for batch := range slices.Chunk(todo, prehashChunks) {
			batch = slices.DeleteFunc(batch, func(i int) bool { return s.mirror.Diff(i) == nil }) // cut off meanwhile
			if err := s.hash(ctx, batch); err != nil {
				return err
			}
			if _, err := s.apply(ctx, s.st.Head()); err != nil {
				return err
			}
			if !s.current() {
				return fmt.Errorf("%w: %v", errAgain, s.st.Cause())
			}
		}
	}
	return nil
}

// encode makes the manifest of the cut that p plans.
func (s *session) encode(p *plan) (*manifest.Manifest, []byte, error) {
	h := headerOf(s.mirror)
	m := &manifest.Manifest{
		Host: s.r.o.Host, Path: s.sp.Path(), Program: s.r.o.Program,
		Lineage: s.lineage, Epoch: s.epoch, Sequence: s.sequence + 1, Continuity: s.st.Continuity.Load(),
		Time: s.now(), FileBytes: s.mirror.Size(), PageBytes: p.pageBytes, ChangeCounter: h.changeCounter(),
	}
	if st, err := os.Stat(s.sp.Path()); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			m.SourceCtime = time.Unix(sys.Ctim.Unix())
		}
	}
	for _, page := range p.pages {
		b := make([]byte, page.bytes)
		if _, err := s.mirror.ReadAt(b, page.off); err != nil {
			return nil, nil, fmt.Errorf("inline page at %d: %w", page.off, err)
		}
		m.Inline = append(m.Inline, manifest.Page{Offset: page.off, Data: b})
	}
	m.Stores = s.stores()
	m.Levels, m.Top, m.Patches = s.tree.Pack(patchesMax)
	encoded, err := m.Encode()
	if err != nil {
		return nil, nil, fmt.Errorf("encode manifest: %w", err)
	}
	return m, encoded, nil
}

// newContinuity names what lies between two base copies. It is not 0.
func newContinuity() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// newLineage names a chain of versions.
func newLineage() (id [16]byte) {
	rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
