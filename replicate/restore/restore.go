package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
	"verneuil/manifest"
	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// restoreConcurrency is how many fetches run at once unless the caller says
// otherwise: enough to hide a store's latency, and 32 chunks of memory.
const restoreConcurrency = 32

// restoreBatch is how many chunks share their fetches: two leaves' worth. One ID that
// stands in two batches is fetched twice; in return memory does not grow with
// the database.
const restoreBatch = 1024

// Options say what to restore, and from where.
type Options struct {
	Manifest *manifest.Manifest
	// Fetch gets chunks, leaves and nodes, verified; see [manifest.Fetch].
	Fetch manifest.Fetch
	// Sealer is that of the store that Fetch asks; nil: [chunkstore.Plain].
	Sealer chunkstore.Sealer
	// Concurrency bounds the calls of Fetch at a time; 0: 32.
	Concurrency int
	// Progress, if set, is told the bytes of the file that are in place, of
	// how many. Calls come one at a time, and done only grows; the last call of a
	// successful restore says done == total.
	Progress func(done, total int64)
	// Replace lets [File] replace a file that is not empty.
	Replace bool
}

// To writes the version that o.Manifest describes to w, which must be a new
// file of Manifest.FileBytes zeros: chunks of zeros are not written. Nothing is
// flushed. The first error ends it, after the calls of Fetch that are under way; it
// names the chunk, leaf or node. To checks lengths, o.Fetch checks hashes.
func To(ctx context.Context, w io.WriterAt, o Options) error {
	if o.Concurrency <= 0 {
		o.Concurrency = restoreConcurrency
	}
	if o.Sealer == nil {
		o.Sealer = chunkstore.Plain{}
	}
	r := &run{
		Options: o,
		w:       w,
		tree:    o.Manifest.Tree(o.Sealer),
		tasks:   make(chan func(context.Context) error),
	}
	group, ctx := errgroup.WithContext(ctx)
	for range o.Concurrency {
		group.Go(func() error { return r.work(ctx) })
	}
	err := r.fetchAll(ctx)
	close(r.tasks)
	// A worker's error is the cause when fetchAll stopped because of ctx.
	if workerErr := group.Wait(); workerErr != nil {
		err = workerErr
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// run is one call of To.
type run struct {
	Options
	w     io.WriterAt
	tree  *manifest.Tree
	tasks chan func(context.Context) error

	mu   sync.Mutex // also held while Progress runs
	done int64
}

// work does tasks until there are no more, or one fails. A goroutine for each task
// would have to grow its stack for each.
func (r *run) work(ctx context.Context) error {
	for task := range r.tasks {
		if err := task(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start has a worker do task.
func (r *run) start(ctx context.Context, task func(context.Context) error) error {
	select {
	case r.tasks <- task:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetchAll has workers fetch all chunks.
func (r *run) fetchAll(ctx context.Context) error {
	chunks := r.Manifest.Chunks()
	for start := 0; start < chunks; start += restoreBatch {
		end := min(start+restoreBatch, chunks)
		r.tree.Forget(start)
		var ids []chunkstore.ID
		places := make(map[chunkstore.ID][]int)
		for i := start; i < end; i++ {
			id, err := r.tree.Lookup(ctx, i, r.Fetch)
			if err != nil {
				return err
			}
			if places[id] == nil {
				ids = append(ids, id)
			}
			places[id] = append(places[id], i)
		}
		if end < chunks {
			// The next leaf, so that nobody waits for it when its turn comes.
			// The Lookups above then find it there, or share this fetch.
			err := r.start(ctx, func(ctx context.Context) error {
				_, err := r.tree.Lookup(ctx, end, r.Fetch)
				return err
			})
			if err != nil {
				return err
			}
		}
		for _, id := range ids {
			err := r.start(ctx,
				func(ctx context.Context) error { return r.chunk(ctx, id, places[id]) })
			if err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// chunk fetches the object id and writes it to the chunks at indexes.
func (r *run) chunk(ctx context.Context, id chunkstore.ID, indexes []int) error {
	var base []byte // of ZeroID: nil
	if id != chunkstore.ZeroID {
		var err error
		if base, err = r.Fetch(ctx, id); err != nil {
			return fmt.Errorf("chunk %d (%s): %w", indexes[0], id, err)
		}
		if len(base) == 0 || len(base) > chunkstore.ChunkBytes {
			return fmt.Errorf("chunk %d (%s): %d bytes: %w", indexes[0], id, len(base),
				chunkstore.ErrCorrupt)
		}
	}
	for _, i := range indexes {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := base // the common case needs no copy
		if len(r.Manifest.InlineOf(i)) > 0 ||
			id != chunkstore.ZeroID && len(base) != r.Manifest.ChunkBytes(i) {
			data = r.Manifest.Overlay(i, base)
		}
		if len(data) > 0 { // not zeros without inline pages
			if _, err := r.w.WriteAt(data, int64(i)*chunkstore.ChunkBytes); err != nil {
				return fmt.Errorf("chunk %d (%s): %w", i, id, err)
			}
		}
		r.advance(r.Manifest.ChunkBytes(i))
	}
	return nil
}

func (r *run) advance(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += int64(n)
	if r.Progress != nil {
		r.Progress(r.done, r.Manifest.FileBytes)
	}
}

// File restores to the file path: it writes a temporary file in the same
// directory (mode 0600), flushes it, and renames it over path, which is durable when
// File returns nil. On an error the temporary file is removed and path
// is as it was, unless the error says that the directory could not be flushed. What a
// killed restore has left in the directory is removed by the next one.
//
// It refuses a path beside which a rollback journal or WAL stands: SQLite would
// take it for the restored database's and replay it. (A -shm does no harm: who opens a WAL
// first makes it anew.) It refuses what [Replaceable] does, and a file that a process has
// open, which would go on writing to what nobody sees any more, with a journal beside
// the restored database. The caller's process must not have it open through SQLite: it
// is opened and closed, which drops SQLite's locks (fcntl(2)).
func File(ctx context.Context, path string, o Options) (err error) {
	if err := refuse(path, o.Replace); err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	f, err := restoreTemp(dir)
	if err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	defer f.Close() // and with it the lock; it is flushed by then
	renamed := false
	defer func() {
		if !renamed {
			os.Remove(f.Name())
		}
	}()
	if err := f.Truncate(o.Manifest.FileBytes); err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	if err := To(ctx, &pacedFile{File: f}, o); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	if err := PutInPlace(f.Name(), path, o.Replace); err != nil {
		renamed = errors.Is(err, errNotFlushed)
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	renamed = true
	return nil
}

// errNotFlushed: the file has its name, but a crash of the machine may take it away.
var errNotFlushed = errors.New("the file is in place, but flushing its directory")

// PutInPlace gives a file that is flushed, temp, the name path, in the same directory, and
// flushes that. It refuses what [File] does, also if another process has made path since
// the caller asked [Replaceable]; where the file system cannot tell (NFS), what came in the last
// moment is replaced.
func PutInPlace(temp, path string, replace bool) error {
	if err := refuse(path, replace); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if _, err := os.Lstat(path); err == nil {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, flags)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: path, Err: err}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", errNotFlushed, err)
	}
	return nil
}

// pacedFile is a file that the disk begins to write while there is more to come. It is safe
// for concurrent use.
type pacedFile struct {
	*os.File
	pace objectfile.Pace
}

func (f *pacedFile) WriteAt(b []byte, off int64) (n int, err error) {
	n, err = f.File.WriteAt(b, off)
	if f.pace.Wrote(n) {
		unix.SyncFileRange(int(f.Fd()), 0, 0,
			unix.SYNC_FILE_RANGE_WRITE) // what fails, fails in Sync
	}
	return n, err
}

const restoreTempPrefix = ".verneuil-restore-"

// restoreTemp makes a temporary file, locked as long as it is open, and removes those
// that are not: their processes were killed.
func restoreTemp(dir string) (*os.File, error) {
	left, err := filepath.Glob(filepath.Join(escaped(dir), restoreTempPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, name := range left {
		objectfile.RemoveUnlocked(name) // what cannot be removed, stays
	}
	for {
		f, err := os.CreateTemp(dir, restoreTempPrefix+"*") // O_EXCL, 0600
		if err != nil {
			return nil, err
		}
		if lockTemp(f) {
			return f, nil
		}
		f.Close()
	}
}

// lockTemp locks f, a new file. It reports whether that came in time: before another restore that
// takes f for left, and removes it, once it has locked it.
func lockTemp(f *os.File) bool {
	// Where there are no locks, nothing is found to be unlocked either.
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return false
	}
	_, err := os.Lstat(f.Name())
	return err == nil
}

// escaped returns dir as a pattern that matches it alone.
func escaped(dir string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(dir)
}

// refuse fails if what stands at path, or beside it, must not be replaced.
func refuse(path string, replace bool) error {
	if err := cmp.Or(Replaceable(path, replace), refuseJournals(path)); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // there is none, or it is no file of ours
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	free, err := mirror.Unused(f)
	if err != nil { // there are no leases, or not for us: locks tell of who is using it just now
		free, err = unlocked(fd)
	}
	if err == nil && !free {
		return errors.New("another process has the file open: end it first, or move the file away")
	}
	return nil
}

// unlocked reports whether nobody holds a lock of SQLite's on the database file fd.
func unlocked(fd int) (bool, error) {
	lock := unix.Flock_t{
		Type: unix.F_WRLCK, Whence: io.SeekStart,
		Start: sqlitefile.PendingByte, Len: sqlitefile.LockBytes,
	}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock)
	return lock.Type == unix.F_UNLCK, err
}

// Replaceable fails if path is taken by what a file that is renamed to it must not replace:
// /dev/null would be gone, for everybody; of a symbolic link nobody knows whether it, or
// what it leads to, is meant. Unless replace is set, it fails with [fs.ErrExist] if path is
// a file that is not empty: a database, perhaps, that is newer than what takes its place.
func Replaceable(path string, replace bool) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil // if it cannot be looked at, nothing can be put there either
	case info.Mode().IsRegular():
		if replace || info.Size() == 0 {
			return nil
		}
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case info.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%s is a symbolic link: name the file itself", path)
	}
	return fmt.Errorf("%s is not a regular file", path)
}

// refuseJournals fails if SQLite would find a journal for the database path.
func refuseJournals(path string) error {
	for _, suffix := range []string{"-journal", "-wal"} {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			continue
		}
		if err != nil {
			return err
		}
		return fmt.Errorf(
			"%s is not empty: it would be replayed on the restored database; move it away first",
			path+suffix)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
