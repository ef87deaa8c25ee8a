package upkeep

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

const (
	// versionsAtOnce is how many versions of a database are weighed at once: each has a window of
	// its tree in memory, 1 MiB.
	versionsAtOnce = 8
	// leavesBytesMax bounds the leaves and nodes that a [Scales] keeps, as most versions share most
	// of them: those of 80 GB of databases. Others are fetched for each version.
	leavesBytesMax = 64 << 20
)

// Weight is how much room versions take in a target: their packs' objects and their manifests, as
// they are stored, compressed and sealed. What versions share is the first; records, lists of packs
// and what no version needs are not in it.
type Weight struct {
	Versions    int   `json:"versions"`
	FileBytes   int64 `json:"file_bytes"`   // of the files that they restore to, together
	AloneBytes  int64 `json:"alone_bytes"`  // if each were stored by itself
	StoredBytes int64 `json:"stored_bytes"` // as they are: what several have is there once
}

// Scales weighs databases in a target, and what they share. Its methods may be called concurrently.
type Scales struct {
	target *chunkstore.Target
	all    *live // what any database names

	mu     sync.Mutex
	total  Weight
	leaves map[chunkstore.Ref][]byte
	kept   int // bytes of them
}

// NewScales returns scales for databases in t.
func NewScales(t *chunkstore.Target) *Scales {
	return &Scales{target: t, all: newLive(), leaves: make(map[chunkstore.Ref][]byte)}
}

// Total returns the weight of all databases that were weighed: what several have is in StoredBytes
// once. Databases that could not be weighed may be in it in part.
func (s *Scales) Total() Weight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Weigh weighs the versions of the database whose manifest has that key: the newest, with its
// records; checkpoints that are kept; versions of the manifest that its bucket keeps, where they
// may be listed. One that stands in several places counts once. It gets each of them, and the
// leaves that were not seen yet: of chunks it reads nothing. An older version of which something is
// gone is left out: it may have been collected meanwhile. Other errors are returned.
func (s *Scales) Weigh(ctx context.Context, key string) (Weight, error) {
	f, err := versions.OpenNewest(ctx, s.target, key)
	if err != nil {
		return Weight{}, err
	}
	w := &weighing{Scales: s, seen: make(map[any]bool), live: newLive()}
	older, err := olderOf(ctx, s.target, key)
	if err == nil {
		w.first(f.Newest())
		err = w.add(ctx, f.Newest())
	}
	if err != nil {
		return Weight{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(versionsAtOnce)
	for _, one := range older {
		group.Go(func() error {
			m, err := one.get(ctx)
			if err == nil && w.first(m) {
				err = w.add(ctx, m)
			}
			if gone(err) { // it was collected meanwhile
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	return w.weight, err
}

// weighing is Weigh under way.
type weighing struct {
	*Scales
	live   *live // what a version of the database names
	seen   map[any]bool
	weight Weight
}

// first reports whether m was not met before.
func (w *weighing) first(m *manifest.Manifest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	var id any = versions.IDOf(m.At)
	if m.At.Lineage == [16]byte{} { // in no history
		id = m.Head()
	}
	was := w.seen[id]
	w.seen[id] = true
	return !was
}

// add weighs a version. If it fails, nothing of it counts.
func (w *weighing) add(ctx context.Context, m *manifest.Manifest) error {
	body, err := m.Encode(w.target.Sealer)
	if err == nil {
		err = m.CheckPlaced()
	}
	if err != nil {
		return err
	}
	own := newLive()
	alone, err := w.walk(ctx, m, own)
	if err != nil {
		return fmt.Errorf("version %d: %w", m.Sequence, err)
	}
	of := Weight{Versions: 1, FileBytes: m.FileBytes, AloneBytes: alone + int64(len(body)),
		StoredBytes: int64(len(body))}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.weight.add(of)
	w.total.add(of)
	for pack, spans := range own.packs {
		for _, s := range spans {
			at := chunkstore.Place{Pack: pack, Offset: s.offset, Bytes: s.bytes}
			if w.live.add(at) {
				w.weight.StoredBytes += int64(s.bytes)
			}
			if w.all.add(at) {
				w.total.StoredBytes += int64(s.bytes)
			}
		}
	}
	return nil
}

func (w *Weight) add(o Weight) {
	w.Versions += o.Versions
	w.FileBytes += o.FileBytes
	w.AloneBytes += o.AloneBytes
	w.StoredBytes += o.StoredBytes
}

// walk adds to own all that m names, window by window, and returns how many bytes that is.
func (w *weighing) walk(
	ctx context.Context, m *manifest.Manifest, own *live,
) (bytes int64, err error) {
	var mu sync.Mutex // of bytes: leaves are fetched concurrently
	add := func(at chunkstore.Place) {
		if own.add(at) {
			mu.Lock()
			bytes += int64(at.Bytes)
			mu.Unlock()
		}
	}
	fetch := func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
		plain, err := w.fetch(ctx, refs)
		if err == nil {
			for _, ref := range refs {
				add(ref.Place)
			}
		}
		return plain, err
	}
	tree := m.Tree(w.target.Sealer)
	for start := 0; start < m.Chunks(); start += windowChunks {
		chunks := make([]int, min(windowChunks, m.Chunks()-start))
		for k := range chunks {
			chunks[k] = start + k
		}
		tree.Forget(start)
		refs, err := tree.LookupAll(ctx, chunks, fetch)
		if err != nil {
			return 0, err
		}
		for _, ref := range refs {
			if ref.ID != chunkstore.ZeroID {
				add(ref.Place)
			}
		}
	}
	return bytes, nil
}

// fetch is a [manifest.Fetch], which keeps what it has got.
func (s *Scales) fetch(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
	all := make([][]byte, len(refs))
	var missing []chunkstore.Ref
	s.mu.Lock()
	for k, ref := range refs {
		if all[k] = slices.Clone(s.leaves[ref]); all[k] == nil {
			missing = append(missing, ref)
		}
	}
	s.mu.Unlock()
	if len(missing) == 0 {
		return all, nil
	}
	got, err := s.target.GetObjects(ctx, missing)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, ref := range refs {
		if all[k] != nil {
			continue
		}
		all[k], got = got[0], got[1:]
		if _, kept := s.leaves[ref]; !kept && s.kept+len(all[k]) <= leavesBytesMax {
			s.leaves[ref] = slices.Clone(all[k])
			s.kept += len(all[k])
		}
	}
	return all, nil
}
