package patrol

import (
	"math/rand/v2"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// TestNextDue: an object is due once in each round, at the same phase of it.
func TestNextDue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var id chunkstore.ID
		for k := range id {
			id[k] = byte(random.Uint32())
		}
		round := time.Duration(1 + random.Int64N(int64(1000*time.Hour)))
		from := time.Unix(random.Int64N(1<<33), random.Int64N(1e9))
		at := nextDue(id, from, round)
		if wait := at.Sub(from); wait <= 0 || wait > round {
			t.Fatalf("due after %v of %v", wait, round)
		}
		if next := nextDue(id, at, round); !next.Equal(at.Add(round)) {
			t.Fatalf("due at %v, and then at %v; a round takes %v", at, next, round)
		}
		if again := nextDue(id, at.Add(-1), round); !again.Equal(at) {
			t.Fatalf("due at %v; asked a moment before, at %v", at, again)
		}
	}
}
