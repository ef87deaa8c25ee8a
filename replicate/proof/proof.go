package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"verneuil/chunkstore"
)

// Proof says that a database was restored from a target, and found whole.
type Proof struct {
	Time        time.Time `json:"time"` // when that was done, by the clock of who did it
	Epoch       uint64    `json:"epoch"`
	Sequence    uint64    `json:"sequence"`     // with Epoch, which version it was
	VersionTime time.Time `json:"version_time"` // when that version was cut
	FileBytes   int64     `json:"file_bytes"`
	Seconds     float64   `json:"seconds"` // that the restore took, and the check
	Host        string    `json:"host"`    // of who did it
	Program     string    `json:"program"`
}

const (
	keyPrefix = "proof-"
	format    = 1
	// bytesMax is far more than a proof has.
	bytesMax = 64 << 10
)

// stored is a Proof as it is kept.
type stored struct {
	Format int `json:"verneuil_proof"`
	Proof
}

// Key returns the key, in the bucket of manifests, of the proof of the database whose manifest has
// the key manifest.
func Key(manifest string) string { return keyPrefix + manifest }

// IsKey reports whether key, of the bucket of manifests, is a proof's.
func IsKey(key string) bool { return strings.HasPrefix(key, keyPrefix) }

// Keep has t keep p as the last proof of the database whose manifest has that key. It takes one
// request, which needs the right to put a manifest.
func Keep(ctx context.Context, t *chunkstore.Target, manifest string, p Proof) error {
	p.Time, p.VersionTime = p.Time.UTC(), p.VersionTime.UTC()
	body, err := json.Marshal(stored{format, p})
	if err == nil {
		key := Key(manifest)
		_, err = t.Manifests.Put(ctx, key, chunkstore.SealBody(t.Sealer, key, body),
			chunkstore.Condition{})
	}
	if err != nil {
		return fmt.Errorf("keep the proof: %w", err)
	}
	return nil
}

// Last returns the last proof of the database whose manifest has that key. It takes one request,
// and fails with [chunkstore.ErrAbsent] if there is none (with ErrDenied, if who asks may not
// list), and with ErrCorrupt and ErrKey.
func Last(ctx context.Context, t *chunkstore.Target, manifest string) (Proof, error) {
	var s stored
	_, err := chunkstore.GetWhole(ctx, t.Manifests, Key(manifest),
		chunkstore.GetOptions{BytesMax: bytesMax}, func(sealed []byte) error {
			body, err := chunkstore.OpenBody(t.Sealer, Key(manifest), sealed)
			if err != nil {
				return err
			}
			s = stored{}
			if err := json.Unmarshal(body, &s); err != nil || s.Format != format {
				return fmt.Errorf("%w: it is no proof that this program knows",
					chunkstore.ErrCorrupt)
			}
			return nil
		})
	if err != nil {
		return Proof{}, fmt.Errorf("last proof: %w", err)
	}
	return s.Proof, nil
}
