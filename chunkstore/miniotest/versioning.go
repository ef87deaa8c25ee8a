package miniotest

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Client returns the SDK's client of the server at endpoint, which may do everything.
func Client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint,
		Region:       "minio",
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
		UsePathStyle: true,
	})
}

// MakeLocked makes a bucket of the server at endpoint in which no version of an object can be
// deleted for a day, in compliance mode: not even by who owns it.
func MakeLocked(tb testing.TB, endpoint, bucket string) {
	tb.Helper()
	client := Client(endpoint)
	_, err := client.CreateBucket(tb.Context(), &s3.CreateBucketInput{
		Bucket: &bucket, ObjectLockEnabledForBucket: aws.Bool(true),
	})
	if err == nil {
		in := s3.PutObjectLockConfigurationInput{
			Bucket: &bucket,
			ObjectLockConfiguration: &types.ObjectLockConfiguration{
				ObjectLockEnabled: types.ObjectLockEnabledEnabled,
				Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
					Mode: types.ObjectLockRetentionModeCompliance, Days: aws.Int32(1),
				}},
			},
		}
		_, err = client.PutObjectLockConfiguration(tb.Context(), &in)
	}
	if err != nil {
		tb.Fatalf("object lock of %s: %v", bucket, err)
	}
}

// EnableVersioning makes a bucket of the server at endpoint keep what is replaced.
func EnableVersioning(tb testing.TB, endpoint, bucket string) {
	tb.Helper()
	_, err := Client(endpoint).PutBucketVersioning(tb.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(bucket),
		VersioningConfiguration: &types.VersioningConfiguration{
			Status: types.BucketVersioningStatusEnabled,
		},
	})
	if err != nil {
		tb.Fatalf("versioning of %s: %v", bucket, err)
	}
}
