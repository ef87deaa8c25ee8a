package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"verneuil/chunkstore"
)

const (
	contentType = "application/octet-stream"

	// copyMax is how long the copy of a chunk may take; one that took longer is
	// taken for none, and the chunk is put.
	copyMax = 10 * time.Second
)

// bucket is one bucket of an S3-compatible store, or those of its keys that begin with prefix.
type bucket struct {
	name     string
	prefix   string // before each key, in the store only; empty, or ends in a slash
	client   *client
	exists   atomic.Bool // it has been seen
	making   sync.Mutex
	noConds  atomic.Bool // the store does not know conditional Puts
	proved   atomic.Bool // it was seen to keep them
	looks    atomic.Bool // it was seen not to: whoever puts looks first
	noCopies atomic.Bool // the store does not copy an object onto itself
}

// NewBucket returns the bucket called name of the store that c describes,
// whose own bucket names, prefix and create_buckets_on_demand do not matter: keys are the store's.
// It sends no request, and its requests are paced and counted by themselves.
func NewBucket(c Config, name string, o chunkstore.Options) (chunkstore.Bucket, error) {
	c.Bucket, c.Prefix, c.CreateBucketsOnDemand = name, "", false
	c.ChunkBucket, c.ManifestBucket = "", ""
	if err := c.Validate("s3"); err != nil {
		return nil, err
	}
	limit := chunkstore.NewLimiter(o.CallsPerSecond, o.Burst)
	return newBucket(place{bucket: name}, newClient(c, limit, o.WithDefaults())), nil
}

func newBucket(at place, client *client) *bucket {
	return &bucket{name: at.bucket, prefix: at.prefix, client: client}
}

// Open makes the target of c: see [chunkstore.TargetOpener].
func (c *Config) Open(limit *chunkstore.Limiter, o chunkstore.Options) (*chunkstore.Target, error) {
	client := newClient(*c, limit, o)
	chunks, manifests := c.places()
	name := fmt.Sprintf("s3 buckets %s and %s %s", chunks, manifests, client.where())
	if chunks.bucket == manifests.bucket {
		both := place{chunks.bucket, strings.TrimSuffix(chunks.prefix, chunksPrefix)}
		name = fmt.Sprintf("s3 bucket %s %s", both, client.where())
	}
	return chunkstore.NewTarget(name, newBucket(chunks, client), newBucket(manifests, client)), nil
}

func (c *client) where() string {
	if c.endpoint == "" {
		return "in " + c.region
	}
	return "at " + c.endpoint
}

func (b *bucket) String() string {
	return fmt.Sprintf("s3 bucket %s %s", place{b.name, b.prefix}, b.client.where())
}

// full returns the key in the store of the object called key.
func (b *bucket) full(key string) *string { return aws.String(b.prefix + key) }

// do calls send with a client, and translates its error. If the store refuses the credentials, and
// there are others by now, it calls send again.
func (b *bucket) do(ctx context.Context, what string, r *request,
	send func(context.Context, *s3.Client) error) error {
	session, err := b.client.get(ctx)
	if err != nil {
		return err
	}
	r.sent = func() *chunkstore.Request {
		return b.client.waits.Begin(b, what, b.client.options.Timeout, r.bytes)
	}
	asked := *r
	translated := b.send(ctx, r, session, send)
	if translated.refusesCredentials(r.head) && ctx.Err() == nil {
		if fresh := b.client.renew(ctx, session); fresh != nil {
			*r = asked
			if translated = b.send(ctx, r, fresh, send); !translated.refusesCredentials(r.head) {
				b.client.options.Log.Warn("the store refused the credentials; "+
					"they have changed, and were read again", "bucket", b.String())
			}
		}
	}
	switch {
	case translated == nil:
		b.exists.Store(true)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case translated.kind == chunkstore.ErrNoBucket:
		b.exists.Store(false)
	case translated.kind != nil && translated.code != codeOfPage:
		b.exists.Store(true)
	}
	return translated
}

func (b *bucket) send(ctx context.Context, r *request, session *session,
	send func(context.Context, *s3.Client) error) *answerError {
	err := send(withRequest(ctx, r), session.Client)
	if err == nil {
		r.wait.End(true)
		return nil
	}
	translated := asAnswerError(err, r.attempts, r.head)
	r.wait.End(translated.status != 0)
	return translated
}

func (b *bucket) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %v: %w", verb, key, b, err)
}

func (b *bucket) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o, err := b.get(ctx, key, &s3.GetObjectInput{}, opts)
	return o, b.wrap("get", key, err)
}

// get gets the object called key; in says what else the request has.
func (b *bucket) get(ctx context.Context, key string, in *s3.GetObjectInput,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	in.Bucket, in.Key = &b.name, b.full(key)
	r := &request{object: true, bytes: cmp.Or(opts.Length, opts.About), bodyMax: opts.Limit(),
		part: opts.Length}
	if opts.IfNoneMatch != "" {
		in.IfNoneMatch = &opts.IfNoneMatch
	}
	end := opts.Offset + opts.Length
	if opts.Length > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", opts.Offset, end-1))
	}
	var out *s3.GetObjectOutput
	err := b.do(ctx, "get "+key, r, func(ctx context.Context, client *s3.Client) (err error) {
		out, err = client.GetObject(ctx, in)
		return err
	})
	if err == nil && r.tooLong {
		err = fmt.Errorf("%w: more than %d bytes", chunkstore.ErrCorrupt, r.bodyMax)
	}
	if err != nil {
		return chunkstore.Object{}, b.client.missing(err)
	}
	o := chunkstore.Object{Key: key, Body: r.body, Bytes: int64(len(r.body)),
		ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}
	if opts.Length > 0 {
		return part(o, opts, aws.ToString(out.ContentRange))
	}
	return o, nil
}

// part is the answer to a Get of a part. A store that knows no ranges answers with the whole.
func part(o chunkstore.Object, opts chunkstore.GetOptions,
	contentRange string) (chunkstore.Object, error) {
	end := opts.Offset + opts.Length
	o.ETag = ""
	if contentRange == "" && int64(len(o.Body)) >= end {
		o.Body = o.Body[opts.Offset:end]
		return o, nil
	}
	want := fmt.Sprintf("bytes %d-%d/", opts.Offset, end-1)
	size, ok := strings.CutPrefix(contentRange, want)
	if !ok || int64(len(o.Body)) != opts.Length {
		return chunkstore.Object{}, fmt.Errorf("%w: %d bytes with the range %q, not %s",
			chunkstore.ErrCorrupt, len(o.Body), contentRange, want)
	}
	o.Bytes, _ = strconv.ParseInt(size, 10, 64) // 0 if the store does not say
	return o, nil
}

// Put makes the bucket if it is missing and may be made. What a store refuses in a Put (conditions,
// a body that is not signed) it leaves out, and remembers.
func (b *bucket) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	etag, _, err := b.PutDated(ctx, key, body, cond)
	return etag, err
}

// stored is what a Put has stored. at is the Date of its answer (RFC 9110, 6.6.1); zero: it has
// none, or it was another request by which that is known.
type stored struct {
	etag string
	at   time.Time
}

// PutDated: see [chunkstore.Dated].
func (b *bucket) PutDated(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, time.Time, error) {
	p := putRequest{key: key, body: body, cond: cond, sum: b.client.sums.next(),
		signed: b.client.signs.Load() || b.client.config.SignPayload}
	if b.noConds.Load() {
		p.cond = chunkstore.Condition{}
	}
	if cond != (chunkstore.Condition{}) && b.looks.Load() {
		if err := b.lookFirst(ctx, key, cond); err != nil {
			return "", time.Time{}, b.wrap("put", key, err)
		}
	}
	o, err := b.putAsAllowed(ctx, p)
	if refusesSum(err) && p.sum.crc {
		p.sum = sum{md5: true}
		if o, err = b.putAsAllowed(ctx, p); !refusesSum(err) {
			b.leaveOutCRC("refused")
		}
	}
	if refusesUnsigned(err) && !p.signed && b.client.mayTrySigned() {
		p.signed = true
		signed, signedErr := b.putAsAllowed(ctx, p)
		if b.client.triedSigned(b, signedErr) {
			o, err = signed, signedErr
		}
	}
	return o.etag, o.at, b.wrap("put", key, err)
}

// putAsAllowed leaves p's condition out if the store knows none.
func (b *bucket) putAsAllowed(ctx context.Context, p putRequest) (stored, error) {
	o, err := b.put(ctx, p)
	if !notImplemented(err) || p.cond == (chunkstore.Condition{}) {
		return o, err
	}
	p.cond = chunkstore.Condition{}
	if o, err = b.put(ctx, p); err == nil && !b.noConds.Swap(true) {
		b.client.options.Log.Warn("store has no conditional writes: "+
			"a second writer under the same name will not be noticed", "bucket", b.String())
	}
	return o, err
}

// put stores p as it says, and makes the bucket if it must.
func (b *bucket) put(ctx context.Context, p putRequest) (stored, error) {
	o, err := b.putOnce(ctx, p)
	if errors.Is(err, chunkstore.ErrNoBucket) && b.client.config.CreateBucketsOnDemand {
		if err := b.create(ctx); err != nil {
			return stored{}, fmt.Errorf("create the bucket: %w", err)
		}
		o, err = b.putOnce(ctx, p)
	}
	if errors.Is(err, chunkstore.ErrConflict) &&
		p.cond.IfMatch != chunkstore.BareETag(p.cond.IfMatch) && !b.client.bareETags.Load() {
		return putBare(ctx, b, p, err)
	}
	return o, err
}

// notImplemented: the store answers so to a header, or an operation, that it does not know.
func notImplemented(err error) bool {
	var e *answerError
	return errors.As(err, &e) && (e.status == http.StatusNotImplemented ||
		e.code == "NotImplemented")
}

// putRequest is one way to ask for a Put.
type putRequest struct {
	key    string
	body   []byte
	cond   chunkstore.Condition
	sum    sum
	signed bool // the whole body is; else its checksum
	bare   bool // If-Match has no quotes
}

func (b *bucket) putOnce(ctx context.Context, p putRequest) (o stored, err error) {
	in := &s3.PutObjectInput{
		Bucket:        &b.name,
		Key:           b.full(p.key),
		ContentLength: aws.Int64(int64(len(p.body))),
		ContentType:   aws.String(contentType),
	}
	p.sum.addTo(in, p.body)
	if p.cond.IfNone {
		in.IfNoneMatch = aws.String("*")
	} else if p.cond.IfMatch != "" {
		in.IfMatch = &p.cond.IfMatch
		if p.bare || b.client.bareETags.Load() {
			in.IfMatch = aws.String(chunkstore.BareETag(p.cond.IfMatch))
		}
	}
	r := &request{puts: p.body, object: true, bytes: int64(len(p.body)), unsigned: !p.signed}
	var out *s3.PutObjectOutput
	err = b.do(ctx, "put "+p.key, r, func(ctx context.Context, client *s3.Client) (err error) {
		in.Body = bytes.NewReader(p.body)
		out, err = client.PutObject(ctx, in)
		return err
	})
	switch {
	case err == nil:
		if p.sum.crc {
			if *in.ChecksumCRC32C == aws.ToString(out.ChecksumCRC32C) {
				b.client.sums.checksCRC.Store(true)
			} else {
				b.leaveOutCRC("ignored")
			}
		}
		o.etag = aws.ToString(out.ETag)
		o.at, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
		return o, nil
	case errors.Is(err, chunkstore.ErrAbsent): // S3's answer to If-Match where there is no object
		return o, fmt.Errorf("%w: %v", chunkstore.ErrConflict, err)
	case errors.Is(err, chunkstore.ErrConflict) && r.attempts > 1:
		return ownPut(ctx, b, p.key, p.body, err)
	}
	return o, err
}

// ownPut decides about a conflict after a retry: the first attempt may have been
// carried out and its answer lost, so that we are in conflict with ourselves.
func ownPut(ctx context.Context, b *bucket, key string, body []byte,
	conflict error) (stored, error) {
	present, err := b.Get(ctx, key, chunkstore.GetOptions{BytesMax: max(1, int64(len(body)))})
	if err == nil && bytes.Equal(present.Body, body) {
		return stored{etag: present.ETag}, nil
	}
	return stored{}, conflict
}

// create makes the bucket. Somebody else may do so at the same time.
func (b *bucket) create(ctx context.Context) error {
	b.making.Lock()
	defer b.making.Unlock()
	if b.exists.Load() {
		return nil
	}
	in := &s3.CreateBucketInput{Bucket: &b.name}
	// AWS wants it so; others have names of their own
	if b.client.endpoint == "" && b.client.region != "us-east-1" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(b.client.region),
		}
	}
	err := b.do(ctx, "create the bucket", &request{},
		func(ctx context.Context, client *s3.Client) error {
			_, err := client.CreateBucket(ctx, in)
			return err
		})
	var e *answerError
	if errors.As(err, &e) && (e.code == "BucketAlreadyOwnedByYou" ||
		e.code == "BucketAlreadyExists") {
		err = nil // if it is somebody else's, the Put will say so
	}
	if err == nil {
		b.exists.Store(true)
	}
	return err
}

// Stat: the answer to a HEAD has no body that could tell a missing object from a
// missing bucket, so that it takes a second request as long as the bucket has
// not been seen.
func (b *bucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	var out *s3.HeadObjectOutput
	err := b.do(ctx, "stat "+key, &request{object: true, head: true},
		func(ctx context.Context, client *s3.Client) (err error) {
			out, err = client.HeadObject(ctx,
				&s3.HeadObjectInput{Bucket: &b.name, Key: b.full(key)})
			return err
		})
	if errors.Is(err, chunkstore.ErrAbsent) && !b.exists.Load() {
		headErr := b.do(ctx, "stat "+key, &request{head: true},
			func(ctx context.Context, client *s3.Client) error {
				_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
				return err
			})
		if errors.Is(headErr, chunkstore.ErrAbsent) {
			err = chunkstore.ErrNoBucket
		}
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("stat", key, b.client.missing(err))
	}
	return chunkstore.Object{Key: key, Bytes: aws.ToInt64(out.ContentLength),
		ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}, nil
}

// Touch copies the object onto itself, within the store. S3 wants something to change
// then: that metadata is replaced, by what Put gives. It fails with
// errors.ErrUnsupported if the store cannot do that, or will not (S3Mock, or a policy), or does it
// and leaves the object as old as it was (versitygw). What it refuses as a kind of request is not
// asked for again.
func (b *bucket) Touch(ctx context.Context, key string) error {
	if b.noCopies.Load() {
		return b.wrap("touch", key, errors.ErrUnsupported)
	}
	// Escaped but for its slashes: s3rver takes an escaped one for a part of the name.
	source := strings.NewReplacer("+", "%20", "%2F",
		"/").Replace(url.QueryEscape(b.name + "/" + b.prefix + key))
	var out *s3.CopyObjectOutput
	err := b.do(ctx, "touch "+key, &request{},
		func(ctx context.Context, client *s3.Client) (err error) {
			out, err = client.CopyObject(ctx, &s3.CopyObjectInput{
				Bucket: &b.name, Key: b.full(key), CopySource: &source,
				MetadataDirective: types.MetadataDirectiveReplace,
				ContentType:       aws.String(contentType),
			})
			if err == nil && out.CopyObjectResult == nil {
				err = errForeign
			}
			return err
		})
	var refused *answerError
	if err == nil && !copiedNow(out) {
		err = errors.ErrUnsupported
	} else if errors.As(err, &refused) && refused.refusesCopy() {
		if refused.status != http.StatusForbidden && !b.noCopies.Swap(true) {
			b.client.options.Log.Info("store does not copy an object onto itself: "+
				"objects are read and put again to keep them from expiring",
				"bucket", b.String(), "error", refused)
		}
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return b.wrap("touch", key, b.client.missing(err))
}

// refusesCopy: the store has understood the request for a copy, and will not do it. It may still
// take the object anew.
func (e *answerError) refusesCopy() bool {
	switch e.status {
	case http.StatusBadRequest, http.StatusForbidden,
		http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return e.kind == nil && !e.refusesCredentials(false)
	}
	return false
}

// copiedNow: by the store's own clock, the copy is as young as its answer.
func copiedNow(out *s3.CopyObjectOutput) bool {
	now, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	return ok && out.CopyObjectResult != nil &&
		now.Sub(aws.ToTime(out.CopyObjectResult.LastModified)) < copyMax
}

// List takes a request per 1,000 objects. No key of ours has a slash after the bucket's prefix:
// what has one is another target's, or a folder that a console has made.
func (b *bucket) List(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: b.full(prefix),
		Delimiter: aws.String("/")}
	for {
		var out *s3.ListObjectsV2Output
		err := b.do(ctx, "list "+prefix+"*", &request{},
			func(ctx context.Context, client *s3.Client) (err error) {
				if out, err = client.ListObjectsV2(ctx, in); err == nil && out.Name == nil {
					err = errForeign
				}
				return err
			})
		if err = b.client.missingList(err); errors.Is(err, chunkstore.ErrAbsent) {
			return nil
		} else if err != nil {
			return b.wrap("list", prefix+"*", err)
		}
		for _, o := range out.Contents {
			key, ok := strings.CutPrefix(aws.ToString(o.Key), b.prefix)
			if !ok || key == "" || key == chunkstore.MarkerKey || strings.Contains(key, "/") {
				continue
			}
			if !yield(chunkstore.Object{Key: key, Bytes: aws.ToInt64(o.Size),
				ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified)}) {
				return nil
			}
		}
		if !aws.ToBool(out.IsTruncated) || out.NextContinuationToken == nil {
			return nil
		}
		if aws.ToString(in.ContinuationToken) == *out.NextContinuationToken {
			return b.wrap("list", prefix+"*", fmt.Errorf("%w: the list does not go on", errForeign))
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	err := b.do(ctx, "delete "+key, &request{}, func(ctx context.Context, client *s3.Client) error {
		_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.full(key)})
		return err
	})
	if err = b.client.missing(err); errors.Is(err, chunkstore.ErrAbsent) {
		return nil
	}
	return b.wrap("delete", key, err)
}
