package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

// patience: a busy disk takes seconds to make a file durable, and is not silent.
const patience = 5

// bucket is one of the two buckets of a dir target. See doc.go for what its
// files are called.
type bucket struct {
	objects
	history bool // replaced and deleted objects are kept for a while
	limit   *chunkstore.Limiter
	log     *slog.Logger
	timeout time.Duration // of the wait for another process' lock
	flush   flusher       // of batches
	dirs    durableDirs
	puts    atomic.Uint64
	waits   *chunkstore.Watch
}

func newBuckets(path string, limit *chunkstore.Limiter,
	o chunkstore.Options) (chunks, manifests *bucket) {
	watch := chunkstore.NewWatch(o, patience)
	open := func(name string) *bucket {
		return &bucket{objects: objects{root: filepath.Join(path, name)}, limit: limit, log: o.Log,
			timeout: o.Timeout, flush: systemFlusher, dirs: durableDirs{base: path}, waits: watch}
	}
	chunks, manifests = open("chunks"), open("manifests")
	chunks.chunks = true
	manifests.history = true
	return chunks, manifests
}

// begin takes a token for a call, and watches it until ended is called: a file system answers
// also where it fails.
func (b *bucket) begin(ctx context.Context, verb, key string) (ended func(), err error) {
	if err := b.limit.Take(ctx); err != nil {
		return nil, err
	}
	w := b.waits.Begin(b, verb+" "+key, 0, 0)
	return func() { w.End(true) }, nil
}

// beginAt is begin that says which file key has.
func (b *bucket) beginAt(ctx context.Context, verb, key string) (
	name string, ended func(), err error,
) {
	if name, err = b.place(key); err == nil {
		ended, err = b.begin(ctx, verb, key)
	}
	return name, ended, err
}

func (b *bucket) String() string { return "directory " + b.root }

func (b *bucket) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o, err := b.read(ctx, key, opts)
	if err != nil {
		return chunkstore.Object{}, b.wrap("get", key, err)
	}
	if opts.IfNoneMatch != "" && opts.IfNoneMatch == o.ETag {
		return chunkstore.Object{}, b.wrap("get", key, chunkstore.ErrUnmodified)
	}
	return o, nil
}

// Stat reads the object, for its ETag, but does not hold it: it may be a damaged one, of
// any length, that is to be replaced.
func (b *bucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	o, err := b.stat(ctx, key)
	if err != nil {
		return chunkstore.Object{}, b.wrap("stat", key, err)
	}
	return o, nil
}

func (b *bucket) stat(ctx context.Context, key string) (chunkstore.Object, error) {
	name, ended, err := b.beginAt(ctx, "stat", key)
	if err != nil {
		return chunkstore.Object{}, err
	}
	defer ended()
	o, err := b.statObject(name)
	o.Key = key
	return o, err
}

func (b *bucket) read(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	name, ended, err := b.beginAt(ctx, "get", key)
	if err != nil {
		return chunkstore.Object{}, err
	}
	defer ended()
	var o chunkstore.Object
	if opts.Length > 0 {
		o, err = readPart(name, opts.Offset, opts.Length)
	} else {
		o, err = b.readObject(name, opts.Limit())
	}
	o.Key = key
	return o, err
}

// readPart reads a part of the file called name.
func readPart(name string, off, n int64) (chunkstore.Object, error) {
	f, info, err := objectfile.Open(name)
	if err != nil {
		return chunkstore.Object{}, err
	}
	defer f.Close()
	if info.Size()-n < off {
		return chunkstore.Object{}, fmt.Errorf("%w: %d bytes, which end before %d",
			chunkstore.ErrCorrupt, info.Size(), off+n)
	}
	body := make([]byte, n)
	if _, err := f.ReadAt(body, off); err != nil {
		return chunkstore.Object{}, err
	}
	return chunkstore.Object{Body: body, Bytes: info.Size(), Modified: info.ModTime()}, nil
}

// Put: the file's bytes are durable before its name appears, and the name is
// before Put returns (I3), also if it finds the name taken, which may be by an earlier try of the
// caller's. Conditions hold between processes: a name is given once by one step of the file system,
// and whoever changes one holds the flock of the directory's lock file. (Not so for a chunk without
// a condition: whoever comes last, the object is the same.)
func (b *bucket) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	etag, err := b.put(ctx, key, body, cond)
	if err != nil {
		return "", b.wrap("put", key, err)
	}
	return etag, nil
}

func (b *bucket) put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	name, ended, err := b.beginAt(ctx, "put", key)
	if err != nil {
		return "", err
	}
	defer ended()
	dir := filepath.Dir(name)
	temp, err := b.dirs.writeTemp(dir, body)
	if err != nil {
		return "", err
	}
	if err := b.publish(ctx, key, name, temp, cond); err != nil {
		err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(temp)))
		if errors.Is(err, chunkstore.ErrConflict) {
			err = errors.Join(err, b.dirs.sync(dir))
		}
		return "", err
	}
	if b.puts.Add(1)%tidyEvery == 1 {
		b.tidy(key, dir)
	}
	return b.etag(body), b.dirs.sync(dir)
}

// publish gives the durable file temp its name, if cond holds.
func (b *bucket) publish(ctx context.Context, key, name, temp string,
	cond chunkstore.Condition) error {
	if b.chunks && cond == (chunkstore.Condition{}) {
		return os.Rename(temp, name)
	}
	if cond.IfNone {
		err := create(temp, name)
		foreign := errors.Is(err, chunkstore.ErrConflict) && isForeign(name)
		if !foreign && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	unlock, err := b.lock(ctx, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unlock()
	present, err := b.present(name)
	if err == nil {
		err = cond.Check(present)
	}
	if err == nil {
		err = b.remember(key, name, present)
	}
	if err != nil {
		return err
	}
	return os.Rename(temp, name)
}

// create gives the file temp a name that nothing has, by one step of the file system, which is the
// server's where it is on one. So nothing is replaced by whoever stops anywhere, or loses a lock
// that he had, and he keeps nobody out. It fails with [chunkstore.ErrConflict], and with
// [errors.ErrUnsupported] where the file system has no such step; then nothing was done.
func create(temp, name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if lacks(err) {
		if err = unix.Link(temp, name); err == nil {
			return os.Remove(temp)
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: there is an object already", chunkstore.ErrConflict)
	case lacks(err):
		return errors.ErrUnsupported
	case err != nil:
		return &os.LinkError{Op: "create", Old: temp, New: name, Err: err}
	}
	return nil
}

// isForeign reports whether what has the name is none of ours, as [objectfile.Open] has it: such a
// thing is replaced, under the flock, as nobody creates anything while it is there.
func isForeign(name string) bool {
	f, _, err := objectfile.Open(name)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, chunkstore.ErrCorrupt)
}

// lacks reports whether err may say that the file system, or what stands before the kernel, does
// not have the call: NFS says EINVAL of RENAME_NOREPLACE, and file systems without links say EPERM.
func lacks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK)
}

// Delete keeps a last version where there is a history.
func (b *bucket) Delete(ctx context.Context, key string) error {
	return b.wrap("delete", key, b.delete(ctx, key))
}

func (b *bucket) delete(ctx context.Context, key string) error {
	name, ended, err := b.beginAt(ctx, "delete", key)
	if err != nil {
		return err
	}
	defer ended()
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := b.lock(ctx, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unlock()
	present, err := b.present(name)
	if err == nil {
		err = b.remember(key, name, present)
	}
	if err == nil {
		err = objectfile.IgnoreAbsent(os.Remove(name))
	}
	if err != nil {
		return err
	}
	return b.dirs.sync(filepath.Dir(name))
}

// Touch sets the file's times. They become durable when the file system likes: a
// crash of the machine may undo what was touched in the seconds before it. Where
// there is a history, the time is a version's ID, so that it stays.
func (b *bucket) Touch(ctx context.Context, key string) error {
	return b.wrap("touch", key, b.touch(ctx, key))
}

func (b *bucket) touch(ctx context.Context, key string) error {
	if b.history {
		return errors.ErrUnsupported
	}
	name, ended, err := b.beginAt(ctx, "touch", key)
	if err != nil {
		return err
	}
	defer ended()
	now := time.Now()
	err = objectfile.SetTimes(name, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return chunkstore.ErrAbsent
	}
	return err
}

// List leaves ETag empty: it would have to read every object.
func (b *bucket) List(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	if err := b.limit.Take(ctx); err != nil {
		return b.wrap("list", prefix+"*", err)
	}
	return b.wrap("list", prefix+"*", b.walk(ctx, prefix, yield))
}

func (b *bucket) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %v: %w", verb, key, b, err)
}
