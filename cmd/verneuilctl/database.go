package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// pinned is a database file held still by a read transaction of stock SQLite:
// a [mirror.Source] whose bytes are one committed state until it is closed.
//
// A rollback-mode database is its file: we hold SQLite's SHARED lock, so nobody can
// take the EXCLUSIVE lock that every write to the file needs.
//
// A WAL-mode database is its file with frames of the WAL laid over: those up to
// the last commit that the wal-index names, once we hold a read mark. Call that
// commit M. What we read is the state as of M, because
//   - frames 1..M stay where they are: the WAL restarts only when all of it is
//     backfilled and nobody holds a mark on it;
//   - checkpoints write pages to the file only up to our mark, which is not past M,
//     so whatever they change lies under a frame that we lay over;
//   - if the wal-index says that all frames up to M are backfilled, the file alone is
//     the state as of M. Only then may we hold read mark 0, under which the WAL
//     may restart; and no checkpoint can begin before mark 0 is released.
type pinned struct {
	path string
	seen mirror.Seen // the files before the transaction began

	db   *sql.DB
	conn *sql.Conn

	file, wal, shm *os.File
	size           int64
	view           *sqlitefile.WALView // nil: the file alone
}

// pin opens the database at path, a canonical path, and begins the read
// transaction. A hot journal, which a writer that died has left, is rolled back
// first, as any reader would.
func pin(ctx context.Context, path string) (*pinned, error) {
	if err := checkRegular(path); err != nil {
		return nil, err
	}
	p := &pinned{path: path}
	if err := p.open(ctx); err != nil {
		p.Close() // the first error is the one that counts
		return nil, err
	}
	return p, nil
}

func (p *pinned) open(ctx context.Context) error {
	// Read-only, so that closing the last connection does not checkpoint: that
	// would change the file.
	err := p.begin(ctx, "ro")
	if needsRecovery(err) {
		if err = recoverDatabase(ctx, p.path); err == nil {
			err = p.begin(ctx, "ro")
		}
	}
	if err != nil {
		return explainOpen(p.path, err)
	}
	// From here on Close must close SQLite's connection before these files: closing
	// any descriptor of a file drops all POSIX locks that the process holds on it.
	if p.file, err = os.Open(p.path); err != nil {
		return err
	}
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	// Not the header but the WAL tells whether there is one: SQLite uses what it finds
	// (pager.c, pagerOpenWalIfPresent), and nobody makes one while we read.
	if p.size == 0 {
		return nil
	}
	return p.overlayWAL()
}

// checkRegular keeps SQLite's "unable to open database file" for the cases that
// deserve it.
func checkRegular(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("is a directory, not a database")
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	}
	return nil
}

// openDatabase opens path by the stock VFS; access is SQLite's "ro" or "rw".
func openDatabase(path, access string) (*sql.DB, error) {
	return sql.Open("sqlite3", databaseURI(path, access))
}

func databaseURI(path, access string) string { return sqliteURI(path, "unix") + "&mode=" + access }

func (p *pinned) begin(ctx context.Context, access string) error {
	p.unlock()
	var (
		name string
		err  error
	)
	if p.db, p.conn, name, err = attach(ctx, p.path, access); err != nil {
		return err
	}
	// A first look has SQLite open the WAL: root's gives it an owner, and a new ctime
	// (os_unix.c, unixOpen).
	if err = lockShared(ctx, p.conn, name); err != nil {
		return err
	}
	if p.seen, err = mirror.See(p.path); err != nil {
		return err
	}
	if _, err = p.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	return lockShared(ctx, p.conn, name)
}

// attach opens path by the stock VFS like openDatabase, but under a name that it returns, and so
// that its schema does not matter: a database whose schema this SQLite cannot parse, because a
// newer one made it or it is corrupt, is replicated like any other. (The driver runs a PRAGMA
// at once that parses the schema of what it opens.) The caller closes what is not nil.
func attach(ctx context.Context, path,
	access string) (db *sql.DB, conn *sql.Conn, name string, err error) {
	for _, encoding := range []string{"UTF-8", "UTF-16le", "UTF-16be"} {
		db, conn, err = attachAs(ctx, encoding, path, access)
		if err == nil || !strings.Contains(err.Error(), "same text encoding") {
			return db, conn, "source", err
		}
		err = errors.Join(err, conn.Close(), db.Close())
	}
	// The header names an encoding that does not exist. SQLite takes it for UTF-8 in a
	// database that it opens, but not in one that it attaches.
	if db, err = openDatabase(path, access); err != nil {
		return nil, nil, "", err
	}
	conn, err = db.Conn(ctx)
	return db, conn, "main", err
}

// explainBusy adds to SQLite's error who has the database at path locked. This process holds no
// lock on it, which would end here.
func explainBusy(path string, failed error) error {
	file, err := mirror.OpenSourceFile(path)
	if err != nil {
		return failed
	}
	defer file.Close()
	who := ""
	switch pid, err := file.Reserved(); {
	case err != nil || pid == 0:
		return failed
	case pid < 0:
		who = "a process in another container"
	default:
		who = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%w: %s writes to it, or keeps its lock: try again when its transaction has "+
		"ended, or end it", failed, who)
}

// explainOpen adds to SQLite's error what is wrong with the file at path, where that can be seen.
func explainOpen(path string, failed error) error {
	var e sqlite3.Error
	if !errors.As(failed, &e) {
		return failed
	}
	if e.Code == sqlite3.ErrBusy {
		return explainBusy(path, failed)
	}
	header, err := readStart(path, sqlitefile.HeaderBytes)
	if err != nil || len(header) < 2 {
		return failed
	}
	if !strings.HasPrefix(string(header), sqlitefile.Magic) {
		if e.Code == sqlite3.ErrNotADB {
			return fmt.Errorf("%w (if it is encrypted, load the extension in its application)",
				failed)
		}
		return failed
	}
	if len(header) < sqlitefile.HeaderBytes {
		return failed
	}
	if encoding := sqlitefile.Header(header).TextEncoding(); encoding > 3 {
		return fmt.Errorf("%w: the header is damaged: its text encoding (offset 56) is %d, "+
			"not 1, 2 or 3", failed, encoding)
	}
	return failed
}

// attachAs attaches path to an empty database of that text encoding, which must be its own
// (prepare.c, sqlite3InitOne).
func attachAs(ctx context.Context, encoding, path, access string) (*sql.DB, *sql.Conn, error) {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return db, nil, err
	}
	// SQLite lets a connection that may write the schema repair one that is malformed.
	if _, err = conn.ExecContext(ctx, "PRAGMA encoding='"+encoding+
		"'; PRAGMA writable_schema=ON"); err == nil {
		_, err = conn.ExecContext(ctx, "ATTACH ? AS source", databaseURI(path, access))
	}
	return db, conn, err
}

// lockShared takes a reader's lock, which has SQLite recover what there is to recover, and
// does not look at the schema.
func lockShared(ctx context.Context, conn *sql.Conn, name string) error {
	return conn.QueryRowContext(ctx, "PRAGMA "+name+".schema_version").Scan(new(int))
}

// needsRecovery: there is a hot journal, or a WAL that a read-only connection
// cannot recover.
func needsRecovery(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrReadonly || e.Code == sqlite3.ErrCantOpen)
}

// recoverDatabase lets SQLite bring path to its last committed state, which takes
// no more than a read by a connection that may write.
func recoverDatabase(ctx context.Context, path string) error {
	if err := checkOwn(path); err != nil {
		return err
	}
	p := &pinned{path: path}
	err := p.begin(ctx, "rw")
	return errors.Join(err, p.unlock())
}

// walTries bounds how often a wal-index that is being written is read again.
const walTries = 100

func (p *pinned) overlayWAL() error {
	var err error
	if p.wal, err = os.Open(p.path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	// Without a wal-index on disk (no right to make one) no other process can have
	// the database open for writing, and the WAL's last commit is the state.
	frames := 0
	if p.shm, err = os.Open(p.path + "-shm"); err == nil {
		index, err := p.walIndex()
		switch {
		case errors.As(err, new(*fs.PathError)):
			return err
		case err == nil && index.Backfilled >= index.Frames:
			return nil
		case err == nil:
			frames = index.Frames
		}
		// Nobody uses one that is not whole: we hold a read lock, for which SQLite has
		// recovered it if it may write it, and if not, has taken what is valid in the WAL
		// (wal.c, walBeginShmUnreliable). So do we.
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	view, err := sqlitefile.NewWALView(p.wal, frames)
	if errors.Is(err, sqlitefile.ErrNoWAL) && frames == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.wal.Name(), err)
	}
	if frames != 0 && view.Frames != frames {
		return fmt.Errorf("%s has %d committed frames, but its wal-index counts %d",
			p.wal.Name(), view.Frames, frames)
	}
	if view.Frames == 0 {
		return nil
	}
	size := int64(view.Pages) * int64(view.PageBytes)
	if size > sqlitefile.WALSizeMax(p.size, view.Frames, view.PageBytes) {
		return fmt.Errorf("%s is damaged: its last commit gives the database %d bytes, more than "+
			"it and the file contain, and SQLite refuses to checkpoint it "+
			"(recover what is left with .recover in the sqlite3 shell)", p.wal.Name(), size)
	}
	p.view, p.size = view, size
	return nil
}

func (p *pinned) walIndex() (sqlitefile.WALIndex, error) {
	for try := 1; ; try++ {
		index, err := sqlitefile.ReadWALIndex(p.shm)
		if !errors.Is(err, sqlitefile.ErrWALBusy) || try == walTries {
			return index, err
		}
		time.Sleep(time.Millisecond)
	}
}

// ReadAt is io.ReaderAt's.
func (p *pinned) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.size {
		return 0, io.EOF
	}
	short := error(nil)
	if rest := p.size - off; int64(len(b)) > rest {
		b, short = b[:rest], io.EOF
	}
	n, err := p.file.ReadAt(b, off)
	if err != nil && (err != io.EOF || p.view == nil) {
		return n, err
	}
	if p.view == nil {
		return n, short
	}
	// What lies beyond the end of the file is in the WAL, except for the page with SQLite's
	// lock bytes, at 1 GiB, which is never written.
	clear(b[n:])
	pageBytes := int64(p.view.PageBytes)
	for page := off / pageBytes; page*pageBytes < off+int64(len(b)); page++ {
		frame, ok := p.view.Offset(uint32(page + 1))
		if !ok {
			continue
		}
		from, to := max(off, page*pageBytes), min(off+int64(len(b)), (page+1)*pageBytes)
		if _, err := p.wal.ReadAt(b[from-off:to-off], frame+from-page*pageBytes); err != nil {
			return 0, fmt.Errorf("%s: %w", p.wal.Name(), err)
		}
	}
	return len(b), short
}

// NextData is [mirror.NextData]. What the WAL lays over holes is data.
func (p *pinned) NextData(off int64) (int64, error) {
	if p.view != nil {
		return off, nil
	}
	return mirror.NextData(p.file, off)
}

// Size returns the database's size in bytes.
func (p *pinned) Size() (int64, error) { return p.size, nil }

// Reserved is false: a transaction that is being prepared cannot be written while we read.
func (p *pinned) Reserved() (pid int, err error)  { return 0, nil }
func (p *pinned) Exclusive() (pid int, err error) { return 0, nil }

// Close ends the read transaction. It may be called again.
func (p *pinned) Close() error {
	err := p.unlock()
	for _, f := range []*os.File{p.file, p.wal, p.shm} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	p.file, p.wal, p.shm = nil, nil, nil
	return err
}

// unlock closes the connection.
func (p *pinned) unlock() error {
	var err error
	if p.conn != nil {
		err = p.conn.Close()
	}
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	p.conn, p.db = nil, nil
	return err
}

// optimize rewrites the database with pages of 64 KiB, the size of a chunk.
func optimize(ctx context.Context, path string) error {
	db, err := openDatabase(path, "rw")
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx) // page_size is a setting of the connection
	if err != nil {
		return err
	}
	defer conn.Close()
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if strings.EqualFold(mode, "wal") {
		return errors.New("SQLite cannot change the page size of a database in WAL mode: " +
			"switch it to journal_mode=DELETE first")
	}
	for _, statement := range []string{"PRAGMA page_size=65536", "VACUUM"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
