package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
	"verneuil/replicate/mirror"
)

const (
	partPrefix = ".verneuil-restore-"
	// partKeyDigits is how many digits of its name's digest a part file's name has.
	partKeyDigits = 16
	// partWorth is how many bytes on the disk a part file must have to stay. Less is sooner
	// fetched again than explained.
	partWorth = 16 << 20
	// partAge is how old a part file is when a restore to another file removes it.
	partAge = 24 * time.Hour
)

// part is a part file, which is locked for as long as it is open.
type part struct {
	*os.File
	resumed bool // an earlier restore has left it
	placed  bool // it has its name
}

// UnfinishedError says why a restore ended early, and that the next one to the same file goes
// on from there.
type UnfinishedError struct {
	Part  string // the part file
	Bytes int64  // of it that are on the disk
	Err   error
}

func (e *UnfinishedError) Error() string { return e.Err.Error() + "; " + e.Remains() }

// Remains tells of the part file.
func (e *UnfinishedError) Remains() string {
	return fmt.Sprintf("%d MiB are in %s, and the next restore to the same file goes on from there",
		e.Bytes>>20, e.Part)
}

func (e *UnfinishedError) Unwrap() error { return e.Err }

// openPart opens the part file of path: the one of those that earlier restores have left that has
// most, else a new one. It removes the others of them, and what restores to other files have left
// in the directory long ago.
func openPart(path string) (*part, error) {
	dir, prefix := filepath.Dir(path), partPrefix+partKey(path)+"-"
	names, err := filepath.Glob(filepath.Join(escaped(dir), partPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var best *part
	var most int64
	for _, name := range names {
		if !strings.HasPrefix(filepath.Base(name), prefix) {
			removeOld(name)
			continue
		}
		p := resume(name)
		if p == nil {
			continue
		}
		if n := p.stored(); best == nil || n > most {
			p, best, most = best, p, n
		}
		if p != nil {
			os.Remove(p.Name()) // what cannot be removed, stays
			p.Close()
		}
	}
	if best != nil {
		return best, nil
	}
	for {
		f, err := os.CreateTemp(dir, prefix+"*") // O_EXCL, 0600
		if err != nil {
			return nil, err
		}
		if lockPart(f) {
			return &part{File: f}, nil
		}
		f.Close()
	}
}

// partKey stands for the last element of path in the names of its part files: that may be as long
// as a name can be.
func partKey(path string) string {
	return chunkstore.Sum([]byte(filepath.Base(path))).String()[:partKeyDigits]
}

// resume opens and locks the part file called name; nil: it is not ours, or in use.
func resume(name string) *part {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	// Without locks nobody could tell whether another restore is writing it.
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || !ours(f) || !named(f) {
		f.Close()
		return nil
	}
	return &part{File: f, resumed: true}
}

// named reports whether f still has its name: else another restore has put it in place, or has
// removed it.
func named(f *os.File) bool {
	at, err := os.Lstat(f.Name())
	has, statErr := f.Stat()
	return err == nil && statErr == nil && os.SameFile(at, has)
}

// ours reports whether f is a file that nobody else can write, and that has one name.
func ours(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG &&
		st.Mode&0o077 == 0 && st.Nlink == 1 && int(st.Uid) == os.Geteuid()
}

// lockPart locks f, a new file. It reports whether that came in time: before another restore that
// takes f for left, and resumes or removes it, once it has locked it.
func lockPart(f *os.File) bool {
	// Where there are no locks, nothing is found to be unlocked either.
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return false
	}
	return named(f)
}

// removeOld removes what a restore to another file has left long ago.
func removeOld(name string) {
	info, err := os.Lstat(name)
	if err == nil && time.Since(info.ModTime()) > partAge {
		objectfile.RemoveUnlocked(name) // what cannot be removed, stays
	}
}

// stored returns how many bytes p has on the disk.
func (p *part) stored() int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(p.Fd()), &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

// leave ends a restore that p was for, which failed with err if that is not nil: it removes p, or
// says that it stays.
func (p *part) leave(err error) error {
	if err == nil || p.placed {
		return err
	}
	// Others need the room on a disk that is full.
	if n := p.stored(); n >= partWorth && !errors.Is(err, errWrite) {
		return &UnfinishedError{p.Name(), n, err}
	}
	os.Remove(p.Name())
	return err
}

// escaped returns dir as a pattern that matches it alone.
func escaped(dir string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(dir)
}

// verify says which of the chunks from start on, which are refs, are right in r.kept, and makes
// those zeros there that are to be.
func (r *run) verify(ctx context.Context, start int, refs []chunkstore.Ref) ([]bool, error) {
	right := make([]bool, len(refs))
	if r.kept == nil {
		return right, nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cap(r.desks))
	for k := 0; k < len(refs) && groupCtx.Err() == nil; k += runChunks {
		end := min(k+runChunks, len(refs))
		group.Go(func() error {
			return r.verifyRun(groupCtx, start+k, refs[k:end], right[k:end])
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return right, ctx.Err()
}

// verifyRun is verify for few chunks: it sets right for those that are.
func (r *run) verifyRun(ctx context.Context, start int, refs []chunkstore.Ref,
	right []bool) error {
	buf := make([]byte, chunkstore.ChunkBytes)
	data := int64(0) // there are none but zeros before
	for k, ref := range refs {
		if err := ctx.Err(); err != nil {
			return err
		}
		i := start + k
		at, b := chunkAt(i), buf[:r.Manifest.ChunkBytes(i)]
		if data <= at {
			var err error
			if data, err = mirror.NextData(r.kept, at); err != nil {
				data = at
			}
		}
		switch {
		case data >= at+int64(len(b)): // a hole
		case ref.ID == chunkstore.ZeroID:
			if err := r.clear(at, len(b)); err != nil {
				return fmt.Errorf("chunk %d: %w", i, writeError(err))
			}
		case len(r.Manifest.InlineOf(i)) > 0: // they stand over what the ID is of
		default: // what cannot be read is not right
			_, err := r.kept.ReadAt(b, at)
			right[k] = err == nil && r.Store.Sealer().Identify(b) == ref.ID // R5
		}
	}
	return nil
}

// clear makes n bytes of r.kept a hole, or zeros where there are no holes.
func (r *run) clear(at int64, n int) error {
	err := unix.Fallocate(int(r.kept.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at,
		int64(n))
	if err == nil {
		return nil
	}
	_, err = r.kept.WriteAt(make([]byte, n), at)
	return err
}
