package cache

import (
	"cmp"
	"fmt"
	"path/filepath"

	"verneuil/chunkstore"
)

func init() {
	chunkstore.Register(func() chunkstore.TargetConfig { return new(Local) })
	chunkstore.Register(func() chunkstore.TargetConfig { return new(ReadOnly) })
}

// Local is a read-write cache of chunks.
type Local struct {
	Directory string `json:"directory" config:"path"`
	NumShards int    `json:"num_shards" config:"0..65536"`
	Capacity  int64  `json:"capacity" config:"1.."` // files, over all shards
}

// ReadOnly is a cache that somebody else fills.
type ReadOnly struct {
	Directory string `json:"directory" config:"path"`
	NumShards int    `json:"num_shards" config:"0..65536"`
}

const (
	// shardsMax bounds num_shards: each shard is a directory.
	shardsMax = 1 << 16
	// capacityMax is beyond any file system's count of inodes.
	capacityMax = 1 << 40
)

// Kind is the provider's name in JSON.
func (c *Local) Kind() string { return "local" }

// Kind is the provider's name in JSON.
func (c *ReadOnly) Kind() string { return "read_only" }

// Validate checks what JSON types cannot: see [chunkstore.TargetConfig].
func (c *Local) Validate(at string) error {
	if err := validPlace(at, c.Directory, c.NumShards); err != nil {
		return err
	}
	if c.Capacity < max(1, int64(c.NumShards)) || c.Capacity > capacityMax {
		return fmt.Errorf("%s.capacity: %d files: want at least one per shard (%d), at most %d",
			at, c.Capacity, max(1, c.NumShards), int64(capacityMax))
	}
	return nil
}

// Validate checks what JSON types cannot: see [chunkstore.TargetConfig].
func (c *ReadOnly) Validate(at string) error { return validPlace(at, c.Directory, c.NumShards) }

func validPlace(at, directory string, shards int) error {
	return cmp.Or(
		chunkstore.Missing(at+".directory", directory),
		validShards(at+".num_shards", shards))
}

func validShards(at string, n int) error {
	if n < 0 || n > shardsMax {
		return fmt.Errorf("%s: %d: want 0 to %d", at, n, shardsMax)
	}
	return nil
}

// Place returns the directory, which is filled.
func (c *Local) Place() (directory string, filled bool) { return c.Directory, true }

// Place returns the directory, which is only read.
func (c *ReadOnly) Place() (directory string, filled bool) { return c.Directory, false }

// Open makes the cache of c, whose directory need not be there: see [chunkstore.CacheOpener].
func (c *Local) Open(o chunkstore.Options) (chunkstore.Cache, error) {
	shards := max(1, c.NumShards)
	inner, err := newReader(c.Directory, shards, o)
	if err != nil {
		return nil, err
	}
	made := &local{reader: inner, fills: make([]int, shards)}
	made.capacity = int(c.Capacity / int64(shards)) // at least 1: see Validate
	made.claims.dir = inner.dir
	made.reader.filled = true
	return made, nil
}

// Open makes the cache of c, whose directory need not be there: see [chunkstore.CacheOpener].
func (c *ReadOnly) Open(o chunkstore.Options) (chunkstore.Cache, error) {
	inner, err := newReader(c.Directory, max(1, c.NumShards), o)
	if err != nil {
		return nil, err
	}
	return &inner, nil
}

func newReader(directory string, shards int, o chunkstore.Options) (reader, error) {
	dir, err := filepath.Abs(directory)
	if err != nil {
		return reader{}, fmt.Errorf("directory: %w", err)
	}
	return reader{dir: dir, shards: shards, sealer: o.Sealer, log: o.Log}, nil
}
