package courier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// trail is what a contact has found of the history.
type trail struct {
	writer *history.Writer // at its end; nil: there is none, or it cannot be read
	fence  *history.Record // who took it over last; nil: not known
	beaten bool            // the writer that we had is not at its end
	holed  bool            // it has lost records, after which there may be others
}

// lookAtVersion finds out which version the target has.
func (a *contact) lookAtVersion(ctx context.Context) error {
	known, err := a.asItWas(ctx)
	if err == nil && !known {
		err = a.open(ctx)
	}
	if err != nil {
		return fmt.Errorf("look at manifest: %w", err)
	}
	f := &a.found
	if f.manifest == nil {
		a.fresh = false
		return nil
	}
	f.same = a.ours.cut != noCut && f.manifest.Cut == a.ours.cut
	f.proved = f.proved || known || a.unchanged() || a.asPut()
	if f.same && f.proved && f.names == nil {
		f.names = a.ours.tree
	}
	a.fresh = a.fresh && f.same && f.damaged == nil && (known || a.unchanged())
	return nil
}

// asOurs reports whether what was found, and is not proved to be what we put, is our last version
// all the same. Its Cut says so, which is no proof: who may write to the bucket can forge it.
func (a *contact) asOurs() bool {
	m, ours := a.found.manifest, a.ours.manifest
	if a.ours.tree == nil || m.FileBytes != ours.FileBytes || m.PageBytes != ours.PageBytes ||
		!slices.EqualFunc(m.Inline, ours.Inline, func(a, b manifest.Page) bool {
			return a.Offset == b.Offset && bytes.Equal(a.Data, b.Data)
		}) {
		return false
	}
	for i := range a.ours.tree.Len() {
		if a.found.names.At(i).ID != a.ours.tree.At(i).ID {
			return false
		}
	}
	return true
}

// noLineage is that of a manifest which is in no history.
var noLineage [16]byte

// unchanged reports whether what was found is what the target had, where it has no history.
func (a *contact) unchanged() bool {
	return a.found.manifest.At.Lineage == noLineage && a.found.etag == a.had.etag
}

// asPut reports whether what was found is the very manifest that the target took last, and no
// record came after it.
func (a *contact) asPut() bool {
	f := &a.found
	return f.writer != nil && f.etag != "" && f.etag == a.had.etag &&
		f.writer.Reader().Seen() == f.manifest.At.Number
}

// asItWas finds out whether the history goes as far as when we last knew it, and no further. What
// was unsettled is settled first.
func (a *contact) asItWas(ctx context.Context) (known bool, err error) {
	w, m := a.had.writer, a.had.manifest
	if w == nil || a.all {
		return false, nil
	}
	if etag := w.Reader().ETag(); etag != "" {
		a.had.etag = etag // before it is asked again
	}
	err = w.Settle(ctx)
	if ours := a.ours.cut != noCut && m.Cut == a.ours.cut; err == nil && !(a.fresh && ours) {
		a.fresh = false
		err = w.Reader().Check(ctx, history.Position{})
	}
	switch {
	case errors.Is(err, history.ErrUnsettled):
		return false, err
	case errors.Is(err, history.ErrBehind), errors.Is(err, history.ErrFenced),
		chunkstore.IsFault(err):
		a.found.beaten = true
		return false, nil
	case err != nil:
		return false, err
	}
	found := *m
	found.At = w.At()
	a.keep(&found, a.had.tree)
	a.found.exists, a.found.etag, a.found.writer = true, w.Reader().ETag(), w
	return true, nil
}

// keep makes m what was found; tree is its.
func (a *contact) keep(m *manifest.Manifest, tree *manifest.Tree) {
	f := &a.found
	f.manifest, f.tree = m, tree
	if tree.Loaded() {
		f.names = tree
	}
}

// lastETag is a store that keeps the ETag of the newest checkpoint, also of one that cannot be
// read. Readers that were opened in it stay with it: a look may ask it while a push does.
type lastETag struct {
	history.Store
	etag atomic.Value // a string
}

func (s *lastETag) Newest(ctx context.Context, etag string) (*history.Checkpoint, string, error) {
	c, newest, err := s.Store.Newest(ctx, etag)
	if newest != "" {
		s.etag.Store(newest)
	}
	return c, newest, err
}

// open reads what the target has.
func (a *contact) open(ctx context.Context) error {
	store := &lastETag{Store: a.shelf}
	follower, err := versions.OpenIn(ctx, a.t.Sealer, store)
	if err == nil {
		err = a.follow(ctx, follower)
	}
	f := &a.found
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		return nil
	case errors.Is(err, manifest.ErrNewer): // not ours to replace (I5)
		return err
	case errors.Is(err, versions.ErrAnother):
		f.foreign = err
	case errors.Is(err, chunkstore.ErrCorrupt):
		f.damaged = err
	case err != nil:
		return err
	}
	f.exists = true
	if f.etag, _ = store.etag.Load().(string); f.etag != "" {
		return nil
	}
	// It is too long to be read, or no object at all.
	f.etag, err = a.shelf.Stat(ctx)
	if errors.Is(err, chunkstore.ErrAbsent) {
		f.exists = false
		return nil
	}
	return err
}

// recordTries is how often a record is asked for that arrives damaged.
const recordTries = 3

// follow reads the newest version. It fails with [chunkstore.ErrCorrupt] if what the history says
// last cannot be read, or is none of ours; what was found then is as far as it can.
func (a *contact) follow(ctx context.Context, from *versions.Follower) (err error) {
	for range recordTries {
		if _, err = from.Next(ctx); !errors.Is(err, chunkstore.ErrCorrupt) {
			break
		}
	}
	if err != nil && !errors.Is(err, chunkstore.ErrCorrupt) {
		return err
	}
	f, m := &a.found, from.Newest()
	if m.Epoch > epochMax {
		return fmt.Errorf("%w: epoch %d", chunkstore.ErrCorrupt, m.Epoch)
	} else if err := m.CheckPlaced(); err != nil {
		return err
	}
	if a.had.is(m, from.Reader().ETag()) {
		f.proved = true
		a.keep(a.had.manifest, a.had.tree) // which may be loaded
	} else {
		a.keep(m, m.Tree(a.t.Sealer))
	}
	if err != nil || m.At.Lineage == noLineage {
		return err
	}
	f.writer, f.fence = history.NewWriter(from.Reader()), from.Fence()
	// Where another history stands than ours, somebody has put it there, perhaps without all of its
	// records; and after those there may be others of it.
	f.holed = a.had.lineage != noLineage && a.had.lineage != m.At.Lineage
	if had := a.had.writer; had != nil && had.At().Lineage == m.At.Lineage {
		f.holed = had.At().Number > m.At.Number
	}
	if n := len(m.At.Fences); f.fence == nil && n > 0 && m.Cut != a.ours.cut {
		f.fence = a.fence(ctx, m.At, m.At.Fences[n-1])
	}
	return nil
}

// is reports whether the target has m, a manifest of that ETag, with the same records, when h was
// what it had.
func (h *had) is(m *manifest.Manifest, etag string) bool {
	if h.manifest == nil || h.etag != etag {
		return false // a checkpoint that somebody else has put says what he likes
	} else if m.At.Lineage == noLineage {
		return true
	}
	at := h.manifest.At
	return at.Lineage == m.At.Lineage && at.Number == m.At.Number && at.Digest == m.At.Digest
}

// fence returns the takeover of that number; nil: it cannot be read. It only serves to tell who it
// was.
func (a *contact) fence(ctx context.Context, at history.Position, n uint64) *history.Record {
	stored, err := a.shelf.Log(at.Lineage).Read(ctx, n, 1)
	if err != nil || len(stored) == 0 {
		return nil
	}
	r, err := history.Decode(n, stored[0])
	if err != nil || !r.Fence {
		return nil
	}
	return r
}

// story returns how it stands with the history that was found, in a target that keeps logs, or not.
func (f *finding) story(keepsLogs bool) (s story) {
	if f.writer == nil || !keepsLogs {
		return s
	}
	s.mark = f.writer.Reader().Clone()
	if f.vain || f.holed || f.tree == nil || len(f.manifest.At.Fences) >= fencesMax {
		s.before = history.NewWriter(s.mark.Clone())
	} else {
		s.writer = f.writer
	}
	return s
}
