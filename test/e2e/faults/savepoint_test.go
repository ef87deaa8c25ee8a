package faults_test

import (
	"fmt"
	"os"
	"testing"

	"verneuil/spool/sqlitefile"
	"verneuil/test/e2e/harness"
)

// TestForgottenChecksums: SQLite (3.40; newer ones do not) commits frames without valid checksums
// if a transaction has written over frames that it has spilled, and goes back to a savepoint before
// them. Its readers do not look at checksums; the replicator must not wait for any.
func TestForgottenChecksums(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Shell("a.db", "VERNEUIL_VALIDATE=1", "VERNEUIL_LOG=error")
	shell.Want("pragma journal_mode=wal;", "wal")
	shell.Want("pragma wal_autocheckpoint=0;", "0")
	shell.Must("pragma cache_size=5;")
	shell.Must("create table t(a integer primary key, b);")
	shell.Must("with recursive n(i) as (select 1 union all select i+1 from n limit 300) insert " +
		"into t(b) select printf('%.*c', 900, 'x') from n;")
	const sum = "select count(*), sum(length(b)), min(b) from t where b <> 'lost';"
	for n := range 3 { // the second goes on from the first one's broken chain
		shell.Must("begin; savepoint s; update t set b = a || printf('%.*c', 950, 'y'); " +
			"update t set b = 'lost' where a > 200; rollback to s;")
		shell.Must(fmt.Sprintf("insert into t(b) values ('new%d'); commit;", n))
		shell.Flush()
		s.UntilRestored("a.db", sum, shell.Ask(sum))
	}
	f, err := os.Open(s.Path("a.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := os.Open(s.Path("a.db-shm"))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	view, err := sqlitefile.NewWALView(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	named, err := sqlitefile.ReadWALIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("valid frames %d, committed ones %d", view.Frames, named.Frames)
	shell.Must("insert into t(b) values ('last');")
	shell.Want("pragma wal_checkpoint(truncate);", "0|0|0") // the log gets what was not read
	shell.Flush()
	s.MustEqual("a.db")
	shell.EndsWith(0)
}

// TestForgottenChecksumsLost: what SQLite has committed so is lost if its processes are
// killed, as recovery takes only what is valid. A restore has the database as it is then, also
// if the next transactions have as many frames.
func TestForgottenChecksumsLost(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := harness.DirSite(t)
		shell := s.Shell("a.db", "VERNEUIL_LOG=error")
		shell.Want("pragma journal_mode=wal;", "wal")
		shell.Must("pragma cache_size=5;")
		shell.Must("create table t(a integer primary key, b);")
		shell.Must("with recursive n(i) as (select 1 union all select i+1 from n limit 300) " +
			"insert into t(b) select printf('%.*c', 900, 'x') from n;")
		if all { // there is no valid frame then
			shell.Want("pragma wal_checkpoint(truncate);", "0|0|0")
		}
		const write = "begin; savepoint s; update t set b = a || printf('%.*c', 950, 'y'); " +
			"update t set b = 'lost' where a > 200; rollback to s;" +
			" insert into t(b) values (hex(randomblob(9))); commit;"
		shell.Must(write)
		shell.Flush()
		if err := shell.Command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		shell.Wait()
		const sum = "select count(*), sum(length(b)), max(b) from t;"
		shell = s.Shell("a.db", "VERNEUIL_LOG=error")
		shell.Must("pragma cache_size=5;")
		for range 2 {
			shell.Flush()
			s.UntilRestored("a.db", sum, shell.Ask(sum))
			shell.Must(write)
		}
		shell.Flush()
		shell.Want("pragma wal_checkpoint(truncate);", "0|0|0")
		shell.Flush()
		s.MustEqual("a.db")
		shell.EndsWith(0)
	}
}
