package chunkstore

import "context"

// Versioned is a [Bucket] that can tell what it held before: an S3 bucket (which has
// more than the present version of an object only if its versioning is on), or the
// manifests of a directory. A version is named by an ID that means something to this
// bucket alone.
type Versioned interface {
	Bucket
	// ListVersions calls yield for the present object called key, if there is one,
	// and for those that it replaced, the newest first, until yield returns false.
	// Bodies are not fetched; Object.Version is set, and Object.Modified is when
	// that version was put. A key that never was has no versions, which is no error.
	ListVersions(ctx context.Context, key string, yield func(Object) bool) error
	// GetVersion is Get for one version. It fails with ErrAbsent if the bucket has
	// it no more, or never had it.
	GetVersion(ctx context.Context, key, version string, opts GetOptions) (Object, error)
}

// Forgetter is a [Versioned] that keeps what was replaced by a rule of its own, and for which
// nobody else sets one.
type Forgetter interface {
	Versioned
	// ForgetVersion removes a version that was replaced; it is no error if there is none. The
	// present object stays.
	ForgetVersion(ctx context.Context, key, version string) error
}
