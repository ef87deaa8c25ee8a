package courier

import (
	"context"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/backoff"
	"verneuil/replicate/mirror"
)

// When a target is repacked, and what that may cost.
const (
	// repackTurned chunks, and one of repackShare that the database has, must have got another
	// place: for each of them some entries of the tree are looked at, and for 64 or more of them,
	// which is at least one pack that was put, two leaves are fetched at most.
	repackTurned = 512
	repackShare  = 8
	// repackCost chunks must have got another place for each that is moved.
	repackCost = 8
	// repackBatch is how many are moved at a time, in four packs.
	repackBatch = 4 * chunkstore.PackMax
	// repackAtEnd bounds the databases for which a process that ends waits: those of one fetch of
	// leaves, 2 GiB.
	repackAtEnd = 64 * 512
)

// repack puts what is alive of packs that are mostly dead into new ones, so that nothing names the
// old ones. What was put is told to the target with the next version, or else the last one again.
type repack struct {
	of    *Courier
	under any                        // the census or moving under way; nil: none is
	moves []move                     // what the last census has found, and is not begun
	renew map[chunkstore.Digest]bool // packs whose leaves and nodes the next checkpoint puts anew

	retry time.Time
	pause backoff.Backoff
}

// ready reports whether something can be begun.
func (b *repack) ready() bool {
	c := b.of
	s := &c.stock
	return b.under == nil && c.state == Idle && s.version != nil && len(s.lost) == 0 &&
		s.writer != nil && s.writer.State() == history.Owning && c.office.cutter.Last() != nil &&
		!c.office.now().Before(b.retry)
}

// due reports whether a census is.
func (b *repack) due() bool {
	return b.ready() && len(b.moves) == 0 && b.renew == nil &&
		b.of.ack.Turned >= max(b.of.office.o.Uploads.repackAfter(),
			b.of.stock.tree.Len()/repackShare)
}

// unfinished reports whether who ends a process has to wait for what was begun: else nobody would
// ever repack a database that is only written by processes that come and go.
func (b *repack) unfinished() bool {
	c := b.of
	return c.trouble.err == nil && c.stock.tree.Len() <= repackAtEnd &&
		(b.under != nil || b.ready() && len(b.moves) > 0 || len(c.stock.moved) > 0)
}

// goOn begins to move what a census has found, and with a checkpoint, a census if one is due.
func (b *repack) goOn(checkpoint bool) {
	switch {
	case len(b.moves) > 0 && b.ready():
		b.move()
	case checkpoint && b.due():
		b.count()
	}
}

// forget gives up all that is known of a target that turns out to be another.
func (b *repack) forget() { b.under, b.moves, b.renew = nil, nil, nil }

// count begins a census.
func (b *repack) count() {
	c := b.of
	v := &census{
		t: c.Target, tree: c.stock.tree.Clone(), uploads: c.uploads(),
		turned: c.ack.Turned, most: c.ack.Turned / repackCost,
	}
	b.under = v
	c.office.o.Errands.Go(v.run, func(err error) {
		if !b.ended(v, v.uploads, v.unread, err) {
			return
		}
		c.ack.Turned -= v.turned
		b.moves = v.moves
		if len(v.renew) > 0 {
			b.renew = v.renew
		}
		if len(v.moves)+len(v.renew) > 0 {
			c.log().Info("packs are mostly dead", "target", c.Name, "chunks", len(v.moves),
				"packs_of_leaves", len(v.renew))
		}
	})
}

// ended takes note that v is not under way any more. ok says that it has a result that counts.
func (b *repack) ended(v any, u *uploads, unread bool, err error) (ok bool) {
	c := b.of
	c.shelf.calls.Add(u.calls.Swap(0))
	u.count(c.office.o.Sent, 0)
	if b.under != v {
		return false // the target is another
	}
	b.under = nil
	switch {
	case err == nil:
		b.pause.Reset()
		return true
	case c.office.o.Errands.Ending():
	default:
		wait := b.pause.Next()
		b.retry = c.office.now().Add(wait)
		c.log().Info("repacking failed", "target", c.Name, "error", err, "retry_in", wait)
		if unread && chunkstore.IsFault(err) {
			c.belief.suspect(unreadTree + err.Error())
		}
	}
	return false
}

// moving puts some chunks into new packs. It shares nothing that changes, but the view.
type moving struct {
	t       *chunkstore.Target
	tree    *manifest.Tree
	moves   []move
	view    *mirror.View
	uploads *uploads
	begun   time.Time
	unread  bool

	durable map[chunkstore.ID]chunkstore.Place // where they stand now, too
}

// move begins to move the next chunks.
func (b *repack) move() {
	c := b.of
	n := min(len(b.moves), repackBatch)
	v := &moving{t: c.Target, tree: c.stock.tree.Clone(), uploads: c.uploads(),
		begun: c.office.now()}
	last, mirrored := c.office.cutter.Last().Tree, c.office.o.Tracker.Mirror().Chunks()
	var chunks []int
	for _, m := range b.moves[:n] {
		// The others have another object, or will have.
		if m.index < mirrored && c.stock.keeps(m.index, m.ref.ID, last) {
			v.moves, chunks = append(v.moves, m), append(chunks, m.index)
		}
	}
	b.moves = b.moves[n:]
	v.view = c.office.o.Tracker.Mirror().View(chunks)
	b.under = v
	c.office.o.Errands.Go(func(ctx context.Context) error {
		defer v.view.Close()
		return v.run(chunkstore.Patient(ctx))
	}, func(err error) {
		if b.ended(v, v.uploads, v.unread, err) {
			b.moved(v)
		}
	})
}

// keeps reports whether chunk i of the last version, whose tree is last, has the object id, and no
// push brings another one, or has to bring it.
func (s *stock) keeps(i int, id chunkstore.ID, last *manifest.Tree) bool {
	_, missing := s.missing[i]
	_, moved := s.moved[i]
	return !missing && !moved && i < min(s.least, s.tree.Len(), last.Len()) && last.At(i).ID == id
}

// move notes that an object stands in another place, too, where the tree has ref for chunk i, and
// keeps it. It reports whether the next version has to say so.
func (s *stock) move(i int, ref chunkstore.Ref, to chunkstore.Place, last *manifest.Tree) bool {
	if !s.keeps(i, ref.ID, last) {
		return false
	}
	if has, known := s.tree.Peek(i); !known || has != ref {
		return false
	}
	s.moved[i] = chunkstore.Ref{ID: ref.ID, Place: to}
	return true
}

// moved takes the result of moving.
func (b *repack) moved(v *moving) {
	c := b.of
	last, n := c.office.cutter.Last().Tree, 0
	c.stock.add(v.durable, v.begun)
	for _, m := range v.moves {
		place, ok := v.durable[m.ref.ID]
		if ok && c.stock.move(m.index, m.ref, place, last) {
			n++
		}
	}
	c.ack.Turned -= n // the push that says so adds as many
	c.log().Info("repacked", "target", c.Name, "chunks", n, "left", len(b.moves))
}

// run puts them, those of a pack together, and makes that durable (I1).
func (v *moving) run(ctx context.Context) error {
	if err := v.look(ctx); err != nil {
		return wrap(err, "repack")
	}
	packs := v.uploads.packing(ctx)
	for some := range slices.Chunk(v.distinct(), v.uploads.how.PackObjects) {
		packs.Add(chunkstore.Parcel{
			Fill: func(pack *chunkstore.Pack) ([]chunkstore.ID, error) {
				return v.fill(ctx, pack, some)
			},
			Placed: func([]chunkstore.Place) {},
		})
	}
	err := packs.Wait()
	var finishErr error
	if v.durable, finishErr = v.uploads.finish(); err == nil {
		err = finishErr
	}
	return wrap(err, "repack")
}

// look leaves only those that the tree has where the census has seen them. Their leaves are loaded
// then, also for the stock's tree.
func (v *moving) look(ctx context.Context) error {
	chunks := make([]int, len(v.moves))
	for k, m := range v.moves {
		chunks[k] = m.index
	}
	refs, err := v.tree.LookupAll(ctx, chunks, v.uploads.fetching(&v.unread))
	if err != nil {
		return err
	}
	var moves []move
	for k, m := range v.moves {
		if refs[k] == m.ref {
			moves = append(moves, m)
		}
	}
	v.moves = moves
	return nil
}

// distinct returns one chunk of each object.
func (v *moving) distinct() (moves []move) {
	seen := make(map[chunkstore.ID]bool, len(v.moves))
	for _, m := range v.moves {
		if !seen[m.ref.ID] {
			seen[m.ref.ID] = true
			moves = append(moves, m)
		}
	}
	return moves
}

// fill seals chunks into a pack: as the mirror has them, or where inline pages make the difference,
// as the target does.
func (v *moving) fill(
	ctx context.Context, pack *chunkstore.Pack, some []move,
) (ids []chunkstore.ID, err error) {
	buf := chunkBuffers.Get().(*[chunkstore.ChunkBytes]byte)
	defer chunkBuffers.Put(buf)
	var unlike []chunkstore.Ref
	for _, m := range some {
		err := chunkstore.InTurn(func() error {
			b, err := v.view.Chunk(m.index, buf[:])
			if err == nil {
				err = pack.SealChecked(v.t.Sealer, m.ref.ID, b)
			}
			return err
		})
		if v.view.Done(m.index); err != nil {
			unlike = append(unlike, m.ref)
			continue
		}
		ids = append(ids, m.ref.ID)
	}
	if len(unlike) == 0 {
		return ids, nil
	}
	v.uploads.calls.Add(int64(len(unlike))) // at most
	plain, err := v.t.GetObjects(ctx, unlike)
	if err != nil {
		return nil, err
	}
	for k, b := range plain {
		err := chunkstore.InTurn(func() error {
			return pack.SealChecked(v.t.Sealer, unlike[k].ID, b)
		})
		if err != nil {
			return nil, err
		}
		ids = append(ids, unlike[k].ID)
	}
	return ids, nil
}

// turned returns how many chunks have another place by p than they had before, or none.
func (p *push) turned() (n int) {
	if p.base == nil {
		return 0
	}
	had := p.base.Chunks()
	kept := min(had, p.change.least)
	for _, patch := range p.change.patches {
		if patch.Index < kept {
			n++
		}
	}
	return n + had - kept
}
