package chunkstore

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

// TargetConfig is one entry of replication_targets: exactly one member is set.
type TargetConfig struct {
	S3       *S3Config       `json:"s3,omitempty"`
	Dir      *DirConfig      `json:"dir,omitempty"`
	Local    *LocalConfig    `json:"local,omitempty"`
	ReadOnly *ReadOnlyConfig `json:"read_only,omitempty"`
}

// S3Config is a pair of buckets of an S3-compatible store. Credentials never
// stand here: they come from the AWS SDK's default chain.
type S3Config struct {
	Region                string `json:"region"`
	Endpoint              string `json:"endpoint,omitempty"`
	ChunkBucket           string `json:"chunk_bucket"`
	ManifestBucket        string `json:"manifest_bucket"`
	DomainAddressing      bool   `json:"domain_addressing"`
	CreateBucketsOnDemand bool   `json:"create_buckets_on_demand,omitempty"`
}

// DirConfig is an object store in a directory, for demos, tests and NAS.
type DirConfig struct {
	Path string `json:"path"`
}

// LocalConfig is a read-write cache of chunks.
type LocalConfig struct {
	Directory string `json:"directory"`
	NumShards int    `json:"num_shards"`
	Capacity  int64  `json:"capacity"` // files, over all shards
}

// ReadOnlyConfig is a cache that somebody else fills.
type ReadOnlyConfig struct {
	Directory string `json:"directory"`
	NumShards int    `json:"num_shards"`
}

const (
	shardsMax = 1 << 16
	// capacityMax is beyond any file system's count of inodes.
	capacityMax = 1 << 40
)

// Validate checks what JSON types cannot. at is where c stands in the
// configuration, such as "replication_targets[1]"; the error begins with it, or
// with the member of it that is wrong.
func (c TargetConfig) Validate(at string) error {
	kinds := 0
	for _, set := range []bool{c.S3 != nil, c.Dir != nil, c.Local != nil, c.ReadOnly != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("%s: want exactly one of s3, dir, local and read_only, got %d", at, kinds)
	}
	switch {
	case c.S3 != nil:
		return c.S3.validate(at + ".s3")
	case c.Dir != nil:
		return present(at+".dir.path", c.Dir.Path)
	case c.Local != nil:
		return c.Local.validate(at + ".local")
	default:
		return cmp.Or(
			present(at+".read_only.directory", c.ReadOnly.Directory),
			shards(at+".read_only.num_shards", c.ReadOnly.NumShards))
	}
}

func (c *S3Config) validate(at string) error {
	_, endpoint := c.place()
	return cmp.Or(
		present(at+".region", c.Region),
		present(at+".chunk_bucket", c.ChunkBucket),
		present(at+".manifest_bucket", c.ManifestBucket),
		bucketName(at+".chunk_bucket", c.ChunkBucket),
		bucketName(at+".manifest_bucket", c.ManifestBucket),
		validEndpoint(at, c.Endpoint, endpoint))
}

// place returns the region and the endpoint, which is empty for AWS's own. A
// region of our own without an endpoint contains it: "minio.example.com" is the
// region "minio" at https://example.com. AWS's names contain no dot.
func (c *S3Config) place() (region, endpoint string) {
	if c.Endpoint != "" {
		return c.Region, c.Endpoint
	}
	region, host, found := strings.Cut(c.Region, ".")
	if !found {
		return region, ""
	}
	return region, "https://" + host
}

func (c *LocalConfig) validate(at string) error {
	if err := cmp.Or(present(at+".directory", c.Directory), shards(at+".num_shards", c.NumShards)); err != nil {
		return err
	}
	if c.Capacity < max(1, int64(c.NumShards)) || c.Capacity > capacityMax {
		return fmt.Errorf("%s.capacity: %d files: want at least one per shard (%d), at most %d",
			at, c.Capacity, max(1, c.NumShards), int64(capacityMax))
	}
	return nil
}

func present(at, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s: missing", at)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("%s: %q contains a zero byte", at, value)
	}
	return nil
}

func shards(at string, n int) error {
	if n < 0 || n > shardsMax {
		return fmt.Errorf("%s: %d: want 0 to %d", at, n, shardsMax)
	}
	return nil
}

// bucketName refuses what cannot be a bucket anywhere; the store knows the rest.
func bucketName(at, name string) error {
	if strings.ContainsAny(name, "/?#%\\ \t\r\n") {
		return fmt.Errorf("%s: %q cannot be the name of a bucket", at, name)
	}
	return nil
}

func validEndpoint(at, given, endpoint string) error {
	if endpoint == "" {
		return nil
	}
	key := at + ".endpoint"
	if given == "" {
		key = at + ".region"
	}
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"):
		return fmt.Errorf("%s: credentials do not belong here; they come from the AWS credential chain", key)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(endpoint, "?#"):
		return fmt.Errorf("%s: want http://HOST[:PORT] or https://HOST[:PORT]", key) // nor its text: it may hold a secret
	}
	return nil
}
