package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// Remove removes the database whose manifest has that key from t, with all its versions, in the
// name of owner, also from who holds it: what he has not committed is lost, and he is told that it
// is not there any more, as are those who read it. What only it has named is garbage from then on,
// which gc collects; and so is the last record of each history, by which the store refuses the one
// that the holder would append. An error leaves some of it: then Remove goes on where it has ended.
// It fails with [chunkstore.ErrAbsent] if there is nothing of it.
//
// The history is taken first, so that nobody appends to what is on its way out. Then the manifest
// goes: who opens the database, or looks at it, finds from there on that it is gone. A checkpoint
// that says that there was one ([versions.Vacant]) goes last, so that nobody makes a new one while
// some is left, and that it is known what is left.
func Remove(
	ctx context.Context, t *chunkstore.Target, key string, owner manifest.Owner,
) error {
	kept, err := versions.ListKept(ctx, t, key)
	if err != nil {
		return err
	}
	var lineages [][16]byte
	for _, k := range kept {
		lineages = append(lineages, k.Lineage)
	}
	f, err := versions.OpenNewest(ctx, t, key)
	if err == nil {
		_, err = seize(ctx, f, owner, func(at history.Position) bool {
			return at.Lineage == [16]byte{} // a manifest that is in no history is nobody's
		})
		lineages = append(lineages, f.Newest().At.Lineage)
	}
	gone := errors.Is(err, chunkstore.ErrAbsent)
	switch {
	case gone && len(kept) == 0:
		return err
	case err != nil && !gone && !chunkstore.IsFault(err): // what is damaged can be read by nobody
		return err
	}
	slices.SortFunc(lineages, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	lineages = slices.Compact(lineages)
	if err := t.Manifests.Delete(ctx, key); err != nil {
		return fmt.Errorf("remove the manifest: %w", err)
	}
	rest := []string{versions.LeaseKey(key), versions.WantKey(key)}
	var first []string // records, by which a checkpoint says so
	for _, lineage := range lineages {
		var records []string
		log := versions.LogName(lineage)
		err := t.Chunks.List(ctx, chunkstore.LogKeyPrefix+log+"-", func(o chunkstore.Object) bool {
			records = append(records, o.Key)
			return true
		})
		if err != nil {
			return err
		}
		if len(records) == 0 {
			continue
		}
		records = records[:len(records)-1]
		if len(records) > 0 && records[0] == chunkstore.RecordKey(log, 1) {
			first, records = append(first, records[0]), records[1:]
		}
		rest = append(rest, records...)
	}
	last, err := versions.LastSign(ctx, t, key, kept)
	if err != nil {
		return err
	}
	var sign []string
	for _, k := range kept {
		if last != nil && k.ID == last.ID {
			sign = append(sign, versions.KeptKey(key, k.ID))
		} else {
			rest = append(rest, versions.KeptKey(key, k.ID))
		}
	}
	for _, keys := range [][]string{rest, sign, first} {
		if err := chunkstore.DeleteAll(ctx, t.Chunks, keys); err != nil {
			return err
		}
	}
	return nil
}
