package versions

import (
	"fmt"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
)

// databaseHex is the length of what stands for a database in a key.
const databaseHex = 32

// databaseOf returns what stands for the database whose manifest has that key.
func databaseOf(key string) string {
	sum := blake3.Sum256([]byte(key))
	return fmt.Sprintf("%x", sum[:databaseHex/2])
}

// LeaseKey returns the key, in the chunk bucket, of the object by which the holder of the database
// whose manifest has that key shows that it is alive.
func LeaseKey(key string) string { return chunkstore.LeaseKeyPrefix + databaseOf(key) }

// WantKey returns the key of the object by which others ask the holder for the database, likewise.
func WantKey(key string) string { return chunkstore.WantKeyPrefix + databaseOf(key) }
