package versions

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// ID names a version of one database that is in a history.
type ID struct {
	Lineage [16]byte // of the history
	Number  uint64   // of the last record that it has
}

// IDOf returns the ID of the version that stands there.
func IDOf(p history.Position) ID { return ID{p.Lineage, p.Number} }

// String is LINEAGE-NUMBER, of 32 and 16 hex digits.
func (id ID) String() string { return fmt.Sprintf("%x-%016x", id.Lineage, id.Number) }

// ParseID is the inverse of [ID.String]. ok is false if text is no ID.
func ParseID(text string) (id ID, ok bool) {
	lineage, number, _ := strings.Cut(text, "-")
	n, err := hex.DecodeString(number)
	if err != nil || len(n) != 8 {
		return ID{}, false
	}
	for _, b := range n {
		id.Number = id.Number<<8 | uint64(b)
	}
	l, err := hex.DecodeString(lineage)
	if err != nil || len(l) != len(id.Lineage) {
		return ID{}, false
	}
	id.Lineage = [16]byte(l)
	return id, id.String() == text
}

// KeptPrefix begins the keys of the checkpoints that are kept of the database whose manifest has
// that key.
func KeptPrefix(key string) string {
	return chunkstore.KeptKeyPrefix + databaseOf(key) + "-"
}

// KeptKey returns the key, in the chunk bucket, of the checkpoint id that is kept of the database
// whose manifest has that key.
func KeptKey(key string, id ID) string { return KeptPrefix(key) + id.String() }

// ParseKept returns which version has the key kept, and what its database's keys begin with.
func ParseKept(kept string) (prefix string, id ID, ok bool) {
	at := len(KeptPrefix(""))
	if len(kept) < at || !strings.HasPrefix(kept, chunkstore.KeptKeyPrefix) {
		return "", ID{}, false
	}
	id, ok = ParseID(kept[at:])
	return kept[:at], id, ok
}

// Keep puts a checkpoint, as stored, that stands there, into t, to be gone back to. The writer does
// that before it makes it the newest one. To put it twice is no harm.
func Keep(
	ctx context.Context, t *chunkstore.Target, key string, at history.Position, body []byte,
) error {
	err := chunkstore.PutOnce(ctx, t, KeptKey(key, IDOf(at)), body, func(stored []byte) error {
		m, err := Decode(t.Sealer, key, stored)
		if err == nil && IDOf(m.At) != IDOf(at) {
			err = chunkstore.ErrCorrupt
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a checkpoint: %w", err)
	}
	return nil
}

// Begin begins a history of the database whose manifest has that key in t, in the place of the
// checkpoint that has the given ETag, or of none if it is empty: m is its first version, kept, and
// the newest checkpoint. It fails as [history.Create]. m.At is the beginning of a history of which
// nobody else has the lineage, also after an error: if the answer was lost, that is how the history
// is known again. The history is read by store, which is [NewStore] of t and key.
func Begin(
	ctx context.Context, t *chunkstore.Target, key string, store history.Store, o history.Options,
	m *manifest.Manifest, etag string,
) (*history.Reader, error) {
	m.At = history.Position{Released: true}
	rand.Read(m.At.Lineage[:]) // never fails: crypto/rand
	body, err := m.Encode(t.Sealer)
	if err == nil {
		err = Keep(ctx, t, key, m.At, body)
	}
	if err != nil {
		return nil, err
	}
	return history.Create(ctx, store, o, m.At.Lineage, body, etag)
}

// Kept is a checkpoint that is kept, by what a list says.
type Kept struct {
	ID
	Stored time.Time // by the store's clock
	Bytes  int64
}

// ListKept returns the checkpoints that t keeps of the database whose manifest has that key, in the
// order of their keys: of each lineage in the order of their numbers.
func ListKept(ctx context.Context, t *chunkstore.Target, key string) (all []Kept, err error) {
	prefix := KeptPrefix(key)
	err = t.Chunks.List(ctx, prefix, func(o chunkstore.Object) bool {
		if id, ok := ParseID(strings.TrimPrefix(o.Key, prefix)); ok {
			all = append(all, Kept{id, o.Modified, o.Bytes})
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	return all, nil
}

// GetKept returns the checkpoint id that t keeps of the database whose manifest has that key. It
// fails with [chunkstore.ErrAbsent] and ErrCorrupt.
func GetKept(
	ctx context.Context, t *chunkstore.Target, key string, id ID,
) (m *manifest.Manifest, err error) {
	_, err = chunkstore.GetWhole(ctx, t.Chunks, KeptKey(key, id),
		chunkstore.GetOptions{BytesMax: manifest.BytesMax},
		func(body []byte) (err error) {
			m, err = Decode(t.Sealer, key, body)
			if err == nil && IDOf(m.At) != id {
				err = fmt.Errorf("%w: it is version %v", chunkstore.ErrCorrupt, IDOf(m.At))
			}
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("get checkpoint %v: %w", id, err)
	}
	return m, nil
}
