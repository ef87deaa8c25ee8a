package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

// durableDirs makes directories under base on demand, and makes their entries
// durable (I3). It is safe for concurrent use.
type durableDirs struct {
	base  string
	mu    sync.Mutex
	known map[string]*durableDir // a directory is here once its own entry is durable
}

// durableDir shares one fsync of a directory among all that ask for it before
// that fsync begins.
type durableDir struct {
	mu      sync.Mutex
	next    *dirSync
	syncing sync.Mutex
}

type dirSync struct {
	done chan struct{}
	err  error // to be read after done
}

func (d *durableDirs) get(dir string) *durableDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[dir]
}

// ensure makes dir, which is base or below it. The entry is fsynced even if it
// was there: whoever made it may have died before it was durable.
func (d *durableDirs) ensure(dir string) error {
	if d.get(dir) != nil {
		return nil
	}
	if dir == d.base {
		if err := checkMounted(dir); err != nil {
			return err
		}
		if err := mkdirAll(dir); err != nil {
			return err
		}
	} else {
		parent := filepath.Dir(dir)
		if err := d.ensure(parent); err != nil {
			return err
		}
		if err := os.Mkdir(dir, objectfile.DirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.sync(parent); err != nil {
			return err
		}
	}
	d.remember(dir)
	return nil
}

// ensureLater makes dir, whose parent is there. It says whether the entry is
// known to be durable; if not, the caller flushes the parent, and calls remember.
func (d *durableDirs) ensureLater(dir string) (durable bool, err error) {
	if d.get(dir) != nil {
		return true, nil
	}
	err = os.Mkdir(dir, objectfile.DirPerm)
	if errors.Is(err, fs.ErrNotExist) {
		return true, d.ensure(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return false, nil
}

// remember notes that dir's own entry is durable.
func (d *durableDirs) remember(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]*durableDir)
	}
	if d.known[dir] == nil {
		d.known[dir] = new(durableDir)
	}
}

func (d *durableDirs) forgetAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = nil
}

// writeTemp writes a new file below dir, which it makes on demand, and returns the
// file's name. The bytes are durable, the name is not. It leaves nothing behind
// if it fails.
func (d *durableDirs) writeTemp(dir string, body []byte) (string, error) {
	if err := d.ensure(dir); err != nil {
		return "", err
	}
	f, err := d.createTemp(dir)
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// createTemp makes a file below dir, which was there; if somebody has removed it, it
// makes that again.
func (d *durableDirs) createTemp(dir string) (*os.File, error) {
	f, err := newTemp(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	d.forgetAll()
	if err := d.ensure(dir); err != nil {
		return nil, err
	}
	return newTemp(dir)
}

// newTemp is os.CreateTemp, but for the five system calls by which that finds out that
// a regular file cannot be polled: the chunks of a push are thousands of files.
func newTemp(dir string) (*os.File, error) {
	temps, made := filepath.Join(dir, tempsName), false
	for {
		name := filepath.Join(temps, fmt.Sprintf("%016x", rand.Uint64()))
		fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC,
			objectfile.FilePerm)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOENT) && !made:
			made = true
			err := os.Mkdir(temps, objectfile.DirPerm)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
}

// sync makes the entries of dir durable that were there when it was called.
func (d *durableDirs) sync(dir string) error {
	known := d.get(dir)
	if known == nil {
		return syncDir(dir)
	}
	return known.sync(dir)
}

func (d *durableDir) sync(dir string) error {
	d.mu.Lock()
	mine := d.next
	leading := mine == nil
	if leading {
		mine = &dirSync{done: make(chan struct{})}
		d.next = mine
	}
	d.mu.Unlock()
	if !leading {
		<-mine.done
		return mine.err
	}
	d.syncing.Lock() // until the one before has ended, others join us
	d.mu.Lock()
	d.next = nil
	d.mu.Unlock()
	mine.err = syncDir(dir)
	d.syncing.Unlock()
	close(mine.done)
	return mine.err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil // some network file systems cannot; their servers do it themselves
	}
	return errors.Join(err, f.Close())
}

// mkdirAll is os.MkdirAll with durable entries.
func mkdirAll(dir string) error {
	err := os.Mkdir(dir, objectfile.DirPerm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	parent := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := mkdirAll(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, objectfile.DirPerm)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// lockPoll is how often a lock that another process holds is tried: it holds it
// for one comparison and one rename.
const lockPoll = 2 * time.Millisecond

// lock takes dir's lock, between processes and between goroutines. Nobody
// needs to clean up after a crash: the kernel releases it.
func (b *bucket) lock(ctx context.Context, dir string) (unlock func(), err error) {
	late := time.NewTimer(b.timeout)
	defer late.Stop()
	f, err := os.OpenFile(filepath.Join(dir, lockName),
		os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, objectfile.FilePerm)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() {
				// Closing is not enough if the host has forked meanwhile: the child
				// shares the lock until somebody unlocks it.
				unix.Flock(int(f.Fd()), unix.LOCK_UN)
				f.Close()
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), ctx.Err())
		case <-late.C:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w in %v: a process that has it hangs", f.Name(),
				chunkstore.ErrNoAnswer, b.timeout)
		case <-time.After(lockPoll):
		}
	}
}
