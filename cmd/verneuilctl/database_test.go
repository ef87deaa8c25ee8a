package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openTest opens path by the stock VFS with one connection.
func openTest(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := openDatabase(path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		db.Close()
	})
	return conn
}

func execute(t *testing.T, conn *sql.Conn, statements string) {
	t.Helper()
	if _, err := conn.ExecContext(context.Background(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// content reads all of a pinned database in pieces that cut pages.
func content(t *testing.T, p *pinned) []byte {
	t.Helper()
	size, err := p.Size()
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&all}, io.NewSectionReader(p, 0, size),
		make([]byte, 7777)); err != nil {
		t.Fatal(err)
	}
	return all.Bytes()
}

// checkpointed is what the database's file becomes when SQLite checkpoints it: the
// files are copied, opened and closed.
func checkpointed(t *testing.T, path string) []byte {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil && suffix == "" {
			t.Fatal(err)
		}
		if err == nil {
			if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := openDatabase(copied, "rw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// These tests read and close files of databases that this process has open, which
// drops POSIX locks. That is why each looks at copies, or reads first and locks later.

func TestPinWAL(t *testing.T) {
	for _, c := range []struct{ name, before string }{
		{"nothing checkpointed", ""},
		{"all checkpointed", "PRAGMA wal_checkpoint(PASSIVE);"},
		{"truncated", "PRAGMA wal_checkpoint(TRUNCATE);"},
		{"frames over a checkpoint", "PRAGMA wal_checkpoint(PASSIVE); " +
			"UPDATE t SET x = randomblob(20000) WHERE rowid = 3; DELETE FROM t WHERE rowid > 8;"},
		{"shrunk", "PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM t WHERE rowid > 2; VACUUM;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "w%?#.db")
			writer := openTest(t, path)
			execute(t, writer, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; "+
				"CREATE TABLE t(x);")
			for range 10 {
				execute(t, writer, "INSERT INTO t VALUES (randomblob(30000));")
			}
			if c.before != "" {
				execute(t, writer, c.before)
			}
			want := checkpointed(t, path)
			p, err := pin(context.Background(), path)
			if err != nil {
				t.Fatal(err)
			}
			// What is committed from here on is not in the pinned state, and no
			// checkpoint may disturb it.
			execute(t, writer, "UPDATE t SET x = randomblob(5000); "+
				"INSERT INTO t VALUES (zeroblob(300000)); PRAGMA wal_checkpoint(PASSIVE);")
			execute(t, writer, "DELETE FROM t; PRAGMA wal_checkpoint(PASSIVE);")
			if got := content(t, p); !bytes.Equal(got, want) {
				t.Errorf("pinned %d bytes, checkpointed %d bytes, and they differ", len(got),
					len(want))
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPinUnreliableIndex: a wal-index is damaged and may not be written, so that SQLite does
// not recover it. (To root everything is permitted: what SQLite does is left out here.)
func TestPinUnreliableIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	execute(t, openTest(t, path), "PRAGMA journal_mode=WAL; CREATE TABLE t(x); "+
		"INSERT INTO t VALUES (randomblob(9000));")
	want := checkpointed(t, path)
	for name, damage := range map[string]func([]byte) []byte{
		"header":  func(b []byte) []byte { copy(b, []byte{1, 2, 3, 4}); return b },
		"zeros":   func(b []byte) []byte { clear(b); return b },
		"nothing": func(b []byte) []byte { return nil },
	} {
		copied := filepath.Join(t.TempDir(), "b.db")
		for _, suffix := range []string{"", "-wal", "-shm"} {
			b, err := os.ReadFile(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if suffix == "-shm" {
				b = damage(b)
			}
			if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p := &pinned{path: copied}
		t.Cleanup(func() { p.Close() })
		var err error
		if p.file, err = os.Open(copied); err != nil {
			t.Fatal(err)
		}
		if err := p.overlayWAL(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(content(t, p), want) {
			t.Errorf("%s: not the database as checkpointed", name)
		}
	}
}

// TestPinImpossibleWAL: a commit frame may claim any length; what SQLite does not checkpoint
// is not copied either.
func TestPinImpossibleWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	const pageBytes = 512
	if err :=
		os.WriteFile(path, append([]byte("SQLite format 3\x00\x02\x00\x02\x02\x00\x40\x20\x20"),
			make([]byte, 3*pageBytes-24)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pages uint32
		ok    bool
	}{{4, true}, {3 + 1 + 65536/pageBytes, true}, {3 + 1 + 65536/pageBytes + 1, false},
		{755_000_000, false}} {
		if err := os.WriteFile(path+"-wal", walOf(pageBytes, c.pages), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		p, err := pin(t.Context(), path)
		if err == nil {
			err = p.Close()
		}
		if c.ok != (err == nil) || !c.ok && !strings.Contains(err.Error(), path+"-wal is damaged") {
			t.Errorf("%d pages: %v", c.pages, err)
		}
	}
}

// walOf returns a WAL with one frame, which commits so many pages.
func walOf(pageBytes int, pages uint32) []byte {
	word := binary.BigEndian.AppendUint32
	var s1, s2 uint32
	sum := func(b []byte) {
		for ; len(b) > 0; b = b[8:] {
			s1 += binary.LittleEndian.Uint32(b) + s2
			s2 += binary.LittleEndian.Uint32(b[4:]) + s1
		}
	}
	var b []byte
	for _, w := range []uint32{0x377f0682, 3007000, uint32(pageBytes), 0, 1, 2} {
		b = word(b, w)
	}
	sum(b)
	b = word(word(b, s1), s2)
	page := make([]byte, pageBytes)
	frame := word(word(nil, 2), pages)
	sum(frame)
	sum(page)
	frame = word(word(word(word(frame, 1), 2), s1), s2)
	return append(append(b, frame...), page...)
}

func TestPinLeavesTheDatabaseAlone(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d.db")
			db, err := openDatabase(path, "rwc")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("PRAGMA journal_mode=" + mode + "; CREATE TABLE t(x); " +
				"INSERT INTO t VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			// Files as a crash leaves them: copied while the connection is open.
			crashed := filepath.Join(t.TempDir(), "crashed.db")
			for _, suffix := range []string{"", "-wal"} {
				b, err := os.ReadFile(path + suffix)
				if err != nil && (suffix == "" || mode == "WAL") {
					t.Fatal(err)
				}
				if err == nil {
					if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			db.Close()
			before := map[string][]byte{}
			for _, suffix := range []string{"", "-wal"} {
				before[suffix], _ = os.ReadFile(crashed + suffix)
			}
			p, err := pin(context.Background(), crashed)
			if err != nil {
				t.Fatal(err)
			}
			content(t, p)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			for suffix, want := range before {
				if got, _ := os.ReadFile(crashed + suffix); !bytes.Equal(got, want) {
					t.Errorf("%q changed: %d bytes, were %d", "database"+suffix, len(got),
						len(want))
				}
			}
		})
	}
}

func TestPinHoldsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	writer := openTest(t, path)
	execute(t, writer, "PRAGMA busy_timeout=0; CREATE TABLE t(x); INSERT INTO t VALUES (1);")
	p, err := pin(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.ExecContext(context.Background(), "INSERT INTO t VALUES (2)"); err == nil {
		t.Error("a commit got past the read transaction")
	}
	want := content(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, writer, "INSERT INTO t VALUES (3)")
	if got, err := os.ReadFile(path); err != nil || bytes.Equal(got, want) {
		t.Errorf("the database did not change after the transaction (%v)", err)
	}
}

func TestPinRollsBackAHotJournal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d.db")
	writer := openTest(t, path)
	execute(t, writer, "PRAGMA cache_size=5; CREATE TABLE t(x); "+
		"INSERT INTO t VALUES (randomblob(100000));")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A transaction larger than the page cache writes to the file before it commits.
	execute(t, writer, "BEGIN; UPDATE t SET x = randomblob(100000); CREATE TABLE u(x); "+
		"INSERT INTO u VALUES (randomblob(200000));")
	hot := filepath.Join(dir, "hot.db")
	for _, suffix := range []string{"", "-journal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if suffix == "" && bytes.Equal(b, want) {
			t.Fatal("the transaction did not spill")
		}
		if err := os.WriteFile(hot+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := pin(context.Background(), hot)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := content(t, p); !bytes.Equal(got, want) {
		t.Errorf("pinned %d bytes, want the %d of the last commit", len(got), len(want))
	}
}

// TestSyncEncodings: what is attached must have the text encoding of what it is attached to.
func TestSyncEncodings(t *testing.T) {
	for _, encoding := range []string{"UTF-8", "UTF-16le", "UTF-16be"} {
		for _, mode := range []string{"WAL", "DELETE"} {
			t.Run(encoding+" "+mode, func(t *testing.T) {
				s := dirSite(t)
				path := s.path("d.db")
				db, err := openDatabase(path, "rwc")
				if err != nil {
					t.Fatal(err)
				}
				db.SetMaxOpenConns(1)
				if _, err := db.Exec("PRAGMA encoding='" + encoding + "'; PRAGMA journal_mode=" +
					mode + "; CREATE TABLE t(x); INSERT INTO t VALUES('\u00e9')"); err != nil {
					t.Fatal(err)
				}
				must(t, "-c", s.config(), "sync", path)
				if err := db.Close(); err != nil { // the last checkpoints
					t.Fatal(err)
				}
				s.restored(path)
			})
		}
	}
}

// TestPinUnparsableSchema: a schema that this SQLite cannot parse does not matter.
func TestPinUnparsableSchema(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d.db")
			db, err := openDatabase(path, "rwc")
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxOpenConns(1)
			if _, err := db.Exec("PRAGMA journal_mode=" + mode + "; CREATE TABLE t(x); " +
				"PRAGMA writable_schema=ON;" +
				"UPDATE sqlite_schema SET sql = " +
				"'CREATE TABLE t(x) OF A NEWER SQLITE'"); err != nil {
				t.Fatal(err)
			}
			p, err := pin(context.Background(), path)
			if err != nil {
				t.Fatal(err)
			}
			got := content(t, p)
			if err := errors.Join(p.Close(), recoverDatabase(t.Context(), path),
				db.Close()); err != nil {
				// The last checkpoints
				t.Fatal(err)
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("pinned %d bytes, checkpointed %d bytes, and they differ", len(got),
					len(want))
			}
		})
	}
}

func TestPinRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	err := os.WriteFile(garbage, bytes.Repeat([]byte("not a database. "), 1000), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "missing"), dir, garbage, os.DevNull} {
		if p, err := pin(context.Background(), path); err == nil {
			p.Close()
			t.Errorf("%s: no error", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); err == nil {
		t.Error("the missing database was made")
	}
}

func TestOptimize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	conn := openTest(t, path)
	execute(t, conn, "CREATE TABLE t(x); INSERT INTO t VALUES (1);")
	if err := optimize(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	var pageBytes int
	err := openTest(t, path).QueryRowContext(context.Background(),
		"PRAGMA page_size").Scan(&pageBytes)
	if err != nil || pageBytes != 65536 {
		t.Errorf("page size %d (%v), want 65536", pageBytes, err)
	}
	execute(t, conn, "PRAGMA journal_mode=WAL;")
	if err := optimize(context.Background(), path); err == nil {
		t.Error("optimize of a WAL database did nothing and gave no error")
	}
}

func TestCanonicalPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for given, want := range map[string]string{
		"x.db":                     "x.db",
		"./link/x.db":              "real/x.db",
		"link/../real/./y/z.db":    "real/y/z.db",
		filepath.Join(dir, "a//b"): "a/b",
	} {
		got, err := canonicalPath(given)
		if err != nil || got != filepath.Join(dir, want) {
			t.Errorf("canonicalPath(%q) = %q, %v; want %q", given, got, err,
				filepath.Join(dir, want))
		}
	}
}

func TestQuoting(t *testing.T) {
	for given, want := range map[string]string{
		`/a b/"c"\d`: `"/a b/\"c\"\\d"`,
		"a\nb'":      `"a\012b'"`,
	} {
		if got := shellQuote(given); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", given, got, want)
		}
	}
	got, want := sqliteURI("verneuil://h/a b%?#&'\xff", "v"),
		"file:verneuil://h/a%20b%25%3F%23%26%27%FF?vfs=v"
	if got != want {
		t.Errorf("sqliteURI = %s, want %s", got, want)
	}
	if got := fmt.Sprint(schemeOf("s3://b"), schemeOf("/a://b"), schemeOf("a.db"),
		schemeOf("http:/x")); got != "s3" {
		t.Errorf("schemes %q", got)
	}
}
