package courier

import (
	"context"
	"errors"
	"sync/atomic"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// fencesMax bounds the takeovers that a history lists from writers that had not released it: a
// spool that was lost, or a boot, leaves one. Beyond that, a new one is begun.
const fencesMax = 64

// story is how it stands with the history that a target has. One that keeps no conditions has none:
// then all of it is nil.
type story struct {
	// writer appends to the history; it is the present push's or contact's, if there is one. Nil:
	// the next push begins a history, or the target keeps none.
	writer *history.Writer
	// before follows the history that the next push replaces, and takes that over first: so that
	// who owns it, and sleeps, is refused. Nil: there is none, or it cannot be read.
	before *history.Writer
	// mark has read what stock.version has; looks are made with clones of it.
	mark *history.Reader
	// unsettled is a push of which it is not known whether its record is in the history.
	unsettled *push
}

// unsaved returns how many records the target has after the newest checkpoint.
func (s *story) unsaved() int {
	if s.mark == nil {
		return 0
	}
	return int(s.mark.At().Number - s.mark.Seen())
}

// signature tells our records from others'.
type signature struct {
	names   map[[16]byte]bool // of all writers that this courier has made
	lineage [16]byte          // of the history that one of them has appended to last
	epoch   uint64            // in which it did
	current [16]byte          // lineage of the history that has taken a version of ours last
}

// signs notes that w appends for this courier; it may be nil.
func (s *signature) signs(w *history.Writer) {
	if w == nil {
		return
	}
	if s.names == nil {
		s.names = make(map[[16]byte]bool)
	}
	s.names[w.Name()] = true
}

// appended notes how far a writer has come that has just appended.
func (s *signature) appended(at history.Position) { s.lineage, s.epoch = at.Lineage, at.Epoch }

// overruled reports whether a history that goes to at was ours until another took it over: fence is
// the last takeover that was read of it, if it is known.
func (s *signature) overruled(at history.Position, fence *history.Record) bool {
	return s.lineage != [16]byte{} && s.lineage == at.Lineage && at.Epoch > s.epoch &&
		(fence == nil || !s.names[fence.Writer])
}

// shelf is where the histories of the database are in a target. It is safe for concurrent use.
type shelf struct {
	history.Store
	manifests chunkstore.Bucket
	key       string
	calls     atomic.Int64 // of the target, by what has ended, and for histories
	looks     atomic.Int64 // for the checkpoint, that were answered
}

func newShelf(t *chunkstore.Target, key string) *shelf {
	return &shelf{Store: versions.NewStore(t, key), manifests: t.Manifests, key: key}
}

// Stat returns the ETag of what stands where a checkpoint should.
func (s *shelf) Stat(ctx context.Context) (etag string, err error) {
	s.calls.Add(1)
	o, err := s.manifests.Stat(ctx, s.key)
	return o.ETag, err
}

func (s *shelf) Newest(ctx context.Context, etag string) (*history.Checkpoint, string, error) {
	s.calls.Add(1)
	c, newest, err := s.Store.Newest(ctx, etag)
	if err == nil || chunkstore.IsFault(err) || errors.Is(err, chunkstore.ErrUnmodified) {
		s.looks.Add(1)
	}
	return c, newest, err
}

func (s *shelf) Replace(
	ctx context.Context, c *history.Checkpoint, etag string,
) (newest string, err error) {
	s.calls.Add(1)
	return s.Store.Replace(ctx, c, etag)
}

func (s *shelf) Log(lineage [16]byte) chunkstore.Log {
	return &countedLog{s.Store.Log(lineage), &s.calls}
}

// countedLog counts requests, those for what is not there about.
type countedLog struct {
	chunkstore.Log
	calls *atomic.Int64
}

func (l *countedLog) Append(ctx context.Context, n uint64, record []byte) error {
	l.calls.Add(1)
	return l.Log.Append(ctx, n, record)
}

func (l *countedLog) Read(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	records, err := l.Log.Read(ctx, from, limit)
	l.calls.Add(int64(min(len(records)+1, limit)))
	return records, err
}
