package deposit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/versions"
	"verneuil/spool/sqlitefile"
)

// What [Put] answers; test with errors.Is.
var (
	// ErrExists: there is a database of that path.
	ErrExists = errors.New("there is a database of that path")
	// ErrHeld: somebody holds the database that is to be replaced. The message says who, if that
	// is known.
	ErrHeld = errors.New("somebody holds it")
)

// Options of [Put]. Target, Path and Owner are needed.
type Options struct {
	Target *chunkstore.Target
	Path   string         // of the database in the store; it begins with a slash
	Owner  manifest.Owner // who puts it

	Replace     bool                    // a database that is there
	Concurrency int                     // packs that are put at once; 0: 8
	Progress    func(done, total int64) // bytes that were read; nil: nobody is told
	// Found is told how many packs of the copy are there already, as another one was interrupted:
	// they are not put again. Several goroutines call it. nil: nobody is told.
	Found func(packs int64)
}

// Source is a database's file, which does not change.
type Source interface {
	io.ReaderAt
	Size() (int64, error)
}

// Empty is the source of an empty database.
type Empty struct{}

// ReadAt finds nothing.
func (Empty) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

// Size is 0.
func (Empty) Size() (int64, error) { return 0, nil }

// Put puts the database src into a store. It is durable on return, and whole or not there at all
// (D1), unless the error says that it is there, and may lack packs (D4). It returns its first
// version, or, if it replaces one, the next. It fails with ErrExists, ErrHeld,
// [versions.ErrManifestLost], [chunkstore.ErrUnguarded] if databases cannot live there, and as
// requests do.
func Put(ctx context.Context, o Options, src Source) (*manifest.Manifest, error) {
	d := &deposit{o: o, key: manifest.Name(o.Target.Sealer, "", o.Path)}
	m, err := d.run(ctx, src)
	if errors.Is(err, chunkstore.ErrDenied) {
		err = fmt.Errorf("%w (the credentials must allow to get, to list and to put)", err)
	}
	return m, err
}

// copyMax is how long a copy may take. Packs that nothing names are collected after two days
// (package upkeep), and this process may have slept.
const copyMax = 24 * time.Hour

// foundMax is how old a pack may be that is not put again: with copyMax it makes less than two
// days, as the store's clock may be another.
const foundMax = 12 * time.Hour

// deposit is one on its way.
type deposit struct {
	o        Options
	key      string // of the manifest
	composer *compose.Composer
	chunks   chunkstore.Identity // of the bucket
	found    atomic.Int64        // packs
}

func (d *deposit) run(ctx context.Context, src Source) (*manifest.Manifest, error) {
	t := d.o.Target
	ids, err := t.Prove(ctx)
	if err == nil {
		err = t.ProveCreates(ctx)
	}
	if err != nil {
		return nil, err
	}
	d.chunks = ids.Chunks
	d.composer = d.composerOf(d.has())
	place := d.begin // the copy in the store
	f, err := versions.OpenNewest(ctx, t, d.key)
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		err = d.vacant(ctx)
	case err == nil && !d.o.Replace:
		err = ErrExists
	case err == nil:
		err = d.free(ctx, f.Newest().At)
		place = func(ctx context.Context, m *manifest.Manifest) (*manifest.Manifest, error) {
			return d.replace(ctx, f, m)
		}
	}
	if err != nil {
		return nil, err
	}
	m, packs, err := d.copy(ctx, src)
	if err != nil {
		return nil, err
	}
	if m, err = place(ctx, m); err != nil {
		return m, err
	}
	return m, d.mend(ctx, src, packs)
}

// composerOf returns what puts the packs that has does not say are there.
func (d *deposit) composerOf(
	has func(context.Context, chunkstore.Digest) bool,
) *compose.Composer {
	return compose.New(compose.Options{Target: d.o.Target, Program: d.o.Owner.Program,
		Concurrency: d.o.Concurrency, Has: has})
}

// has returns what says whether a pack is there, of a copy that was interrupted on this day: a
// pack's name is what it holds, and the day. It is nil where a pack that is seen may not be durable
// yet.
func (d *deposit) has() func(context.Context, chunkstore.Digest) bool {
	if _, ok := d.o.Target.Chunks.(chunkstore.Batcher); ok {
		return nil
	}
	return func(ctx context.Context, pack chunkstore.Digest) bool {
		o, err := d.o.Target.Chunks.Stat(ctx, pack.String())
		age := time.Since(o.Modified)
		if err != nil || o.Modified.IsZero() || age > foundMax || age < -foundMax {
			return false
		}
		if n := d.found.Add(1); d.o.Found != nil {
			d.o.Found(n)
		}
		return true
	}
}

// copy puts what src has, and returns the version of it that comes after that of an empty database,
// with a tree of its own, and the packs that it has put or found; the latter, if src is empty.
func (d *deposit) copy(
	ctx context.Context, src Source,
) (*manifest.Manifest, []compose.Put, error) {
	empty := compose.First(d.o.Path, d.o.Owner.Program, d.chunks)
	size, err := src.Size()
	if err != nil {
		return nil, nil, err
	}
	ch := compose.Change{Bytes: size}
	ch.Offsets = make([]int64, (size+compose.BlockBytes-1)/compose.BlockBytes)
	for k := range ch.Offsets {
		ch.Offsets[k] = int64(k) * compose.BlockBytes
	}
	var done int64
	ch.Read = func(k int, block []byte) error {
		n, err := src.ReadAt(block[:min(compose.BlockBytes, size-ch.Offsets[k])], ch.Offsets[k])
		if err != nil && !(err == io.EOF && ch.Offsets[k]+int64(n) == size) {
			return err
		}
		clear(block[n:])
		if end := ch.Offsets[k] + int64(n); d.o.Progress != nil && end > done {
			done = end
			d.o.Progress(done, size)
		}
		return nil
	}
	clock := versions.Options().Now
	began := clock()
	draft, err := d.composer.Compose(ctx, empty, ch, zeros{})
	if err != nil || draft == nil {
		return empty, nil, err
	}
	m, packs := draft.Version, draft.Packs
	if !draft.Whole {
		var more []compose.Put
		m, more, err = d.composer.Checkpoint(ctx, m)
		packs = append(packs, more...)
	}
	if err == nil && clock()-began > copyMax {
		err = fmt.Errorf("the copy took more than %v, so that its beginning may have been "+
			"collected: try again", copyMax)
	}
	return m, packs, err
}

// mend looks for the packs of the copy, which is there, and puts those again that the store has
// lost since (D4).
func (d *deposit) mend(ctx context.Context, src Source, packs []compose.Put) error {
	gone, err := d.gone(ctx, packs)
	if err == nil && len(gone) > 0 {
		d.composer = d.composerOf(func(_ context.Context, pack chunkstore.Digest) bool {
			return !gone[pack]
		})
		if _, packs, err = d.copy(ctx, src); err == nil {
			gone, err = d.gone(ctx, packs)
		}
	}
	for pack := range gone {
		if err == nil {
			err = fmt.Errorf("the store has lost %d packs of it, such as %v: import it again, "+
				"with --replace", len(gone), pack)
		}
	}
	if err != nil {
		return fmt.Errorf("it is there, but it may lack packs, as verneuilctl verify tells: %w",
			err)
	}
	return nil
}

// gone returns which of those packs are not there.
func (d *deposit) gone(
	ctx context.Context, packs []compose.Put,
) (map[chunkstore.Digest]bool, error) {
	gone := make(map[chunkstore.Digest]bool)
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(d.o.Concurrency, 8))
	for _, p := range packs {
		group.Go(func() error {
			_, err := d.o.Target.Chunks.Stat(ctx, p.Name.String())
			if !errors.Is(err, chunkstore.ErrAbsent) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			gone[p.Name] = true
			return nil
		})
	}
	return gone, group.Wait()
}

// zeros is what an empty database has.
type zeros struct{}

func (zeros) ReadBase(_ context.Context, p []byte, _ int64) error { clear(p); return nil }
func (zeros) Cached(int64, int) bool                              { return false }

// begin begins the history of m.
func (d *deposit) begin(ctx context.Context, m *manifest.Manifest) (*manifest.Manifest, error) {
	next, t := *m, d.o.Target
	store := versions.NewStore(t, d.key)
	_, err := versions.Begin(ctx, t, d.key, store, versions.Options(), &next, "")
	if err == nil {
		return &next, nil
	}
	if f, openErr := versions.Open(ctx, t, d.key); openErr == nil {
		if f.Newest().At.Lineage == next.At.Lineage {
			return &next, nil // the answer was lost
		}
		return nil, ErrExists
	}
	return nil, err
}

// vacant fails with [versions.ErrManifestLost] if the database was there, and is not to be
// replaced.
func (d *deposit) vacant(ctx context.Context) error {
	if d.o.Replace {
		return nil
	}
	err := versions.Vacant(ctx, d.o.Target, d.key)
	if errors.Is(err, versions.ErrManifestLost) {
		if _, openErr := versions.Open(ctx, d.o.Target, d.key); openErr == nil {
			return ErrExists // another one has made it meanwhile
		}
	}
	return err
}

// free fails if somebody holds the database, whose history goes so far.
func (d *deposit) free(ctx context.Context, at history.Position) error {
	if at.Released {
		return nil
	}
	owner, ok, err := versions.OwnerAt(ctx, d.o.Target, at)
	if err != nil || !ok {
		return ErrHeld
	}
	return fmt.Errorf("%w: %v", ErrHeld, owner)
}

// takeTries bounds how often a history that goes on is taken over.
const takeTries = 10

// replace makes the content of m the next version of the database that f has read.
func (d *deposit) replace(
	ctx context.Context, f *versions.Follower, m *manifest.Manifest,
) (*manifest.Manifest, error) {
	w, base, err := d.take(ctx, f)
	if err != nil {
		return nil, err
	}
	next, err := d.succeed(ctx, base, m)
	if err == nil {
		err = d.append(ctx, w, next)
	}
	// It is given back in any case: else who wants it waits for a holder that is gone.
	back := w.Append(context.WithoutCancel(ctx), nil, true)
	if err == nil && back != nil && !errors.Is(back, history.ErrFenced) {
		err = fmt.Errorf("it was replaced, but not given back: %w", back)
	}
	return next, err
}

// take takes the history over, and returns the writer, and the newest version.
func (d *deposit) take(
	ctx context.Context, f *versions.Follower,
) (*history.Writer, *manifest.Manifest, error) {
	body, err := d.o.Owner.Encode()
	if err != nil {
		return nil, nil, err
	}
	for range takeTries {
		if _, err := f.Next(ctx); err != nil {
			return nil, nil, err
		}
		base := f.Newest()
		if err := d.free(ctx, base.At); err != nil {
			return nil, nil, err
		}
		w := history.NewWriter(f.Clone().Reader())
		switch err := w.Take(ctx, body); {
		case err == nil:
			return w, base, nil
		case !errors.Is(err, history.ErrBehind):
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("%w: it is written to all the time", ErrHeld)
}

// append appends m, and puts it as a checkpoint.
func (d *deposit) append(ctx context.Context, w *history.Writer, m *manifest.Manifest) error {
	t := d.o.Target
	step, err := m.WholeStep().Encode()
	if err == nil {
		err = w.Append(ctx, step, false)
	}
	if err != nil {
		return err
	}
	m.At = w.At()
	body, err := m.Encode(t.Sealer)
	if err == nil {
		err = versions.Keep(ctx, t, d.key, m.At, body)
	}
	if err == nil {
		err = w.Checkpoint(ctx, body)
	}
	return err
}

// succeed returns the version after base that has the content of m (D3).
func (d *deposit) succeed(
	ctx context.Context, base, m *manifest.Manifest,
) (*manifest.Manifest, error) {
	next := *m
	next.Lineage, next.Epoch, next.Sequence = base.Lineage, base.Epoch, base.Sequence+1
	next.Continuity, next.Time = base.Continuity, time.Now()
	if base.FileBytes == 0 || next.FileBytes == 0 {
		return &next, nil
	}
	was, err := headerOf(ctx, d.o.Target, base)
	if err != nil {
		return nil, fmt.Errorf("read the header that is there: %w", err)
	}
	if len(m.Inline) == 0 || m.Inline[0].Offset != 0 ||
		len(m.Inline[0].Data) < sqlitefile.HeaderBytes {
		return nil, errors.New("page 1 is not inline") // package compose says that it is
	}
	page := append([]byte(nil), m.Inline[0].Data...)
	h := (*sqlitefile.Header)(page[:sqlitefile.HeaderBytes])
	h.SetChangeCounter(base.ChangeCounter + 1)
	h.SetSchemaCookie(was.SchemaCookie() + 1)
	next.ChangeCounter = h.ChangeCounter()
	next.Inline = append([]manifest.Page{{Data: page}}, m.Inline[1:]...)
	return &next, nil
}

// headerOf reads the header of a version in t.
func headerOf(
	ctx context.Context, t *chunkstore.Target, m *manifest.Manifest,
) (h sqlitefile.Header, err error) {
	fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		return t.GetObjects(ctx, refs)
	}
	ref, err := m.Tree(t.Sealer).Lookup(ctx, 0, fetch)
	if err != nil {
		return h, err
	}
	chunk, err := t.GetObjects(ctx, []chunkstore.Ref{ref})
	if err != nil {
		return h, err
	}
	copy(h[:], m.Overlay(0, chunk[0]))
	return h, nil
}
