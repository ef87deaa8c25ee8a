package miniotest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// EnableVersioning makes a bucket of the server at endpoint keep what is replaced.
func EnableVersioning(tb testing.TB, endpoint, bucket string) {
	tb.Helper()
	client := s3.New(s3.Options{
		BaseEndpoint: &endpoint,
		Region:       "minio",
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
		UsePathStyle: true,
	})
	_, err := client.PutBucketVersioning(tb.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(bucket),
		VersioningConfiguration: &types.VersioningConfiguration{
			Status: types.BucketVersioningStatusEnabled,
		},
	})
	if err != nil {
		tb.Fatalf("versioning of %s: %v", bucket, err)
	}
}
