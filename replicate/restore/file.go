package restore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore/objectfile"
)

// File restores to the file path: it writes a part file in the same
// directory (mode 0600), flushes it, and renames it over path, which is durable when
// File returns nil. On an error path is as it was, unless the error says that the directory
// could not be flushed; and the part file stays for the next restore to path, which the error
// is then: an [*UnfinishedError]. One that has little, or cannot be written, is removed.
//
// It refuses a path beside which a rollback journal or WAL stands: SQLite would
// take it for the restored database's and replay it. (A -shm does no harm: who opens a WAL
// first makes it anew.) It refuses what [Replaceable] does, and a file that a process has
// open, which would go on writing to what nobody sees any more, with a journal beside
// the restored database. The caller's process must not have it open through SQLite: it
// is opened and closed, which drops SQLite's locks (fcntl(2)).
func File(ctx context.Context, path string, o Options) error {
	if err := refuse(path, o.Replace); err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	p, err := openPart(path)
	if err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	defer p.Close() // and with it the lock; it is flushed by then
	err = p.fill(ctx, o)
	if err == nil {
		err = PutInPlace(p.Name(), path, o.Replace)
		if err == nil || errors.Is(err, errNotFlushed) {
			p.placed = true
		}
		if err != nil {
			err = fmt.Errorf("restore to %s: %w", path, err)
		}
	}
	return p.leave(err)
}

// fill writes o's version to p, and flushes it.
func (p *part) fill(ctx context.Context, o Options) error {
	if err := p.Truncate(o.Manifest.FileBytes); err != nil {
		return fmt.Errorf("restore: %w", writeError(err))
	}
	var kept *os.File
	if p.resumed {
		kept = p.File
	}
	w := newPacedFile(p.File, o.Manifest.FileBytes)
	defer w.end()
	if err := restoreTo(ctx, w, kept, o); err != nil {
		return err
	}
	if err := p.Sync(); err != nil {
		return fmt.Errorf("restore: %w", writeError(err))
	}
	return nil
}

// directFrom is from how many bytes on a file is written past the page cache (O_DIRECT): that costs
// a third less processor time, and leaves memory, and the disk's attention, to others. Who
// restores a small file opens it next, and finds it in memory. Only tests change it.
var directFrom int64 = 64 << 20

// directAlign is what memory, offset and length of a direct write are multiples of.
const directAlign = 4096

// pacedFile is a file that the disk begins to write while there is more to come. It is safe
// for concurrent use.
type pacedFile struct {
	*os.File
	pace   objectfile.Pace
	direct *os.File // the same file for direct writes; nil: there are none
}

// newPacedFile returns f, which is to have so many bytes. The caller calls end, and closes f.
func newPacedFile(f *os.File, bytes int64) *pacedFile {
	p := &pacedFile{File: f}
	if bytes >= directFrom {
		// Its name may be another file's by now.
		name := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		direct, err := os.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, 0)
		if err == nil { // else the file system has no direct writes
			p.direct = direct
		}
	}
	return p
}

func (f *pacedFile) end() {
	if f.direct != nil {
		f.direct.Close() // what has failed, WriteAt has said
	}
}

// WriteAt is io.WriterAt's. What cannot be written directly, for whatever reason, is written as
// usual.
func (f *pacedFile) WriteAt(b []byte, off int64) (n int, err error) {
	if f.direct != nil && len(b)%directAlign == 0 && off%directAlign == 0 {
		if n, err = f.direct.WriteAt(b, off); err == nil {
			return n, nil
		}
	}
	n, err = f.File.WriteAt(b, off)
	if f.pace.Wrote(n) {
		unix.SyncFileRange(int(f.Fd()), 0, 0,
			unix.SYNC_FILE_RANGE_WRITE) // what fails, fails in Sync
	}
	return n, err
}
