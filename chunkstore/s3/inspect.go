package s3

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"verneuil/chunkstore"
)

// inspection is one run of Inspect.
type inspection struct {
	b *bucket
	t chunkstore.Traits
}

// Inspect is that of [chunkstore.Inspector].
func (b *bucket) Inspect(ctx context.Context, key string,
	write bool) (t chunkstore.Traits, err error) {
	i := &inspection{b: b}
	for _, ask := range []struct {
		what string
		ask  func(ctx context.Context, client *s3.Client) error
	}{
		{"versioning", i.versioning}, {"object lock", i.lock}, {"lifecycle rules", i.lifecycle},
	} {
		err := b.do(ctx, "inspect "+ask.what, &request{}, ask.ask)
		var e *answerError
		switch {
		case err == nil:
		case errors.Is(err, chunkstore.ErrNoBucket) || !errors.As(err, &e) || e.status == 0:
			return i.t, b.wrap("inspect", ask.what, err)
		case e.status == http.StatusNotFound: // S3's answer where there is none
		default:
			i.t.Unknown = append(i.t.Unknown, ask.what)
		}
	}
	if err := i.public(ctx, key); err != nil {
		return i.t, b.wrap("inspect", "access", err)
	}
	if write {
		err = i.write(ctx, key)
	}
	return i.t, b.wrap("inspect", key, err)
}

func (i *inspection) versioning(ctx context.Context, client *s3.Client) error {
	began := time.Now()
	out, err := client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &i.b.name})
	if err != nil {
		return err
	}
	i.t.Versioned = out.Status == types.BucketVersioningStatusEnabled
	i.date(began, out.ResultMetadata)
	return nil
}

// date notes how far the store's clock is from ours: its answer, in whole seconds, was made at some
// time since began.
func (i *inspection) date(began time.Time, metadata middleware.Metadata) {
	at, ok := awsmiddleware.GetServerTime(metadata)
	now := time.Now()
	switch {
	case !ok:
	case at.Before(began.Add(-time.Second)):
		i.t.Skew = at.Sub(began)
	case at.After(now):
		i.t.Skew = at.Sub(now)
	}
}

func (i *inspection) lock(ctx context.Context, client *s3.Client) error {
	out, err := client.GetObjectLockConfiguration(ctx,
		&s3.GetObjectLockConfigurationInput{Bucket: &i.b.name})
	if err != nil || out.ObjectLockConfiguration == nil ||
		out.ObjectLockConfiguration.Rule == nil ||
		out.ObjectLockConfiguration.Rule.DefaultRetention == nil {
		return err
	}
	r := out.ObjectLockConfiguration.Rule.DefaultRetention
	i.t.Lock = string(r.Mode)
	i.t.LockDays = int(aws.ToInt32(r.Days)) + 365*int(aws.ToInt32(r.Years))
	return nil
}

func (i *inspection) lifecycle(ctx context.Context, client *s3.Client) error {
	out, err := client.GetBucketLifecycleConfiguration(ctx,
		&s3.GetBucketLifecycleConfigurationInput{Bucket: &i.b.name})
	if err != nil {
		return err
	}
	for _, r := range out.Rules {
		if r.Status != types.ExpirationStatusEnabled || !i.concerns(r) {
			continue
		}
		id := aws.ToString(r.ID)
		if r.Expiration != nil {
			days := int(aws.ToInt32(r.Expiration.Days))
			if at := r.Expiration.Date; at != nil {
				days = max(1, int(time.Until(*at).Hours()/24))
			}
			if days > 0 {
				i.t.Expiry = append(i.t.Expiry, chunkstore.Expiry{ID: id, Days: days})
			}
		}
		if n := r.NoncurrentVersionExpiration; n != nil {
			i.t.Expiry = append(i.t.Expiry, chunkstore.Expiry{ID: id,
				Days: int(aws.ToInt32(n.NoncurrentDays)), Noncurrent: true})
		}
	}
	return nil
}

// concerns reports whether a rule may be about objects of ours, which have no tags.
func (i *inspection) concerns(r types.LifecycleRule) bool {
	prefix := aws.ToString(r.Prefix) //nolint:staticcheck // rules of old have it
	if f := r.Filter; f != nil {
		if f.Tag != nil || f.And != nil && len(f.And.Tags) > 0 {
			return false
		}
		if f.And != nil {
			prefix = aws.ToString(f.And.Prefix)
		} else if f.Prefix != nil {
			prefix = *f.Prefix
		}
	}
	return strings.HasPrefix(i.b.prefix, prefix) || strings.HasPrefix(prefix, i.b.prefix)
}

// unsigned leaves the credentials out.
func unsigned(stack *middleware.Stack) error {
	_, err := stack.Finalize.Remove("Signing")
	return err
}

// public asks for the object called key, or the bucket's marker, as anybody may.
func (i *inspection) public(ctx context.Context, key string) error {
	for _, key := range []string{key, chunkstore.MarkerKey} {
		err := i.b.do(ctx, "inspect access", &request{object: true, bodyMax: 1 << 20},
			func(ctx context.Context, client *s3.Client) error {
				_, err := client.GetObject(ctx,
					&s3.GetObjectInput{Bucket: &i.b.name, Key: i.b.full(key)},
					s3.WithAPIOptions(unsigned))
				return err
			})
		if err == nil {
			i.t.Public = true
		}
		var e *answerError
		if err != nil && (!errors.As(err, &e) || e.status == 0) {
			return err
		}
	}
	return nil
}

// write puts an object whose checksum is that of other bytes, and one whose checksum is right, of
// which it gets a part.
func (i *inspection) write(ctx context.Context, key string) error {
	body := []byte("verneuilctl doctor, an object that may be deleted\n")
	in := &s3.PutObjectInput{Bucket: &i.b.name, Key: i.b.full(key),
		ContentLength: aws.Int64(int64(len(body)))}
	sum{md5: true, crc: true}.addTo(in, append([]byte("damaged "), body...))
	r := &request{object: true, bytes: int64(len(body)), unsigned: !i.b.client.signs.Load()}
	err := i.b.do(ctx, "put "+key, r, func(ctx context.Context, client *s3.Client) (err error) {
		in.Body = bytes.NewReader(body)
		_, err = client.PutObject(ctx, in)
		return err
	})
	var e *answerError
	switch {
	case err == nil:
		i.t.TakesDamage = true
	case !errors.As(err, &e) || e.status == 0:
		return err
	}
	if _, err := i.b.Put(ctx, key, body, chunkstore.Condition{}); err != nil {
		return err
	}
	part := &s3.GetObjectInput{Bucket: &i.b.name, Key: i.b.full(key),
		Range: aws.String("bytes=2-5")}
	return i.b.do(ctx, "get "+key, &request{object: true, bodyMax: 1 << 20, part: 4},
		func(ctx context.Context, client *s3.Client) error {
			out, err := client.GetObject(ctx, part)
			if err == nil {
				i.t.IgnoresRanges = aws.ToString(out.ContentRange) == ""
			}
			return err
		})
}
