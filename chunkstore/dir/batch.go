package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

const (
	// batchFilesMax files are fsynced one by one, which bothers nobody else. For
	// more, one syncfs is cheaper (an fsync takes 1 to 2 ms), and fewer files are open.
	batchFilesMax = 32
	// batchSyncs run at once: the file system's journal commits them together.
	batchSyncs = 8
)

// flusher is how files become durable; tests make it fail.
type flusher struct {
	file func(f *os.File) error // fsync
	all  func(f *os.File) error // syncfs
}

var systemFlusher = flusher{
	file: (*os.File).Sync,
	all:  func(f *os.File) error { return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd()))) },
}

// batch: a Put writes and names a file, Sync flushes all of them. Why that is
// safe stands in doc.go, under "Batches".
type batch struct {
	b *bucket

	mu     sync.Mutex
	root   *os.File   // of the bucket, opened before the first Put; nil: not yet
	dev    uint64     // of root
	singly bool       // each Put is durable by itself
	files  []*os.File // put since the last Sync, unless there are too many
	many   bool       // there are
	taken  []taken    // put since then, under names that were taken
	// where something was put since then: false if the directory's own entry may not be durable
	dirs map[string]bool
	err  error // of a Sync that failed

	pace  objectfile.Pace
	early sync.WaitGroup // a syncfs before Sync's
}

// taken is a file that gets its name when it is durable: there is an object
// already, on which manifests may rely.
type taken struct{ temp, name string }

// Batch is of use for chunks only: manifests are put one at a time, with conditions.
func (b *bucket) Batch() chunkstore.Batch { return &batch{b: b, singly: !b.chunks} }

func (d *batch) Put(ctx context.Context, key string, body []byte) error {
	name, err := d.b.place(key)
	if err != nil {
		return d.b.wrap("put", key, err)
	}
	dir := filepath.Dir(name)
	batched, err := d.enter(dir)
	if err != nil {
		return d.b.wrap("put", key, err)
	}
	if !batched {
		_, err := d.b.Put(ctx, key, body, chunkstore.Condition{})
		return err
	}
	return d.b.wrap("put", key, d.put(ctx, key, name, body))
}

// enter prepares a Put to dir, and says whether Sync can make it durable.
func (d *batch) enter(dir string) (batched bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || d.singly {
		return false, d.err
	}
	if d.root == nil {
		if err := d.open(); err != nil || d.singly {
			return false, err
		}
	}
	if _, ok := d.dirs[dir]; ok {
		return true, nil
	}
	known, err := d.b.dirs.ensureLater(dir)
	if err != nil {
		return false, err
	}
	var stat unix.Stat_t
	err = unix.Stat(dir, &stat)
	if errors.Is(err, unix.ENOENT) { // somebody removed a directory that we knew
		d.b.dirs.forgetAll()
		if err := d.b.dirs.ensure(dir); err != nil {
			return false, err
		}
		err = unix.Stat(dir, &stat)
	}
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	if uint64(stat.Dev) != d.dev {
		return false, nil // somebody has put it on another disk
	}
	if d.dirs == nil {
		d.dirs = make(map[string]bool)
	}
	d.dirs[dir] = known
	return true, nil
}

// open opens the bucket's directory: syncfs tells of the errors since then.
func (d *batch) open() error {
	if err := d.b.dirs.ensure(d.b.root); err != nil {
		return err
	}
	f, err := os.Open(d.b.root)
	if err != nil {
		return err
	}
	var stat unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &stat),
		unix.Fstatfs(int(f.Fd()), &fs)); err != nil {
		return errors.Join(fmt.Errorf("look at %s: %w", d.b.root, err), f.Close())
	}
	if !syncfsReportsErrors() || !slices.Contains(batchFileSystems, int64(fs.Type)) {
		d.singly = true
		return f.Close()
	}
	d.root, d.dev = f, uint64(stat.Dev)
	return nil
}

// batchFileSystems are those known to wait in syncfs until data is on the disk,
// to tell of errors, and to have RENAME_NOREPLACE. FUSE and NFS servers may never
// hear of it, overlayfs does not tell of errors of what it lies over.
var batchFileSystems = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC,
	unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// syncfsReportsErrors: Linux 5.8 and later.
var syncfsReportsErrors = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major,
		&minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
})

func (d *batch) put(ctx context.Context, key, name string, body []byte) error {
	ended, err := d.b.begin(ctx, "put", key)
	if err != nil {
		return err
	}
	defer ended()
	dir := filepath.Dir(name)
	f, err := d.b.dirs.createTemp(dir)
	if err != nil {
		return err
	}
	if _, err = f.Write(body); err == nil {
		err = d.name(f, name)
	}
	if err != nil {
		return errors.Join(err, f.Close(), objectfile.IgnoreAbsent(os.Remove(f.Name())))
	}
	if d.b.puts.Add(1)%tidyEvery == 1 {
		d.b.tidy(key, dir)
	}
	if d.pace.Wrote(len(body)) {
		d.early.Go(d.begin)
	}
	return d.keep(f)
}

// begin flushes what was put so far. What fails then, Sync is told of: by a file of its own.
func (d *batch) begin() {
	if f, err := os.Open(d.b.root); err == nil {
		d.b.flush.all(f)
		f.Close()
	}
}

// name gives f its name, or has Sync do it.
func (d *batch) name(f *os.File, name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.taken = append(d.taken, taken{f.Name(), name})
		return nil
	}
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: f.Name(), New: name, Err: err}
	}
	return nil
}

// keep keeps f open for Sync, unless there are too many. An open file remembers
// that writing it back failed; when it is closed, the file system does.
func (d *batch) keep(f *os.File) error {
	d.mu.Lock()
	if !d.many && len(d.files) < batchFilesMax {
		d.files = append(d.files, f)
		d.mu.Unlock()
		return nil
	}
	files := d.files
	d.many, d.files = true, nil
	d.mu.Unlock()
	return errors.Join(f.Close(), closeAll(files))
}

func closeAll(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func (d *batch) Sync(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = d.sync(ctx)
	}
	if d.err != nil {
		return fmt.Errorf("sync %v: %w", d.b, d.err)
	}
	return nil
}

func (d *batch) sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	files, dirs, many, taken := d.files, d.dirs, d.many, d.taken
	d.files, d.dirs, d.many, d.taken = nil, nil, false, nil
	err := d.flushFiles(files, many)
	for _, t := range taken {
		if err == nil {
			err = os.Rename(t.temp, t.name)
		}
		if err != nil {
			os.Remove(t.temp)
		}
	}
	if err != nil {
		return err
	}
	flush := dirs
	if many { // but for these, all of it was flushed
		flush = make(map[string]bool)
		for _, t := range taken {
			flush[filepath.Dir(t.name)] = true
		}
	}
	if err := d.flushDirs(flush); err != nil {
		return err
	}
	for dir := range dirs {
		d.b.dirs.remember(dir)
	}
	return nil
}

// flushFiles makes the files' bytes durable, and closes them; with many, everything.
func (d *batch) flushFiles(files []*os.File, many bool) error {
	if many {
		return d.b.flush.all(d.root)
	}
	var group errgroup.Group
	group.SetLimit(batchSyncs)
	for _, f := range files {
		group.Go(func() error { return errors.Join(d.b.flush.file(f), f.Close()) })
	}
	return group.Wait()
}

// flushDirs makes the names in dirs durable, and those of the ones that are new.
func (d *batch) flushDirs(dirs map[string]bool) error {
	var group errgroup.Group
	group.SetLimit(batchSyncs)
	newDirs := false
	for dir, known := range dirs {
		newDirs = newDirs || !known
		group.Go(func() error { return d.b.dirs.sync(dir) })
	}
	if newDirs {
		group.Go(func() error { return d.b.dirs.sync(d.b.root) })
	}
	return group.Wait()
}

func (d *batch) Close() error {
	d.early.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	err := closeAll(d.files)
	for _, t := range d.taken {
		err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(t.temp)))
	}
	if d.root != nil {
		err = errors.Join(err, d.root.Close())
	}
	d.files, d.root, d.taken = nil, nil, nil
	if d.err == nil {
		d.err = os.ErrClosed
	}
	return err
}
