package versions

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// store is where the histories of one database are in one target.
type store struct {
	t   *chunkstore.Target
	key string
}

// ErrAnother: the manifest is another database's. What wraps it wraps [chunkstore.ErrCorrupt], too.
var ErrAnother = errors.New("the manifest is another database's")

// NewStore returns the [history.Store] of the database whose manifest has that key in t. The Body
// of a checkpoint is the manifest, as stored; its At is the checkpoint's Position. Newest returns
// the ETag also of what it cannot read, if it is known. Where there is none, and the bucket is of
// another ring, it fails with [chunkstore.ErrKey].
func NewStore(t *chunkstore.Target, key string) history.Store { return store{t, key} }

func (s store) Log(lineage [16]byte) chunkstore.Log {
	return chunkstore.NewLog(s.t, LogName(lineage))
}

// LogName returns the name of the log of a lineage.
func LogName(lineage [16]byte) string { return hex.EncodeToString(lineage[:]) }

// Needed returns the records that the version which stands at needs, where the newest checkpoint
// has the number seen: those after it, and the fences, which no log may lose (T1 of package
// history); ascending. Of what is in no history it is none.
func Needed(at history.Position, seen uint64) (numbers []uint64) {
	if at.Lineage == [16]byte{} {
		return nil
	}
	for _, n := range at.Fences {
		if n <= seen {
			numbers = append(numbers, n)
		}
	}
	for n := seen + 1; n <= at.Number; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

func (s store) Newest(ctx context.Context, etag string) (*history.Checkpoint, string, error) {
	var m *manifest.Manifest
	o, err := s.t.GetManifest(ctx, s.key,
		chunkstore.GetOptions{IfNoneMatch: etag, BytesMax: manifest.BytesMax},
		func(body []byte) (err error) {
			m, err = Decode(s.t.Sealer, s.key, body)
			return err
		})
	if errors.Is(err, chunkstore.ErrAbsent) {
		// It may be there, under another ring's name.
		err = cmp.Or(chunkstore.CheckRing(ctx, s.t.Manifests, s.t.Sealer), err)
	}
	if err != nil {
		return nil, o.ETag, err
	}
	return &history.Checkpoint{Position: m.At, Body: o.Body}, o.ETag, nil
}

func (s store) Replace(
	ctx context.Context, c *history.Checkpoint, etag string,
) (newest string, err error) {
	cond := chunkstore.Condition{IfMatch: etag, IfNone: etag == ""}
	return s.t.Manifests.Put(ctx, s.key, c.Body, cond)
}

// Decode decodes the manifest that stands under key in a target, which must be that of the database
// that it speaks of: else it fails with [ErrAnother]. All errors wrap [chunkstore.ErrCorrupt].
func Decode(s chunkstore.Sealer, key string, stored []byte) (*manifest.Manifest, error) {
	m, err := manifest.Decode(s, stored)
	if err == nil && manifest.Name(s, m.Host, m.Path) != key {
		return nil, fmt.Errorf("%w: %w: it belongs to %q", chunkstore.ErrCorrupt, ErrAnother,
			m.Host+":"+m.Path)
	}
	return m, err
}
