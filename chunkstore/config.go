package chunkstore

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
