package chunkstore_test

import (
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
)

func s3Target(endpoint string) chunkstore.TargetConfig {
	return chunkstore.TargetConfig{S3: &chunkstore.S3Config{
		Region: "minio", Endpoint: endpoint,
		ChunkBucket: "chunks", ManifestBucket: "manifests",
		CreateBucketsOnDemand: true,
	}}
}

func TestS3Conformance(t *testing.T) {
	endpoint := miniotest.Start(t)
	testTarget(t, open(t, s3Target(endpoint)).Targets[0])
}
