package chunkstore

import (
	"context"
	"errors"
	"os"
	"time"
)

// ExpiredVersions is what a dir target's history loses of versions.
var ExpiredVersions = expiredVersions

// WithS3Backoff is o with another time between the attempts of a request.
func (o Options) WithS3Backoff(d time.Duration) Options {
	o.s3Backoff = d
	return o
}

// WithSilentAfter is o with another time after which somebody is told of a store's silence.
func (o Options) WithSilentAfter(d time.Duration) Options {
	o.silentAfter = d
	return o
}

// FlushWith makes the batches of b, the chunk bucket of a dir target, call file for
// each fsync and all for each syncfs. They return what it fails with.
func FlushWith(b Bucket, file, all func() error) {
	d := b.(*dirBucket)
	d.flush = flusher{
		file: func(f *os.File) error { return errors.Join(file(), systemFlusher.file(f)) },
		all:  func(f *os.File) error { return errors.Join(all(), systemFlusher.all(f)) },
	}
}

// FlushTogether is whether the batches of b, the chunk bucket of a dir target, flush
// their files together on this file system. It puts an empty object under id.
func FlushTogether(ctx context.Context, b Bucket, id ID) (bool, error) {
	batch := b.(*dirBucket).Batch().(*dirBatch)
	if err := batch.Put(ctx, id.String(), nil); err != nil {
		return false, err
	}
	return !batch.singly, batch.Close()
}

// SlowAfter makes s take a target for slow that has not answered within d.
func (s *Store) SlowAfter(d time.Duration) { s.slowAfter = d }

// Failed says that t has failed at that time.
func (t *Target) Failed(at time.Time) { t.failed.Store(at.UnixNano()) }

// NewLimit returns what takes a token of a new limiter.
func NewLimit(callsPerSecond float64, burst int) func(context.Context) error {
	return newLimiter(callsPerSecond, burst).take
}
