package limits_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"verneuil/test/e2e/harness"
)

// largeBytes is the least size of the large database: a file of real input, with
// text, blobs and indexes.
const largeBytes = 200 << 20

const largeSQL = `
	pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-100000;
	create table t(id integer primary key, name text, note text, data blob, amount real);
	with recursive n(i) as (select 1 union all select i+1 from n limit 50000)
		insert into t select i, 'customer ' || (i*7919 % 50000),
			'note ' || i || ' ' || hex(randomblob(200)),
			randomblob(1500 + i % 1000), i * 0.25 from n;
	create index by_name on t(name);
	create index by_note on t(note, amount);`

// updateBytesMax is what an update of one row may take in the target: some pages of
// 4 KiB, before compression.
const updateBytesMax = 32 << 10

// storedBytes returns the size of the dir target; 0 if the target is another.
func storedBytes(s *harness.Site) (bytes int64) {
	s.T.Helper()
	err := filepath.WalkDir(s.Path("store"), func(_ string, entry fs.DirEntry, err error) error {
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
		s.T.Fatal(err)
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
	if r := harness.Run(t, nil, harness.SQLiteShell(t), original, largeSQL); r.Code != 0 ||
		r.Stderr != "" {
		t.Fatalf("make the database: %s", r.Stderr)
	}
	if info, err := os.Stat(original); err != nil || info.Size() < largeBytes {
		t.Fatalf("the database is too small: %v, %v", info, err)
	}
	for name, newSite := range map[string]func(*testing.T) *harness.Site{"dir": harness.DirSite,
		"minio": harness.MinioSite} {
		t.Run(name, func(t *testing.T) { largeDatabase(t, newSite(t), original) })
	}
}

func largeDatabase(t *testing.T, s *harness.Site, original string) {
	if err := os.Link(original, s.Path("a.db")); err != nil {
		t.Fatal(err)
	}
	s.Ctl("sync", s.Path("a.db"))

	shell := s.Shell("a.db")
	shell.Must("update t set note = 'first contact' where id = 17;")
	shell.Flush() // the mirror is made, and compared with the target
	before := calls(shell)
	stored := storedBytes(s)
	// A flush looks again at a target that was not seen for a second. A durable commit does not.
	shell.Want("pragma verneuil_durable=on;", "on")
	shell.Must("update t set note = 'a small change' where id = 40000;")
	shell.Want("pragma verneuil_durable_outcome;", "stored")
	shell.Want("pragma verneuil_durable=off;", "off")
	calls := calls(shell) - before
	if calls != 1 {
		t.Errorf("an update of one row takes %d requests, want 1", calls)
	}
	// A manifest with the page inline takes the place of one like it.
	if grown := storedBytes(s) - stored; grown > updateBytesMax {
		t.Errorf("the target grew by %d bytes", grown)
	}
	if size := manifestBytes(s); size > updateBytesMax {
		t.Errorf("the manifest has %d bytes", size)
	}
	shell.EndsWith(0)
	s.MustEqual("a.db")

	// More than what replicas map of what they have.
	const all = "select count(*), sum(id*length(data)), sum(instr(data, x'00')), " +
		"sum(unicode(substr(note, id%300))) from t"
	replica := harness.Run(t, []string{s.Env()}, harness.Built(t, "VERNEUIL_CTL"), "-c", s.Config(),
		"shell", "-s", s.Path("a.db"),
		"--vfs", harness.Library(t), "--",
		"select note from t where id = 40000; "+
			"select count(*) from t indexed by by_name where name = 'customer 7919';"+all+";"+all)
	want := s.Stock("a.db", all)
	if replica.Stdout != "a small change\n1\n"+want+"\n"+want+"\n" || replica.Code != 0 {
		t.Errorf("the replica says %q %q, want the sums %s", replica.Stdout, replica.Stderr, want)
	}
}

// calls returns how many requests the program has sent.
func calls(s *harness.Process) int64 {
	s.T.Helper()
	var status struct {
		Calls int64 `json:"api_calls"`
	}
	s.Status(&status)
	return status.Calls
}

// manifestBytes returns the size of the newest manifest, as stored.
func manifestBytes(s *harness.Site) int64 {
	s.T.Helper()
	out := filepath.Join(s.T.TempDir(), "manifest")
	s.Ctl("manifest", s.Path("a.db"), "--out", out)
	info, err := os.Stat(out)
	if err != nil {
		s.T.Fatal(err)
	}
	return info.Size()
}

// TestPythonThreads: threads of one process, each with a connection, write one database.
func TestPythonThreads(t *testing.T) {
	lib := harness.Library(t)
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			r := harness.Run(t, []string{s.Env()}, harness.Python, harness.InHosts("threads.py"),
				lib,
				s.Path("a.db"), journal)
			if want := "200 rows, flush 1\n"; r.Stdout != want || r.Stderr != "" || r.Code != 0 {
				t.Fatalf("python: exit code %d, %q, want %q\n%s", r.Code, r.Stdout, want, r.Stderr)
			}
			s.MustEqual("a.db")
			if ok := s.Stock("a.db", "pragma integrity_check",
				"select count(distinct b) from t"); ok != fmt.Sprintf("ok\n%d", 200) {
				t.Errorf("the database says %q", ok)
			}
		})
	}
}
