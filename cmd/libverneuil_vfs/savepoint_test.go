package main_test

import (
	"fmt"
	"os"
	"testing"

	"verneuil/spool"
)

// TestForgottenChecksums: SQLite (3.40; newer ones do not) commits frames without valid checksums if
// a transaction has written over frames that it has spilled, and goes back to a savepoint before
// them. Its readers do not look at checksums; the replicator must not wait for any.
func TestForgottenChecksums(t *testing.T) {
	s := dirSite(t)
	shell := s.shell("a.db", "VERNEUIL_VALIDATE=1", "VERNEUIL_LOG=error")
	shell.want("pragma journal_mode=wal;", "wal")
	shell.want("pragma wal_autocheckpoint=0;", "0")
	shell.must("pragma cache_size=5;")
	shell.must("create table t(a integer primary key, b);")
	shell.must("with recursive n(i) as (select 1 union all select i+1 from n limit 300) insert into t(b) select printf('%.*c', 900, 'x') from n;")
	const sum = "select count(*), sum(length(b)), min(b) from t where b <> 'lost';"
	for n := range 3 { // the second goes on from the first one's broken chain
		shell.must("begin; savepoint s; update t set b = a || printf('%.*c', 950, 'y'); update t set b = 'lost' where a > 200; rollback to s;")
		shell.must(fmt.Sprintf("insert into t(b) values ('new%d'); commit;", n))
		shell.flush()
		s.untilRestored("a.db", sum, shell.ask(sum))
	}
	f, err := os.Open(s.path("a.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := os.Open(s.path("a.db-shm"))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	view, err := spool.NewWALView(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	named, err := spool.ReadWALIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("valid frames %d, committed ones %d", view.Frames, named.Frames)
	shell.must("insert into t(b) values ('last');")
	shell.want("pragma wal_checkpoint(truncate);", "0|0|0") // the log gets what was not read
	shell.flush()
	s.mustEqual("a.db")
	shell.endsWith(0)
}

// TestForgottenChecksumsLost: what SQLite has committed so is lost if its processes are
// killed, as recovery takes only what is valid. A restore has the database as it is then, also
// if the next transactions have as many frames.
func TestForgottenChecksumsLost(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := dirSite(t)
		shell := s.shell("a.db", "VERNEUIL_LOG=error")
		shell.want("pragma journal_mode=wal;", "wal")
		shell.must("pragma cache_size=5;")
		shell.must("create table t(a integer primary key, b);")
		shell.must("with recursive n(i) as (select 1 union all select i+1 from n limit 300) insert into t(b) select printf('%.*c', 900, 'x') from n;")
		if all { // there is no valid frame then
			shell.want("pragma wal_checkpoint(truncate);", "0|0|0")
		}
		const write = "begin; savepoint s; update t set b = a || printf('%.*c', 950, 'y'); update t set b = 'lost' where a > 200; rollback to s;" +
			" insert into t(b) values (hex(randomblob(9))); commit;"
		shell.must(write)
		shell.flush()
		if err := shell.command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		shell.wait()
		const sum = "select count(*), sum(length(b)), max(b) from t;"
		shell = s.shell("a.db", "VERNEUIL_LOG=error")
		shell.must("pragma cache_size=5;")
		for range 2 {
			shell.flush()
			s.untilRestored("a.db", sum, shell.ask(sum))
			shell.must(write)
		}
		shell.flush()
		shell.want("pragma wal_checkpoint(truncate);", "0|0|0")
		shell.flush()
		s.mustEqual("a.db")
		shell.endsWith(0)
	}
}
