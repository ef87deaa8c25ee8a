package dir

import (
	"fmt"
	"path/filepath"

	"verneuil/chunkstore"
)

func init() { chunkstore.Register(func() chunkstore.TargetConfig { return new(Config) }) }

// Config is an object store in a directory, for demos, tests and NAS.
type Config struct {
	Path string `json:"path" config:"path"`
}

// Kind is the provider's name in JSON.
func (c *Config) Kind() string { return "dir" }

// Validate checks what JSON types cannot: see [chunkstore.TargetConfig].
func (c *Config) Validate(at string) error { return chunkstore.Missing(at+".path", c.Path) }

// Places names where chunks and manifests lie: see [chunkstore.TargetOpener].
func (c *Config) Places() (chunks, manifests string) {
	path := "dir " + filepath.Clean(c.Path)
	return path + "/chunks", path + "/manifests"
}

// Open makes the target of c, which need not be there: see [chunkstore.TargetOpener].
func (c *Config) Open(limit *chunkstore.Limiter, o chunkstore.Options) (*chunkstore.Target, error) {
	path, err := filepath.Abs(c.Path) // the host may change its directory
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	chunks, manifests := newBuckets(path, limit.Unpaced(), o)
	return chunkstore.NewTarget("directory "+path, chunks, manifests), nil
}
