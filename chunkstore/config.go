package chunkstore

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// TargetConfig is one entry of replication_targets: exactly one member is set.
type TargetConfig struct {
	S3       *S3Config       `json:"s3,omitempty"`
	Dir      *DirConfig      `json:"dir,omitempty"`
	Local    *LocalConfig    `json:"local,omitempty"`
	ReadOnly *ReadOnlyConfig `json:"read_only,omitempty"`
}

// S3Config is one bucket, or a pair of buckets, of an S3-compatible store. Where both are one,
// chunks and manifests lie under prefixes of their own: see doc.go. Credentials never stand here:
// they come from the AWS SDK's default chain.
type S3Config struct {
	Region                string `json:"region"`
	Endpoint              string `json:"endpoint,omitempty"`
	Bucket                string `json:"bucket,omitempty"` // excludes the next two
	ChunkBucket           string `json:"chunk_bucket,omitempty"`
	ManifestBucket        string `json:"manifest_bucket,omitempty"`
	Prefix                string `json:"prefix,omitempty"` // of all keys; a slash at its end is implied
	DomainAddressing      bool   `json:"domain_addressing"`
	CreateBucketsOnDemand bool   `json:"create_buckets_on_demand,omitempty"`
	SignPayload           bool   `json:"sign_payload,omitempty"` // the bodies of Puts from the start, not only once the store wants it
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
		c.validBuckets(at),
		validPrefix(at+".prefix", c.Prefix),
		validEndpoint(at, c.Endpoint, endpoint))
}

func (c *S3Config) validBuckets(at string) error {
	two := c.ChunkBucket != "" || c.ManifestBucket != ""
	switch {
	case c.Bucket != "" && two:
		return fmt.Errorf("%s.bucket: excludes chunk_bucket and manifest_bucket", at)
	case c.Bucket != "":
		return bucketName(at+".bucket", c.Bucket)
	case !two:
		return fmt.Errorf("%s.bucket: missing: want bucket, or chunk_bucket and manifest_bucket", at)
	}
	return cmp.Or(
		present(at+".chunk_bucket", c.ChunkBucket),
		present(at+".manifest_bucket", c.ManifestBucket),
		bucketName(at+".chunk_bucket", c.ChunkBucket),
		bucketName(at+".manifest_bucket", c.ManifestBucket))
}

// What the keys of the two kinds of object begin with, after the prefix, where one bucket holds both.
const (
	s3ChunksPrefix    = "chunks/"
	s3ManifestsPrefix = "manifests/"
)

// s3Place is where one kind of object lies: in a bucket, under keys that begin with prefix, which
// is empty or ends in a slash.
type s3Place struct{ bucket, prefix string }

func (p s3Place) String() string {
	if p.prefix == "" {
		return p.bucket
	}
	return p.bucket + "/" + p.prefix
}

// places returns where the chunks and the manifests of a valid c lie.
func (c *S3Config) places() (chunks, manifests s3Place) {
	prefix := c.Prefix
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	chunks = s3Place{cmp.Or(c.Bucket, c.ChunkBucket), prefix}
	manifests = s3Place{cmp.Or(c.Bucket, c.ManifestBucket), prefix}
	if chunks == manifests {
		chunks.prefix += s3ChunksPrefix
		manifests.prefix += s3ManifestsPrefix
	}
	return chunks, manifests
}

// prefixBytesMax leaves room for our own part of a key: S3 allows 1,024 bytes in all.
const prefixBytesMax = 512

// validPrefix refuses what some stores do not take for part of a key (MinIO: XMinioInvalidObjectName).
func validPrefix(at, prefix string) error {
	if prefix == "" {
		return nil
	}
	if len(prefix) > prefixBytesMax {
		return fmt.Errorf("%s: longer than %d bytes", at, prefixBytesMax)
	}
	if strings.ContainsFunc(prefix, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return fmt.Errorf("%s: %q holds a control character or a backslash", at, prefix)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%s: %q: want names with single slashes between them, such as \"backups/app\"", at, prefix)
		}
		if len(part) > 255 {
			return fmt.Errorf("%s: %q has a part of more than 255 bytes", at, prefix)
		}
	}
	return nil
}

// ValidateTargets is [TargetConfig.Validate] for a whole list, of which no two may use one place
// for manifests: they would take each other for another writer. Nor may one keep its chunks where
// another has its manifests. at names the list.
func ValidateTargets(at string, cfgs []TargetConfig) error {
	manifestsOf := make(map[string]int)
	chunksOf := make(map[string]int)
	for i, c := range cfgs {
		here := fmt.Sprintf("%s[%d]", at, i)
		if err := c.Validate(here); err != nil {
			return err
		}
		chunks, manifests := c.identity()
		if manifests == "" {
			continue
		}
		for _, clash := range []struct {
			place string
			known map[string]int
			what  string
		}{
			{manifests, manifestsOf, "is the same place as %s[%d]"},
			{manifests, chunksOf, "keeps its manifests where %s[%d] has its chunks"},
			{chunks, manifestsOf, "keeps its chunks where %s[%d] has its manifests"},
		} {
			if j, ok := clash.known[clash.place]; ok {
				return fmt.Errorf("%s: "+clash.what+": give it another bucket, prefix or path", here, at, j)
			}
		}
		manifestsOf[manifests], chunksOf[chunks] = i, i
	}
	return nil
}

// identity names the places of a target's chunks and manifests; empty if c is a cache.
func (c TargetConfig) identity() (chunks, manifests string) {
	switch {
	case c.S3 != nil:
		_, endpoint := c.S3.place() // of AWS, a bucket's name says where it is
		inChunks, inManifests := c.S3.places()
		endpoint = "s3 " + strings.TrimRight(strings.ToLower(endpoint), "/") + " "
		return endpoint + inChunks.String(), endpoint + inManifests.String()
	case c.Dir != nil:
		path := "dir " + filepath.Clean(c.Dir.Path)
		return path + "/chunks", path + "/manifests"
	}
	return "", ""
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
