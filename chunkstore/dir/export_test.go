package dir

import (
	"context"
	"errors"
	"os"

	"verneuil/chunkstore"
)

// ExpiredVersions is what a target's history loses of versions.
var ExpiredVersions = expiredVersions

// MountsOf has the files that say what is to be mounted, and what is, be others, until restore.
func MountsOf(table, now string) (restore func()) {
	a, b := fstab, mountinfo
	fstab, mountinfo = table, now
	return func() { fstab, mountinfo = a, b }
}

// FlushWith makes the batches of b, the chunk bucket of a dir target, call file for
// each fsync and all for each syncfs. They return what it fails with.
func FlushWith(b chunkstore.Bucket, file, all func() error) {
	d := b.(*bucket)
	d.flush = flusher{
		file: func(f *os.File) error { return errors.Join(file(), systemFlusher.file(f)) },
		all:  func(f *os.File) error { return errors.Join(all(), systemFlusher.all(f)) },
	}
}

// FlushTogether is whether the batches of b, the chunk bucket of a dir target, flush
// their files together on this file system. It puts an empty object under name.
func FlushTogether(ctx context.Context, b chunkstore.Bucket, name chunkstore.Digest) (bool, error) {
	batch := b.(*bucket).Batch().(*batch)
	if err := batch.Put(ctx, name.String(), nil); err != nil {
		return false, err
	}
	return !batch.singly, batch.Close()
}
