package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	if err := restoreTo(ctx, &pacedFile{File: p.File}, kept, o); err != nil {
		return err
	}
	if err := p.Sync(); err != nil {
		return fmt.Errorf("restore: %w", writeError(err))
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
	f.wrote(n)
	return n, err
}

func (f *pacedFile) wrote(n int) {
	if f.pace.Wrote(n) {
		unix.SyncFileRange(int(f.Fd()), 0, 0,
			unix.SYNC_FILE_RANGE_WRITE) // what fails, fails in Sync
	}
}

// writeAll writes the parts at off, one after the other: to a file with one system call, as a rule.
func writeAll(w io.WriterAt, parts [][]byte, off int64) error {
	if f, ok := w.(*pacedFile); ok && len(parts) > 1 {
		n, err := unix.Pwritev(int(f.Fd()), parts, off)
		if err == nil {
			f.wrote(n)
		} else {
			n = 0 // what it is, WriteAt finds out, which also goes on after a signal
		}
		for n > 0 && len(parts) > 0 { // a disk that is almost full takes a part of it
			k := min(n, len(parts[0]))
			if n, off = n-k, off+int64(k); k == len(parts[0]) {
				parts = parts[1:]
			} else {
				parts = append([][]byte{parts[0][k:]}, parts[1:]...)
			}
		}
	}
	for _, b := range parts {
		if _, err := w.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
