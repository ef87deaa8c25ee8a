package replica

import (
	"context"
	"sync"

	"verneuil/chunkstore"
)

// want is a chunk that is to be loaded ahead.
type want struct {
	chunk int
	by    *guesses      // of whom it is a guess; nil: it is none
	then  func() []want // called when it has come, or failed to: what to load then; nil: nothing
}

// prefetch loads chunks from..to in the background, as far as there is room, and
// returns where it stopped.
func (s *snapshot) prefetch(from, to int) int {
	var wants []want
	for i := from; i < to; i++ {
		if s.table.expect(i) {
			wants = append(wants, want{chunk: i})
		}
	}
	n := s.loadAhead(wants)
	for _, w := range wants[n:] {
		s.table.forget(w.chunk) // reads that need it will ask
	}
	if n < len(wants) {
		return wants[n].chunk
	}
	return to
}

// prefetchPages loads the chunks of the first n of pages that are not there, in the
// background, as far as there is room.
func (r *Reader) prefetchPages(pages []uint32, n int) {
	var wants []want
	missing := map[int]bool{}
	for _, page := range pages {
		if len(missing) >= n || page == 0 {
			break
		}
		i := r.s.chunkOf(page)
		if i >= r.s.table.chunks() {
			break
		}
		if e := r.s.table.entry(i); !e.here() && !missing[i] {
			missing[i] = true
			if e&entryComing == 0 {
				wants = append(wants, want{chunk: i, by: &r.guesses})
			}
		}
	}
	r.s.loadAhead(wants)
}

// replace loads in the background what prev had loaded and s has otherwise: it is
// likely to be read again. The bound is what may be under way at a time.
func (s *snapshot) replace(prev *snapshot) {
	var wants []want
	for i := range min(s.table.chunks(), prev.table.chunks()) {
		if k := i / partChunks; s.table.parts[k].Load() == prev.table.parts[k].Load() {
			continue
		}
		if prev.table.here(i) && !s.table.here(i) && len(wants) < comingMax {
			wants = append(wants, want{chunk: i})
		}
	}
	s.loadAhead(wants)
}

// loadAhead loads chunks in the background, which may be expected: the first so many of wants as
// there is room for. It returns how many that are.
func (s *snapshot) loadAhead(wants []want) int {
	for _, w := range wants {
		if w.by != nil {
			w.by.guess(w.chunk)
			s.table.mark(w.chunk)
		}
	}
	n := s.f.all.enterAhead(len(wants))
	for _, w := range wants[n:] {
		if w.by != nil {
			w.by.drop(w.chunk)
		}
	}
	if n > 0 {
		all := s.f.all
		s.retain()
		go func() {
			defer all.leave(n) // last: Close waits until s is given back
			defer s.release()
			ctx, cancel := context.WithTimeout(all.ctx, all.options.Store.Options().Timeout)
			defer cancel()
			var group sync.WaitGroup
			for _, p := range parcels(ctx, s, wants[:n]) {
				group.Go(func() { p.run(ctx) })
			}
			group.Wait()
		}()
	}
	return n
}

// parcel is what is loaded ahead from one pack.
type parcel struct {
	batch
	wants []want // for each of which somebody has entered ahead
}

// parcels returns wants by the packs that they lie in, so that none waits for another pack than its
// own. If that cannot be known, it is one parcel, of which nothing is loaded.
func parcels(ctx context.Context, s *snapshot, wants []want) (all []*parcel) {
	chunks := make([]int, len(wants))
	for k, w := range wants {
		chunks[k] = w.chunk
	}
	t := s.sources.newest()
	refs, err := t.refsAhead(ctx, chunks)
	if err != nil {
		return []*parcel{{batch{s: s}, wants}}
	}
	byPack := map[chunkstore.Digest]*parcel{}
	for k, w := range wants {
		pack := refs[k].Place.Pack
		p := byPack[pack]
		if p == nil {
			p = &parcel{batch: batch{s: s, from: t.from}}
			byPack[pack], all = p, append(all, p)
		}
		p.chunks, p.refs = append(p.chunks, w.chunk), append(p.refs, refs[k])
		p.wants = append(p.wants, w)
	}
	return all
}

// run loads p, and begins to load what is wanted then. What fails is nobody's error: whoever needs
// a chunk will meet it.
func (p *parcel) run(ctx context.Context) {
	defer func() {
		for _, w := range p.wants {
			p.s.table.forget(w.chunk)
			p.s.f.all.makeRoom(1)
		}
	}()
	var err error
	defer recoverTo(&err)
	err = p.load(ctx)
	var next []want
	for _, w := range p.wants {
		if w.then != nil {
			next = append(next, w.then()...)
		}
	}
	p.s.loadAhead(next)
}

// batch is chunks of one version that are loaded together, and their objects.
type batch struct {
	s      *snapshot
	from   *chunkstore.Target // that has the objects; nil: any
	chunks []int
	refs   []chunkstore.Ref
}

// load brings in what is not there. Those chunks that nobody has fetched, or fetches, are fetched
// at once. What comes is put, also where another chunk fails; the error is the first one.
func (b *batch) load(ctx context.Context) error {
	slots := b.s.f.all.slots
	var wanted []int // indexes in b
	var keys []slotKey
	for n, i := range b.chunks {
		if b.s.complete(i) {
			continue
		}
		if err := b.s.table.makePart(i); err != nil {
			return err
		}
		switch {
		case b.refs[n].ID == chunkstore.ZeroID:
			e, err := slots.zeros()
			if err != nil {
				return err
			}
			b.s.put(i, e)
		default:
			wanted, keys = append(wanted, n), append(keys, slotKey(b.refs[n].ID))
		}
	}
	entries, err := slots.acquireAll(ctx, keys, func(missing []int) ([][]byte, error) {
		these := &batch{s: b.s, from: b.from}
		for _, k := range missing {
			these.chunks = append(these.chunks, b.chunks[wanted[k]])
			these.refs = append(these.refs, b.refs[wanted[k]])
		}
		return these.fetch()
	})
	for k, e := range entries {
		if e.here() {
			b.s.put(b.chunks[wanted[k]], e)
		}
	}
	return err
}

// fetch gets the objects of all chunks.
func (b *batch) fetch() ([][]byte, error) {
	s := b.s
	data, err := s.f.fetchObjects(b.from, b.refs)
	for n, plain := range data {
		i := b.chunks[n]
		if len(s.m.InlineOf(i)) > 0 {
			plain = s.m.Overlay(i, plain)
		}
		first := s.pageAt(int64(i) * chunkstore.ChunkBytes)
		s.f.interior.note(plain, s.m.PageBytes, first, s.pages())
	}
	return data, err
}
