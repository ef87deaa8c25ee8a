package chunkstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// GapMax is how many bytes of a pack that nobody wants are fetched rather than to send one more
// request: what a connection brings in a part of a request's latency.
const GapMax = 128 << 10

// GetObject returns the plain bytes of the object that ref names, verified (I1), in a buffer that
// is the caller's to keep and to change. It asks the caches first, by ID, then in, where the ref
// comes from, then the other targets: a pack has the same places wherever it is. in may be nil, or
// none of the store's. It fills the first local cache. A target that fails or is slow does not hold
// up those after it, and is asked last for a while. It fails with ErrAbsent if every target says
// so, with ErrCorrupt if a target has nothing but a damaged object and the others have nothing, or
// if ref does not say where the object stands, and with neither if another target could not be
// asked. [ZeroID] costs no I/O. Callers that want the same object at once share a fetch only by way
// of a local cache.
func (s *Store) GetObject(ctx context.Context, in *Target, ref Ref) ([]byte, error) {
	plain, err := s.GetObjects(ctx, in, []Ref{ref})
	if err != nil {
		return nil, err
	}
	return plain[0], nil
}

// GetObjects is GetObject for several at once: all, in the order of refs, or an error. What it
// wants of a pack it gets by one request, or where more than 128 KiB lie between, by several; it
// sends as many at once as the store's [Options].Concurrency says. If a part is damaged that holds
// several objects, each of them is asked for alone. Objects that are stored as they are may lie in
// one buffer, without overlapping: who keeps one of many keeps all.
func (s *Store) GetObjects(ctx context.Context, in *Target, refs []Ref) ([][]byte, error) {
	f := &fetch{s: s, targets: s.asked(in), refs: refs, plain: make([][]byte, len(refs))}
	wanted, twins := f.distinct()
	for _, c := range s.caches {
		wanted = f.look(c, wanted)
	}
	if err := f.shared(ctx, wanted); err != nil {
		return nil, err
	}
	for _, k := range twins {
		f.plain[k] = bytes.Clone(f.plain[slices.Index(refs, refs[k])])
	}
	return f.plain, nil
}

// OpenPack gets the pack called name, whose list it has verified, and lends its pieces, which it
// has not opened, to use: none of them may be read once that has returned. It asks in first, and
// then the other targets, as [Store.GetObject] does. It neither asks the caches nor fills one. It
// fails as [Target.GetPack] and use do.
func (s *Store) OpenPack(ctx context.Context, in *Target, name Digest,
	use func([]Piece) error) error {
	get := func(ctx context.Context, t *Target) (gotPack, error) {
		var p gotPack
		o, err := t.getPack(ctx, name, func(pieces []Piece) error {
			p.pieces = pieces
			return nil
		})
		p.body = o.Body
		return p, err
	}
	p, _, err := ask(ctx, s, s.asked(in), packBytesMax(s.Sealer()), get)
	if err != nil {
		return err
	}
	defer recycleBody(p.body)
	return use(p.pieces)
}

// gotPack is a pack, and the memory that it lies in.
type gotPack struct {
	pieces []Piece
	body   []byte
}

// Cached reports whether there are caches to ask.
func (s *Store) Cached() bool { return len(s.caches) > 0 }

// asked returns the targets to ask for what a manifest in the target in names.
func (s *Store) asked(in *Target) []*Target {
	if in == nil || len(s.Targets) > 0 && s.Targets[0] == in {
		return s.Targets
	}
	all := append(make([]*Target, 0, 1+len(s.Targets)), in)
	for _, t := range s.Targets {
		if t != in {
			all = append(all, t)
		}
	}
	return all
}

// fetch is one GetObjects under way. Numbers of refs stand for objects.
type fetch struct {
	s       *Store
	targets []*Target
	refs    []Ref
	plain   [][]byte // of refs; each is written by one goroutine
}

// distinct returns the refs to get, and those that are equal to one of them; zeros are done.
func (f *fetch) distinct() (wanted, twins []int) {
	var seen map[Ref]bool
	if len(f.refs) > 1 {
		seen = make(map[Ref]bool, len(f.refs))
	}
	wanted = make([]int, 0, len(f.refs))
	for k, ref := range f.refs {
		switch {
		case ref.ID == ZeroID:
			f.plain[k] = make([]byte, ChunkBytes)
		case seen[ref]:
			twins = append(twins, k)
		default:
			wanted = append(wanted, k)
			if seen != nil {
				seen[ref] = true
			}
		}
	}
	return wanted, twins
}

// look takes from c what it has of wanted, and returns the others.
func (f *fetch) look(c Cache, wanted []int) (others []int) {
	for _, k := range wanted {
		if plain, ok := c.Get(f.refs[k].ID); ok {
			f.plain[k] = plain
		} else {
			others = append(others, k)
		}
	}
	return others
}

// shared gets wanted, which the caches have not: what another process is fetching it waits for,
// but only when it has all else (I7).
func (f *fetch) shared(ctx context.Context, wanted []int) error {
	filled := f.s.filled()
	if filled == nil {
		return f.all(ctx, wanted)
	}
	for began := time.Now(); len(wanted) > 0; {
		ids := make([]ID, len(wanted))
		for i, k := range wanted {
			ids[i] = f.refs[k].ID
		}
		busy, release := filled.Claim(ctx, ids, f.s.options.SlowAfter-time.Since(began))
		var mine, others []int
		for _, k := range wanted {
			if slices.Contains(busy, f.refs[k].ID) {
				others = append(others, k)
			} else {
				mine = append(mine, k)
			}
		}
		err := ctx.Err()
		if mine = f.look(filled, mine); err == nil {
			err = f.all(ctx, mine)
		}
		if release(); err != nil {
			return err
		}
		wanted = others
	}
	return nil
}

// run is a part of a pack, and the objects that are wanted of it, in their order.
type run struct {
	pack     Digest
	off, end int64
	refs     []int
}

// all gets wanted from the targets.
func (f *fetch) all(ctx context.Context, wanted []int) error {
	runs, err := f.runs(wanted)
	if err != nil {
		return err
	}
	if len(runs) == 1 {
		return f.run(ctx, runs[0])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.s.options.Concurrency)
	for _, r := range runs {
		group.Go(func() (err error) {
			defer recovered(&err)
			if err = ctx.Err(); err == nil {
				err = f.run(ctx, r)
			}
			return err
		})
	}
	return group.Wait()
}

// runs sorts wanted by their places, which it changes, and cuts them into runs.
func (f *fetch) runs(wanted []int) (runs []run, err error) {
	bytesMax := packBytesMax(f.s.Sealer())
	for _, k := range wanted {
		p := f.refs[k].Place
		if p.Bytes == 0 || p.Offset == 0 || p.End() > bytesMax {
			return nil, fmt.Errorf("get object %v: %w: a place of %d bytes from %d in pack %v",
				f.refs[k].ID, ErrCorrupt, p.Bytes, p.Offset, p.Pack)
		}
	}
	slices.SortFunc(wanted, func(i, j int) int {
		a, b := f.refs[i].Place, f.refs[j].Place
		return cmp.Or(bytes.Compare(a.Pack[:], b.Pack[:]), cmp.Compare(a.Offset, b.Offset))
	})
	for _, k := range wanted {
		p := f.refs[k].Place
		off, end := int64(p.Offset), p.End()
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if gap := off - last.end; last.pack == p.Pack && 0 <= gap && gap <= GapMax {
				last.end, last.refs = end, append(last.refs, k)
				continue
			}
		}
		runs = append(runs, run{p.Pack, off, end, []int{k}})
	}
	return runs, nil
}

// run gets r from the first target that has all of it; if none has, but perhaps one has one object
// of it, and another one another, each by itself.
func (f *fetch) run(ctx context.Context, r run) error {
	open := func(ctx context.Context, t *Target) ([][]byte, error) { return f.open(ctx, t, r) }
	plain, _, err := ask(ctx, f.s, f.targets, r.end-r.off, open)
	if len(r.refs) > 1 && errors.Is(err, ErrCorrupt) {
		for _, k := range r.refs {
			off := int64(f.refs[k].Place.Offset)
			end := off + int64(f.refs[k].Place.Bytes)
			if err := f.run(ctx, run{r.pack, off, end, []int{k}}); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil && len(r.refs) > 1 {
		return fmt.Errorf("get %d objects: %w", len(r.refs), err)
	} else if err != nil {
		return fmt.Errorf("get object %v: %w", f.refs[r.refs[0]].ID, err)
	}
	for i, k := range r.refs {
		f.plain[k] = plain[i]
	}
	return nil
}

// open gets r from t, opens what it is for, and fills the cache with it.
func (f *fetch) open(ctx context.Context, t *Target, r run) (plain [][]byte, err error) {
	plain = make([][]byte, len(r.refs))
	piece := func(body []byte, i int) []byte {
		p := f.refs[r.refs[i]].Place
		off := int64(p.Offset) - r.off
		return body[off : off+int64(p.Bytes) : off+int64(p.Bytes)]
	}
	o, err := GetWhole(ctx, t.Chunks, r.pack.String(),
		GetOptions{Offset: r.off, Length: r.end - r.off}, func(body []byte) (err error) {
			if int64(len(body)) != r.end-r.off {
				return fmt.Errorf("%w: %d bytes, not %d", ErrCorrupt, len(body), r.end-r.off)
			}
			for i, k := range r.refs {
				plain[i], err = OpenObject(t.Sealer, nil, f.refs[k].ID, piece(body, i))
				if err != nil {
					return fmt.Errorf("object %v: %w", f.refs[k].ID, err)
				}
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	if filled := f.s.filled(); filled != nil {
		for i, k := range r.refs {
			filled.Put(f.refs[k].ID, piece(o.Body, i))
		}
	}
	return plain, nil
}
