package chunkstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"
)

const (
	dirPerm  = 0o700
	filePerm = 0o600

	// getBytesMax is what GetOptions.BytesMax means where it is 0.
	getBytesMax = 64 << 20
)

// dirBucket is one of the two buckets of a dir target. See doc.go for what its
// files are called.
type dirBucket struct {
	root    string
	chunks  bool // keys are chunk IDs, spread over 256 directories
	history bool // replaced and deleted objects are kept for a while
	limit   *limiter
	log     *slog.Logger
	flush   flusher // of batches
	dirs    durableDirs
	puts    atomic.Uint64
}

func newDirBuckets(c DirConfig, limit *limiter, log *slog.Logger) (chunks, manifests *dirBucket) {
	open := func(name string) *dirBucket {
		return &dirBucket{root: filepath.Join(c.Path, name), limit: limit, log: log, flush: systemFlusher, dirs: durableDirs{base: c.Path}}
	}
	chunks, manifests = open("chunks"), open("manifests")
	chunks.chunks = true
	manifests.history = true
	return chunks, manifests
}

func (b *dirBucket) String() string { return "directory " + b.root }

// etag is a function of the bytes, so that copying the directory keeps it. A
// manifest is guarded by it. A chunk is what its key says, whatever its ETag:
// a checksum does, at 1/10 of a hash's cost.
func (b *dirBucket) etag(body []byte) string {
	if b.chunks {
		return fmt.Sprintf(`"%08x-%x"`, crc32.Checksum(body, castagnoli), len(body))
	}
	sum := blake3.Sum256(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b *dirBucket) Get(ctx context.Context, key string, opts GetOptions) (Object, error) {
	o, err := b.read(ctx, key, opts.BytesMax)
	if err != nil {
		return Object{}, b.wrap("get", key, err)
	}
	if opts.IfNoneMatch != "" && opts.IfNoneMatch == o.ETag {
		return Object{}, b.wrap("get", key, ErrUnmodified)
	}
	return o, nil
}

func (b *dirBucket) Stat(ctx context.Context, key string) (Object, error) {
	o, err := b.read(ctx, key, 0)
	if err != nil {
		return Object{}, b.wrap("stat", key, err)
	}
	o.Body = nil
	return o, nil
}

func (b *dirBucket) read(ctx context.Context, key string, bytesMax int64) (Object, error) {
	name, err := b.place(key)
	if err != nil {
		return Object{}, err
	}
	if err := b.limit.take(ctx); err != nil {
		return Object{}, err
	}
	o, err := b.readObject(name, bytesMax)
	o.Key = key
	return o, err
}

// readObject reads the file called name, which nobody changes in place (I5).
func (b *dirBucket) readObject(name string, bytesMax int64) (Object, error) {
	if bytesMax <= 0 {
		bytesMax = getBytesMax
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Object{}, ErrAbsent
	} else if err != nil {
		return Object{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return Object{}, err
	case !info.Mode().IsRegular():
		return Object{}, fmt.Errorf("%w: %s is not a regular file", ErrCorrupt, name)
	case info.Size() > bytesMax:
		return Object{}, fmt.Errorf("%w: %d bytes, more than %d", ErrCorrupt, info.Size(), bytesMax)
	}
	body := make([]byte, info.Size())
	if _, err := io.ReadFull(f, body); err != nil {
		return Object{}, err
	}
	return Object{Body: body, Bytes: info.Size(), ETag: b.etag(body), Modified: info.ModTime()}, nil
}

// Put: the file's bytes are durable before its name appears, and the name is
// before Put returns (I3). Conditions hold between processes: whoever changes a
// name holds the flock of the directory's lock file. (Not so for a chunk without a
// condition: whoever comes last, the object is the same.)
func (b *dirBucket) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	etag, err := b.put(ctx, key, body, cond)
	if err != nil {
		return "", b.wrap("put", key, err)
	}
	return etag, nil
}

func (b *dirBucket) put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	name, err := b.place(key)
	if err != nil {
		return "", err
	}
	if err := b.limit.take(ctx); err != nil {
		return "", err
	}
	dir := filepath.Dir(name)
	temp, err := b.dirs.writeTemp(dir, body)
	if err != nil {
		return "", err
	}
	if err := b.publish(ctx, key, name, temp, cond); err != nil {
		return "", errors.Join(err, ignoreAbsent(os.Remove(temp)))
	}
	if b.puts.Add(1)%tidyEvery == 1 {
		b.tidy(key, dir)
	}
	return b.etag(body), b.dirs.sync(dir)
}

// publish gives the durable file temp its name, if cond holds.
func (b *dirBucket) publish(ctx context.Context, key, name, temp string, cond Condition) error {
	if b.chunks && cond == (Condition{}) {
		return os.Rename(temp, name)
	}
	unlock, err := lockDir(ctx, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.checkCondition(name, cond); err != nil {
		return err
	}
	if b.history {
		if err := b.remember(key, name); err != nil {
			return fmt.Errorf("keep the replaced version: %w", err)
		}
	}
	return os.Rename(temp, name)
}

func (b *dirBucket) checkCondition(name string, cond Condition) error {
	switch {
	case cond.IfNone:
		_, err := os.Lstat(name)
		if err == nil {
			return fmt.Errorf("%w: there is an object already", ErrConflict)
		}
		return ignoreAbsent(err)
	case cond.IfMatch != "":
		present, err := b.readObject(name, 0)
		if errors.Is(err, ErrAbsent) {
			return fmt.Errorf("%w: there is no object", ErrConflict)
		} else if err != nil {
			return err
		}
		if present.ETag != cond.IfMatch {
			return fmt.Errorf("%w: ETag is %s, not %s", ErrConflict, present.ETag, cond.IfMatch)
		}
	}
	return nil
}

// Delete keeps a last version where there is a history.
func (b *dirBucket) Delete(ctx context.Context, key string) error {
	return b.wrap("delete", key, b.delete(ctx, key))
}

func (b *dirBucket) delete(ctx context.Context, key string) error {
	name, err := b.place(key)
	if err != nil {
		return err
	}
	if err := b.limit.take(ctx); err != nil {
		return err
	}
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lockDir(ctx, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unlock()
	if b.history {
		if err := b.remember(key, name); err != nil {
			return fmt.Errorf("keep the deleted version: %w", err)
		}
	}
	if err := ignoreAbsent(os.Remove(name)); err != nil {
		return err
	}
	return b.dirs.sync(filepath.Dir(name))
}

// Touch sets the file's times. They become durable when the file system likes: a
// crash of the machine may undo what was touched in the seconds before it. Where
// there is a history, the time is a version's ID, so that it stays.
func (b *dirBucket) Touch(ctx context.Context, key string) error {
	return b.wrap("touch", key, b.touch(ctx, key))
}

func (b *dirBucket) touch(ctx context.Context, key string) error {
	if b.history {
		return errors.ErrUnsupported
	}
	name, err := b.place(key)
	if err != nil {
		return err
	}
	if err := b.limit.take(ctx); err != nil {
		return err
	}
	now := time.Now()
	err = os.Chtimes(name, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrAbsent
	}
	return err
}

// List leaves ETag empty: it would have to read every object.
func (b *dirBucket) List(ctx context.Context, prefix string, yield func(Object) bool) error {
	if err := b.limit.take(ctx); err != nil {
		return b.wrap("list", prefix+"*", err)
	}
	return b.wrap("list", prefix+"*", b.walk(ctx, prefix, yield))
}

func (b *dirBucket) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %v: %w", verb, key, b, err)
}
