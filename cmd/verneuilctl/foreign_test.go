package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// ciphered does to a database, and to what stands beside it, what a VFS does that encrypts:
// it changes pages, from offset plain of the first one on, and leaves numbers and checksums alone.
func ciphered(t *testing.T, from, to string, plain int) {
	t.Helper()
	const page = 4096
	for suffix, front := range map[string][2]int{"": {0, 0}, "-journal": {512, 4},
		"-wal": {32, 24}} {
		b, err := os.ReadFile(from + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		tail := 0
		if suffix == "-journal" {
			tail = 4
		}
		for at := front[0]; at+front[1]+page <= len(b); at += front[1] + page + tail {
			for i := range page {
				if suffix != "" || at > 0 || i >= plain {
					b[at+front[1]+i] ^= 0x55
				}
			}
		}
		if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEncryptedIsLeftAlone: what stock SQLite cannot read it must not recover: it would delete
// the journal, and with it what there was before the transaction.
func TestEncryptedIsLeftAlone(t *testing.T) {
	for _, plain := range []int{0, 100} {
		t.Run(fmt.Sprint(plain, " bytes in plain"), func(t *testing.T) {
			s := dirSite(t)
			db, hot := s.path("own.db"), s.path("hot.db")
			writer := openTest(t, db)
			execute(t, writer, "PRAGMA cache_size=5; CREATE TABLE t(x); "+
				"INSERT INTO t VALUES (randomblob(100000));")
			execute(t, writer, "BEGIN; UPDATE t SET x = randomblob(100000); CREATE TABLE u(x); "+
				"INSERT INTO u VALUES (randomblob(200000));")
			must(t, "-c", s.config(), "sync", s.database("hot.db", 10000)) // it has a spool
			ciphered(t, db, hot, plain)
			before := s.tree()
			refuse(t, 1, []string{"sync " + hot, "encrypted", "application"}, "-c", s.config(),
				"sync", hot)
			s.unchanged(before, "spool")
			r := ctl(t, "flush", s.path("spool"))
			if r.code != 1 || !strings.Contains(r.stderr, "hot journal") ||
				!strings.Contains(r.stderr, "application") {
				t.Errorf("flush: exit code %d, %q", r.code, r.stderr)
			}
			s.unchanged(before, "spool")
		})
	}
}

// TestCheckOwn: recovery by stock SQLite is let at what is its own, however it was left.
func TestCheckOwn(t *testing.T) {
	s := dirSite(t)
	wal := s.path("wal.db")
	execute(t, openTest(t, wal), "PRAGMA journal_mode=WAL; CREATE TABLE t(x); "+
		"INSERT INTO t VALUES (randomblob(100000));")
	cut := func(name string, size int64) {
		if err := os.Truncate(s.path(name), size); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		plant func(name string)
		own   bool
	}{
		"missing":      {func(string) {}, true},
		"empty":        {func(name string) { s.write(name, nil) }, true},
		"one byte":     {func(name string) { s.write(name, []byte("x")) }, true},
		"zeros":        {func(name string) { s.write(name, make([]byte, 4096)) }, true},
		"junk":         {func(name string) { s.write(name, []byte("junk")) }, false},
		"wal":          {func(name string) { ciphered(t, wal, s.path(name), 4096) }, false},
		"encrypted":    {func(name string) { ciphered(t, wal, s.path(name), 0) }, false},
		"plain header": {func(name string) { ciphered(t, wal, s.path(name), 100) }, false},
		"a cut header": {func(name string) {
			ciphered(t, wal, s.path(name), 100)
			cut(name+"-wal", 20)
		}, true},
		"no whole frame": {func(name string) {
			ciphered(t, wal, s.path(name), 100)
			cut(name+"-wal", 33)
		}, true},
		"an empty WAL": {func(name string) {
			ciphered(t, wal, s.path(name), 100)
			cut(name+"-wal", 0)
		}, true},
		"a zero journal": {func(name string) {
			s.write(name+"-journal", make([]byte, 9000))
		}, true},
		"a short journal": {func(name string) {
			s.write(name+"-journal", []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"))
		}, true},
	} {
		c.plant(name)
		if err := checkOwn(s.path(name)); (err == nil) != c.own {
			t.Errorf("%s: %v, want its own: %v", name, err, c.own)
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(wal + suffix)
		if err != nil {
			t.Fatal(err)
		}
		s.write("copy.db"+suffix, b)
	}
	if err := checkOwn(s.path("copy.db")); err != nil {
		t.Errorf("stock's own WAL: %v", err)
	}
}

// TestSyncOdd: what SQLite opens is backed up, whatever its header says; what it does not open is
// said by more than SQLite says.
func TestSyncOdd(t *testing.T) {
	s := dirSite(t)
	one := s.write("one.db", []byte("x")) // empty, to SQLite
	must(t, "-c", s.config(), "sync", one)
	if got := s.restored(one); string(got) != "x" {
		t.Errorf("the file of one byte is restored as %q", got)
	}
	for _, encoding := range []uint32{4, 16, 1 << 31} {
		db := s.database(fmt.Sprintf("encoding%d.db", encoding), 10000)
		damage := func(off int, text string) {
			b, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			s.write(fmt.Sprintf("encoding%d.db", encoding),
				append(append(b[:off:off], text...), b[off+len(text):]...))
		}
		damage(56, string(binary.BigEndian.AppendUint32(nil, encoding)))
		must(t, "-c", s.config(), "sync", db)
		want, err := os.ReadFile(db)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.restored(db); string(got) != string(want) {
			t.Errorf("text encoding %d: the restored file differs", encoding)
		}
		damage(100, "junk") // the schema's page
		refuse(t, 1, []string{"sync " + db, "text encoding", fmt.Sprint(encoding)}, "-c",
			s.config(), "sync", db)
	}
	refuse(t, 1, []string{"not a database", "encrypted"}, "-c", s.config(), "sync",
		s.write("junk.db", []byte(strings.Repeat("junk", 1000))))
}
