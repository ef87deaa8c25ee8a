package versions

import (
	"context"
	"encoding/hex"
	"errors"
	"sort"
	"time"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// databaseHex is the length of what stands for a database in a key.
const databaseHex = 32

// databaseOf returns what stands for the database whose manifest has that key.
func databaseOf(key string) string {
	sum := blake3.Sum256([]byte(key))
	return hex.EncodeToString(sum[:databaseHex/2])
}

// LeaseKey returns the key, in the chunk bucket, of the object by which the holder of the database
// whose manifest has that key shows that it is alive.
func LeaseKey(key string) string { return chunkstore.LeaseKeyPrefix + databaseOf(key) }

// WantKey returns the key of the object by which others ask the holder for the database, likewise.
func WantKey(key string) string { return chunkstore.WantKeyPrefix + databaseOf(key) }

// NewsName returns the name by which those who follow the database, or wait for it, are told of
// records, where the chunk bucket is a [chunkstore.Messenger].
func NewsName(key string) string { return databaseOf(key) }

// WantsName returns the name by which the holder is told that others want the database, likewise.
func WantsName(key string) string { return databaseOf(key) + "w" }

// RecordKey returns the key, in the chunk bucket, of the last record of the version id.
func RecordKey(id ID) string { return chunkstore.LogKeyPrefix + id.String() }

// SignsOfLife returns when the store got the last record of the database whose manifest has that
// key, and which is in the chunk bucket with a history that goes so far; and when it got a
// heartbeat of who holds that, or did before. Both are by the store's clock, and zero if there is
// none.
func SignsOfLife(
	ctx context.Context, chunks chunkstore.Bucket, key string, at history.Position,
) (appended, beat time.Time, err error) {
	for key, last := range map[string]*time.Time{
		RecordKey(IDOf(at)): &appended, LeaseKey(key): &beat,
	} {
		o, err := chunks.Stat(ctx, key)
		if err != nil && !errors.Is(err, chunkstore.ErrAbsent) {
			return appended, beat, err
		}
		*last = o.Modified
	}
	return appended, beat, nil
}

// OwnerAt returns who owns, or last owned, the history in t that goes so far: who has put the last
// fence. It is looked for in the log, by a few records: epochs only grow. ok is false if it is not
// there any more.
func OwnerAt(
	ctx context.Context, t *chunkstore.Target, at history.Position,
) (owner manifest.Owner, ok bool, err error) {
	log := chunkstore.NewLog(t, LogName(at.Lineage))
	var first *history.Record    // of the epoch, that was found
	has := func(n uint64) bool { // record n, and it is of the epoch
		var found [][]byte
		if n == 0 || err != nil {
			return false
		}
		if found, err = log.Read(ctx, n, 1); err != nil || len(found) == 0 {
			return false
		}
		var r *history.Record
		if r, err = history.Decode(n, found[0]); err != nil || r.Epoch != at.Epoch {
			return false
		}
		if first == nil || n < first.Number {
			first = r
		}
		return true
	}
	low, high := uint64(0), at.Number // the first is in (low, high], if it is there
	for step := uint64(1); high > step; step *= 2 {
		if !has(high - step) {
			low = high - step
			break
		}
		high -= step
	}
	sort.Search(int(high-low), func(k int) bool { return has(low + 1 + uint64(k)) })
	if err != nil || first == nil || !first.Fence {
		return manifest.Owner{}, false, err
	}
	owner, err = manifest.DecodeOwner(first.Body)
	return owner, err == nil, err
}
