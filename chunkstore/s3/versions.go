package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"verneuil/chunkstore"
)

// ListVersions takes a request per 1,000 versions. The version's ID is S3's; where the
// bucket's versioning is off, the present object is called "null".
func (b *bucket) ListVersions(ctx context.Context, key string,
	yield func(chunkstore.Object) bool) error {
	in := &s3.ListObjectVersionsInput{Bucket: &b.name, Prefix: b.full(key)}
	for {
		var out *s3.ListObjectVersionsOutput
		err := b.do(ctx, "list versions of "+key, &request{},
			func(ctx context.Context, client *s3.Client) (err error) {
				if out, err = client.ListObjectVersions(ctx, in); err == nil && out.Name == nil {
					err = errForeign
				}
				return err
			})
		if err = b.client.missingList(err); errors.Is(err, chunkstore.ErrAbsent) {
			return nil
		} else if err != nil {
			return b.wrap("list versions of", key, err)
		}
		for _, v := range out.Versions {
			// key is a prefix of another's; keys come in their order
			if aws.ToString(v.Key) != b.prefix+key {
				return nil
			}
			o := chunkstore.Object{Key: key, Bytes: aws.ToInt64(v.Size), ETag: aws.ToString(v.ETag),
				Modified: aws.ToTime(v.LastModified), Version: aws.ToString(v.VersionId)}
			if !yield(o) {
				return nil
			}
		}
		if !aws.ToBool(out.IsTruncated) || out.NextKeyMarker == nil {
			return nil
		}
		if aws.ToString(in.KeyMarker) == *out.NextKeyMarker &&
			aws.ToString(in.VersionIdMarker) == aws.ToString(out.NextVersionIdMarker) {
			return b.wrap("list versions of", key,
				fmt.Errorf("%w: the list does not go on", errForeign))
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
}

// nullVersion is the version that was put while versioning was off, which may be the present one.
const nullVersion = "null"

// GetVersion: some stores without versioning list the present object as "null", and
// refuse to give it by that name (versitygw).
func (b *bucket) GetVersion(ctx context.Context, key, version string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o, err := b.get(ctx, key, &s3.GetObjectInput{VersionId: &version}, opts)
	var refused *answerError
	if version == nullVersion && errors.As(err, &refused) &&
		refused.status == http.StatusBadRequest && refused.code == "InvalidArgument" {
		o, err = b.get(ctx, key, &s3.GetObjectInput{}, opts)
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("get version "+version+" of", key, err)
	}
	o.Version = version
	return o, nil
}
