package main_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// largeBytes is the least size of the large database: a file of real input, with
// text, blobs and indexes.
const largeBytes = 200 << 20

const largeSQL = `
	pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-100000;
	create table t(id integer primary key, name text, note text, data blob, amount real);
	with recursive n(i) as (select 1 union all select i+1 from n limit 50000)
		insert into t select i, 'customer ' || (i*7919 % 50000), 'note ' || i || ' ' || hex(randomblob(200)),
			randomblob(1500 + i % 1000), i * 0.25 from n;
	create index by_name on t(name);
	create index by_note on t(note, amount);`

// updateBytesMax is what an update of one row may take in the target: some pages of
// 4 KiB, before compression.
const updateBytesMax = 32 << 10

// storedBytes returns the size of the dir target; 0 if the target is another.
func (s *site) storedBytes() (bytes int64) {
	s.t.Helper()
	err := filepath.WalkDir(s.path("store"), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	return bytes
}

// TestLargeDatabase: sync, a small update through the extension, restore and a replica
// of a database of 200 MB. The update is one small object.
func TestLargeDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a database of 200 MB")
	}
	original := filepath.Join(t.TempDir(), "original.db")
	if r := run(t, nil, sqliteShell(t), original, largeSQL); r.code != 0 || r.stderr != "" {
		t.Fatalf("make the database: %s", r.stderr)
	}
	if info, err := os.Stat(original); err != nil || info.Size() < largeBytes {
		t.Fatalf("the database is too small: %v, %v", info, err)
	}
	for name, newSite := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite} {
		t.Run(name, func(t *testing.T) { largeDatabase(t, newSite(t), original) })
	}
}

func largeDatabase(t *testing.T, s *site, original string) {
	if err := os.Link(original, s.path("a.db")); err != nil {
		t.Fatal(err)
	}
	s.ctl("sync", s.path("a.db"))

	shell := s.shell("a.db")
	shell.must("update t set note = 'first contact' where id = 17;")
	shell.flush() // the mirror is made, and compared with the target
	before := shell.calls()
	stored := s.storedBytes()
	shell.must("update t set note = 'a small change' where id = 40000;")
	shell.flush()
	calls := shell.calls() - before
	if calls != 1 {
		t.Errorf("an update of one row takes %d requests, want 1", calls)
	}
	// A manifest with the page inline takes the place of one like it.
	if grown := s.storedBytes() - stored; grown > updateBytesMax {
		t.Errorf("the target grew by %d bytes", grown)
	}
	if size := s.manifestBytes(); size > updateBytesMax {
		t.Errorf("the manifest has %d bytes", size)
	}
	shell.endsWith(0)
	s.mustEqual("a.db")

	// More than what replicas map of what they have.
	const all = "select count(*), sum(id*length(data)), sum(instr(data, x'00')), sum(unicode(substr(note, id%300))) from t"
	replica := run(t, []string{s.env()}, built(t, "VERNEUIL_CTL"), "-c", s.config(), "shell", "-s", s.path("a.db"),
		"--vfs", library(t), "--", "select note from t where id = 40000; select count(*) from t indexed by by_name where name = 'customer 7919';"+all+";"+all)
	want := s.stock("a.db", all)
	if replica.stdout != "a small change\n1\n"+want+"\n"+want+"\n" || replica.code != 0 {
		t.Errorf("the replica says %q %q, want the sums %s", replica.stdout, replica.stderr, want)
	}
}

// calls returns how many requests the program has sent.
func (s *session) calls() int64 {
	s.t.Helper()
	var status struct {
		Calls int64 `json:"api_calls"`
	}
	s.status(&status)
	return status.Calls
}

// manifestBytes returns the size of the newest manifest, as stored.
func (s *site) manifestBytes() int64 {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "manifest")
	s.ctl("manifest", s.path("a.db"), "--out", out)
	info, err := os.Stat(out)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Size()
}

// TestPythonThreads: threads of one process, each with a connection, write one database.
func TestPythonThreads(t *testing.T) {
	lib := library(t)
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range journals {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			r := run(t, []string{s.env()}, python, filepath.Join("..", "..", "test", "hosts", "threads.py"), lib,
				s.path("a.db"), journal)
			if want := "200 rows, flush 1\n"; r.stdout != want || r.stderr != "" || r.code != 0 {
				t.Fatalf("python: exit code %d, %q, want %q\n%s", r.code, r.stdout, want, r.stderr)
			}
			s.mustEqual("a.db")
			if ok := s.stock("a.db", "pragma integrity_check", "select count(distinct b) from t"); ok != fmt.Sprintf("ok\n%d", 200) {
				t.Errorf("the database says %q", ok)
			}
		})
	}
}
