package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The kinds of error that decide what happens next; test with [errors.Is].
var (
	// ErrAbsent: there is no object of that key.
	ErrAbsent = errors.New("not found")
	// ErrNoBucket: the bucket itself is missing, and may not be created. It is a
	// matter of configuration, and is never ErrAbsent: nobody may conclude from it
	// that there is no such object. (A bucket that Put would create is empty.)
	ErrNoBucket = errors.New("no such bucket: make it, or set create_buckets_on_demand")
	// ErrDenied: the credentials do not allow it. Those that may get objects and not list them
	// are told so of an object that is absent, too (AWS). It is no fault of the object.
	ErrDenied = errors.New("access denied")
	// ErrCorrupt: the object is there, but its bytes are not what they must be.
	ErrCorrupt = errors.New("corrupt")
	// ErrConflict: a conditional Put found another object than it expected.
	ErrConflict = errors.New("changed by another writer")
	// ErrUnmodified: a conditional Get found the object that the caller has.
	ErrUnmodified = errors.New("not modified")
)

// Bucket is a flat store of named objects, in S3's words. Implementations are
// safe for concurrent use, and every method takes a token of the limiter for
// each request that it sends (I4).
type Bucket interface {
	// Get returns the whole object. It fails with ErrAbsent, with ErrUnmodified
	// if opts.IfNoneMatch is the object's ETag, and with ErrCorrupt if the
	// object is longer than opts.BytesMax.
	Get(ctx context.Context, key string, opts GetOptions) (Object, error)
	// Put stores body under key, whole or not at all, durably when it returns
	// nil. It fails with ErrConflict if cond does not hold. The ETag returned is
	// that of the new object. body is not retained. After an error that is none of
	// the kinds, the object may have been stored all the same.
	Put(ctx context.Context, key string, body []byte, cond Condition) (etag string, err error)
	// Stat returns what Get would, without the body.
	Stat(ctx context.Context, key string) (Object, error)
	// List calls yield for each object whose key begins with prefix, in the
	// order of keys, until yield returns false. Bodies are not fetched; ETag is
	// empty where it would cost a request or a read.
	List(ctx context.Context, prefix string, yield func(Object) bool) error
	// Delete removes key; it is no error if there is none.
	Delete(ctx context.Context, key string) error
	// String names the bucket in messages, without secrets: "s3 bucket b at
	// http://127.0.0.1:9000", "directory /srv/b".
	String() string
}

// Object is one object of a [Bucket]. Body is the caller's to keep.
type Object struct {
	Key      string
	Body     []byte
	Bytes    int64 // of the stored body
	ETag     string
	Modified time.Time
	Version  string // of [Versioned]'s methods; else empty
}

// GetOptions refine [Bucket.Get]; the zero value is a plain Get.
type GetOptions struct {
	IfNoneMatch string // an ETag; empty: unconditional
	BytesMax    int64  // refuse longer objects; 0: 64 MiB
	About       int64  // how many bytes it may well have, which take their time; 0: few

	// Offset and Length name a part of the object, which is all of the Body then; Length 0: all
	// of it. An object that ends before the part does is ErrCorrupt. A part has no ETag, and
	// IfNoneMatch must be empty.
	Offset, Length int64
}

// getBytesMax is what GetOptions.BytesMax means where it is 0.
const getBytesMax = 64 << 20

// Limit returns BytesMax, or what it means where it is 0.
func (o GetOptions) Limit() int64 {
	if o.BytesMax <= 0 {
		return getBytesMax
	}
	return o.BytesMax
}

// Condition guards [Bucket.Put]; the zero value is an unconditional Put.
type Condition struct {
	IfMatch string // the ETag that the present object must have
	IfNone  bool   // there must be no present object
}

// Check fails with ErrConflict if c does not hold for the present object; nil: there is none. It is
// for providers that keep conditions by themselves.
func (c Condition) Check(present *Object) error {
	switch {
	case c.IfNone:
		if present != nil {
			return fmt.Errorf("%w: there is an object already", ErrConflict)
		}
	case c.IfMatch != "" && present == nil:
		return fmt.Errorf("%w: there is no object", ErrConflict)
	case c.IfMatch != "" && present.ETag != c.IfMatch:
		return fmt.Errorf("%w: ETag is %s, not %s", ErrConflict, present.ETag, c.IfMatch)
	}
	return nil
}
