package sqlitefile_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/spool/sqlitefile"
)

// openWAL returns a connection to a new WAL database of that page size, which
// never checkpoints by itself, and the database's path.
func openWAL(t *testing.T, pageBytes int) (*sql.Conn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.db")
	db, err := sql.Open("sqlite3", path)
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
	run(t, conn, fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=WAL; "+
		"PRAGMA wal_autocheckpoint=0;", pageBytes))
	return conn, path
}

func run(t *testing.T, conn *sql.Conn, statements string) {
	t.Helper()
	if _, err := conn.ExecContext(context.Background(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overlay is the database that a view describes: file, with the newest frames
// laid over, cut or extended to the commit's size.
func overlay(t *testing.T, file, wal []byte, v *sqlitefile.WALView) []byte {
	t.Helper()
	got := make([]byte, int(v.Pages)*v.PageBytes)
	copy(got, file)
	for pgno := uint32(1); pgno <= v.Pages; pgno++ {
		if off, ok := v.Offset(pgno); ok {
			copy(got[int(pgno-1)*v.PageBytes:], wal[off:off+int64(v.PageBytes)])
		}
	}
	return got
}

// The connection stays open in these tests while files are read and closed: that
// drops its POSIX locks, which is harmless as nobody else writes.

func TestWALViewEqualsCheckpoint(t *testing.T) {
	for _, pageBytes := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(pageBytes), func(t *testing.T) {
			conn, path := openWAL(t, pageBytes)
			run(t, conn, "CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(300000));")
			run(t, conn, "PRAGMA wal_checkpoint(TRUNCATE);")
			run(t, conn, "INSERT INTO t VALUES (randomblob(1000)); "+
				"UPDATE t SET x = randomblob(200000) WHERE rowid = 1;")
			run(t, conn, "PRAGMA incremental_vacuum; DELETE FROM t WHERE rowid = 2; VACUUM;")
			file, wal := readFile(t, path), readFile(t, path+"-wal")
			view, err := sqlitefile.NewWALView(bytes.NewReader(wal), 0)
			if err != nil {
				t.Fatal(err)
			}
			if view.PageBytes != pageBytes || view.Frames == 0 {
				t.Fatalf("view of %d frames, page size %d; want page size %d", view.Frames,
					view.PageBytes, pageBytes)
			}
			got := overlay(t, file, wal, view)
			run(t, conn, "PRAGMA wal_checkpoint(TRUNCATE);")
			if want := readFile(t, path); !bytes.Equal(got, want) {
				t.Errorf("overlay has %d bytes, the checkpointed database %d, and they differ",
					len(got), len(want))
			}
		})
	}
}

// TestWALWithoutChecksums: frames that the wal-index calls committed are taken though
// SQLite has forgotten their checksums, and their salts; the next ones are not.
func TestWALWithoutChecksums(t *testing.T) {
	conn, path := openWAL(t, 512)
	run(t, conn, "CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(2000)); "+
		"UPDATE t SET x = randomblob(3000);")
	wal := readFile(t, path+"-wal")
	whole, err := sqlitefile.NewWALView(bytes.NewReader(wal), 0)
	if err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 512
	last := wal[32+(whole.Frames-1)*frame:]
	copy(last[8:], make([]byte, 16))    // of the last frame salts and checksum
	wal[32+(whole.Frames-3)*frame+16]++ // of the last but two the checksum
	view, err := sqlitefile.NewWALView(bytes.NewReader(wal), whole.Frames)
	if err != nil {
		t.Fatal(err)
	}
	if view.Frames != whole.Frames ||
		!bytes.Equal(overlay(t, nil, wal, view), overlay(t, nil, wal, whole)) {
		t.Errorf("%d committed frames were read, want %d", view.Frames, whole.Frames)
	}
	for committed, want := range map[int]int{0: whole.Frames - 3,
		whole.Frames - 1: whole.Frames - 1, whole.Frames + 9: whole.Frames} {
		reader, err := sqlitefile.NewWALReader(bytes.NewReader(wal))
		if err != nil {
			t.Fatal(err)
		}
		reader.Committed = committed
		for err == nil {
			_, err = reader.Next()
		}
		if err != io.EOF || reader.Frames() != want || (reader.Unsummed > 0) != (committed > 0) {
			t.Errorf("%d committed: %d frames, %d without a checksum, %v; want %d", committed,
				reader.Frames(), reader.Unsummed, err, want)
		}
	}
}

func TestWALViewStopsAtTheLastCommit(t *testing.T) {
	conn, path := openWAL(t, 4096)
	run(t, conn, "PRAGMA cache_size=5; CREATE TABLE t(x); INSERT INTO t VALUES (1);")
	committed, err := sqlitefile.NewWALView(bytes.NewReader(readFile(t, path+"-wal")), 0)
	if err != nil {
		t.Fatal(err)
	}
	// A transaction larger than the page cache spills frames before it commits.
	run(t, conn, "BEGIN; INSERT INTO t SELECT randomblob(5000) FROM (WITH RECURSIVE n(i) AS "+
		"(SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 100) SELECT i FROM n);")
	wal := readFile(t, path+"-wal")
	view, err := sqlitefile.NewWALView(bytes.NewReader(wal), 0)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := sqlitefile.NewWALReader(bytes.NewReader(wal))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = reader.Next()
	}
	if err != io.EOF || reader.Frames() <= committed.Frames {
		t.Fatalf("the transaction did not spill: %d frames, %v", reader.Frames(), err)
	}
	if view.Frames != committed.Frames || view.Pages != committed.Pages {
		t.Errorf("view ends at frame %d, %d pages; want %d, %d", view.Frames, view.Pages,
			committed.Frames, committed.Pages)
	}
	run(t, conn, "ROLLBACK;")
}

// Every cut and every flipped bit leaves the transactions before it, and only them.
func TestWALDamage(t *testing.T) {
	conn, path := openWAL(t, 512)
	run(t, conn, "CREATE TABLE t(x);")
	for i := range 5 {
		run(t, conn, fmt.Sprintf("INSERT INTO t VALUES (zeroblob(%d));", 700*i))
	}
	wal := readFile(t, path+"-wal")
	whole, err := sqlitefile.NewWALReader(bytes.NewReader(wal))
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int]bool{0: true} // frames after which a transaction ends
	for {
		frame, err := whole.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if frame.Commit != 0 {
			ends[whole.Frames()] = true
		}
	}
	if len(ends) < 6 {
		t.Fatalf("%d transactions in the WAL, want at least 5", len(ends)-1)
	}
	const frameBytes = 24 + 512
	total := whole.Frames()
	check := func(damaged []byte, intact int, what string) {
		t.Helper()
		all := intact == total
		view, err := sqlitefile.NewWALView(bytes.NewReader(damaged), 0)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for !ends[intact] {
			intact--
		}
		if view.Frames != intact {
			t.Errorf("%s: view of %d frames, want %d", what, view.Frames, intact)
		}
		frames, is, err := sqlitefile.Recover(bytes.NewReader(damaged), total)
		if frames != intact || is != all || err != nil {
			t.Errorf("%s: recovery takes %d frames, all: %v, %v; want %d", what, frames, is, err,
				intact)
		}
	}
	check(wal, total, "undamaged")
	for at := 32; at < len(wal); at += 97 {
		flipped := bytes.Clone(wal)
		flipped[at] ^= 0x10
		check(flipped, (at-32)/frameBytes, fmt.Sprintf("bit flipped at %d", at))
		check(wal[:at], (at-32)/frameBytes, fmt.Sprintf("cut at %d", at))
	}
	for at := range 32 {
		flipped := bytes.Clone(wal)
		flipped[at] ^= 0x10
		_, err := sqlitefile.NewWALView(bytes.NewReader(flipped), 0)
		if !errors.Is(err, sqlitefile.ErrNoWAL) {
			t.Errorf("header byte %d changed: error %v, want ErrNoWAL", at, err)
		}
		if _, err := sqlitefile.NewWALView(bytes.NewReader(wal[:at]), 0); !errors.Is(err,
			sqlitefile.ErrNoWAL) {
			t.Errorf("header cut at %d: error %v, want ErrNoWAL", at, err)
		}
	}
}

// A big-endian machine writes the other checksum order; SQLite reads both.
func TestWALBigEndianChecksums(t *testing.T) {
	sum := func(s1, s2 uint32, b []byte) (uint32, uint32) {
		for ; len(b) > 0; b = b[8:] {
			s1 += binary.BigEndian.Uint32(b) + s2
			s2 += binary.BigEndian.Uint32(b[4:]) + s1
		}
		return s1, s2
	}
	put := binary.BigEndian.AppendUint32
	wal := put(put(put(put(put(put(nil, 0x377f0683), 3007000), 512), 0), 7), 9)
	s1, s2 := sum(0, 0, wal)
	wal = put(put(wal, s1), s2)
	page := bytes.Repeat([]byte{1, 2, 3, 4}, 128)
	head := put(put(nil, 1), 1)
	s1, s2 = sum(s1, s2, head)
	s1, s2 = sum(s1, s2, page)
	wal = append(put(put(append(wal, append(head, 0, 0, 0, 7, 0, 0, 0, 9)...), s1), s2), page...)
	view, err := sqlitefile.NewWALView(bytes.NewReader(wal), 0)
	if err != nil {
		t.Fatal(err)
	}
	off, ok := view.Offset(1)
	if view.Frames != 1 || view.Pages != 1 || view.Salts != 7<<32|9 || !ok || off != 56 {
		t.Errorf("view %+v, page 1 at %d (%v)", view, off, ok)
	}
}

// FuzzWALView: no bytes panic, and what the view points to lies inside the file.
func FuzzWALView(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x37, 0x7f, 0x06, 0x82}, 200))
	f.Fuzz(func(t *testing.T, wal []byte) {
		view, err := sqlitefile.NewWALView(bytes.NewReader(wal), 0)
		if err != nil {
			return
		}
		for pgno := uint32(1); pgno <= 100; pgno++ {
			if off, ok := view.Offset(pgno); ok && off+int64(view.PageBytes) > int64(len(wal)) {
				t.Errorf("page %d at %d lies outside of %d bytes", pgno, off, len(wal))
			}
		}
	})
}
