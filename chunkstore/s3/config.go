package s3

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"verneuil/chunkstore"
)

func init() { chunkstore.Register(func() chunkstore.TargetConfig { return new(Config) }) }

// Config is one bucket, or a pair of buckets, of an S3-compatible store. Where both are one,
// chunks and manifests lie under prefixes of their own: see doc.go. Credentials never stand here:
// they come from the AWS SDK's default chain.
type Config struct {
	Region         string `json:"region"`
	Endpoint       string `json:"endpoint,omitempty"`
	Bucket         string `json:"bucket,omitempty"` // excludes the next two
	ChunkBucket    string `json:"chunk_bucket,omitempty"`
	ManifestBucket string `json:"manifest_bucket,omitempty"`
	// of all keys; a slash at its end is implied
	Prefix                string `json:"prefix,omitempty"`
	DomainAddressing      bool   `json:"domain_addressing"`
	CreateBucketsOnDemand bool   `json:"create_buckets_on_demand,omitempty"`
	// the bodies of Puts from the start, not only once the store wants it
	SignPayload bool `json:"sign_payload,omitempty"`

	backoff time.Duration // between the attempts of a request, in tests; 0: backoffDefault
}

// Kind is the provider's name in JSON.
func (c *Config) Kind() string { return "s3" }

// Validate checks what JSON types cannot: see [chunkstore.TargetConfig].
func (c *Config) Validate(at string) error {
	_, endpoint := c.place()
	return cmp.Or(
		chunkstore.Missing(at+".region", c.Region),
		c.validBuckets(at),
		validPrefix(at+".prefix", c.Prefix),
		validEndpoint(at, c.Endpoint, endpoint))
}

func (c *Config) validBuckets(at string) error {
	two := c.ChunkBucket != "" || c.ManifestBucket != ""
	switch {
	case c.Bucket != "" && two:
		return fmt.Errorf("%s.bucket: excludes chunk_bucket and manifest_bucket", at)
	case c.Bucket != "":
		return bucketName(at+".bucket", c.Bucket)
	case !two:
		return fmt.Errorf("%s.bucket: missing: want bucket, or chunk_bucket and manifest_bucket",
			at)
	}
	return cmp.Or(
		chunkstore.Missing(at+".chunk_bucket", c.ChunkBucket),
		chunkstore.Missing(at+".manifest_bucket", c.ManifestBucket),
		bucketName(at+".chunk_bucket", c.ChunkBucket),
		bucketName(at+".manifest_bucket", c.ManifestBucket))
}

// What the keys of the two kinds of object begin with, after the prefix, where one bucket holds
// both.
const (
	chunksPrefix    = "chunks/"
	manifestsPrefix = "manifests/"
)

// place is where one kind of object lies: in a bucket, under keys that begin with prefix, which
// is empty or ends in a slash.
type place struct{ bucket, prefix string }

func (p place) String() string {
	if p.prefix == "" {
		return p.bucket
	}
	return p.bucket + "/" + p.prefix
}

// Places names where chunks and manifests lie: see [chunkstore.TargetOpener].
func (c *Config) Places() (chunks, manifests string) {
	_, endpoint := c.place() // of AWS, a bucket's name says where it is
	inChunks, inManifests := c.places()
	endpoint = "s3 " + strings.TrimRight(strings.ToLower(endpoint), "/") + " "
	return endpoint + inChunks.String(), endpoint + inManifests.String()
}

// places returns where the chunks and the manifests of a valid c lie.
func (c *Config) places() (chunks, manifests place) {
	prefix := c.Prefix
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	chunks = place{cmp.Or(c.Bucket, c.ChunkBucket), prefix}
	manifests = place{cmp.Or(c.Bucket, c.ManifestBucket), prefix}
	if chunks == manifests {
		chunks.prefix += chunksPrefix
		manifests.prefix += manifestsPrefix
	}
	return chunks, manifests
}

// prefixBytesMax leaves room for our own part of a key: S3 allows 1,024 bytes in all.
const prefixBytesMax = 512

// validPrefix refuses what some stores do not take for part of a key (MinIO:
// XMinioInvalidObjectName).
func validPrefix(at, prefix string) error {
	if prefix == "" {
		return nil
	}
	if len(prefix) > prefixBytesMax {
		return fmt.Errorf("%s: longer than %d bytes", at, prefixBytesMax)
	}
	if strings.ContainsFunc(prefix, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\\'
	}) {
		return fmt.Errorf("%s: %q holds a control character or a backslash", at, prefix)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%s: %q: want names with single slashes between them, "+
				"such as \"backups/app\"", at, prefix)
		}
		if len(part) > 255 {
			return fmt.Errorf("%s: %q has a part of more than 255 bytes", at, prefix)
		}
	}
	return nil
}

// place returns the region and the endpoint, which is empty for AWS's own. A
// region of our own without an endpoint contains it: "minio.example.com" is the
// region "minio" at https://example.com. AWS's names contain no dot.
func (c *Config) place() (region, endpoint string) {
	if c.Endpoint != "" {
		return c.Region, c.Endpoint
	}
	region, host, found := strings.Cut(c.Region, ".")
	if !found {
		return region, ""
	}
	return region, "https://" + host
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
		return fmt.Errorf("%s: credentials do not belong here; "+
			"they come from the AWS credential chain", key)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		strings.ContainsAny(endpoint, "?#"):
		// nor its text: it may hold a secret
		return fmt.Errorf("%s: want http://HOST[:PORT] or https://HOST[:PORT]", key)
	}
	// There are services with a longer path. One name is a bucket's: of a bucket below it, objects
	// could be put and read, but not listed.
	if path := strings.Trim(u.Path, "/"); path != "" && !strings.Contains(path, "/") {
		return fmt.Errorf("%s: it ends with the path /%s: leave that out; a bucket is named by "+
			"bucket, or by chunk_bucket and manifest_bucket", key, path)
	}
	return nil
}
