package ceph_test

import (
	"fmt"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// program does what a program may: it makes tables, fills them in bulk, updates, deletes, shrinks,
// rolls back. The answers must not depend on the VFS. Without a large cache libcephsqlite asks the
// cluster for each page, one after the other.
const program = `
pragma temp_store = memory; pragma cache_size = -64000;
create table t(k integer primary key, v blob, n text unique);
with i(i) as (select 1 union all select i + 1 from i where i < 1000)
	insert into t select i, zeroblob(i % 3000), 'name' || i from i;
select count(*), sum(length(v)) from t;
update t set v = zeroblob(length(v) + 1) where k % 3;
begin; delete from t where k > 100; savepoint s; insert into t values(1000000, 'x', 'x');
rollback to s; select count(*) from t; rollback;
begin; insert into t select k + 100000, v, n || '+' from t; commit;
insert or ignore into t values(1, 'again', 'name1');
create index byLength on t(length(v)); alter table t add column more default 7;
delete from t where k % 2; vacuum;
select count(*), sum(length(v)), sum(k), sum(more), max(n) from t;
drop index byLength; create table u as select n from t; drop table t;
create virtual table words using fts5(w); insert into words select n from u;
select count(*) from words where words match 'name42 OR name44';
pragma page_count; pragma freelist_count; pragma integrity_check; pragma foreign_key_check;
`

// TestSameProgram: a program gives the same answers on libcephsqlite and here, in several journal
// and locking modes; and so does what another process reads then.
func TestSameProgram(t *testing.T) {
	w := newWorld(t)
	mine := func(uri, sql string) harness.Result {
		return harness.Run(t, []string{w.site.Env()}, harness.SQLiteShell(t), "-batch", "-bail",
			"-cmd", ".load "+harness.Library(t), "-cmd", ".open "+uri, ":memory:", "-cmd", sql)
	}
	for i, pragmas := range []string{
		"pragma page_size = 4096;",
		"pragma page_size = 65536; pragma journal_mode = persist;",
		"pragma page_size = 65536; pragma locking_mode = exclusive; pragma journal_mode = wal;",
		"pragma page_size = 1024; pragma journal_mode = memory; pragma auto_vacuum = full;",
	} {
		sql := pragmas + program
		name := fmt.Sprintf("p%d.db", i)
		a, b := w.theirs(w.uri(name), sql), mine(w.uri(name), sql)
		if a.Code != 0 || b.Code != 0 || a.Stdout != b.Stdout || b.Stderr != "" {
			t.Errorf("%s\nlibcephsqlite %d %s%s\nhere %d %s%s", pragmas, a.Code, a.Stdout, a.Stderr,
				b.Code, b.Stdout, b.Stderr)
			continue
		}
		if !strings.Contains(b.Stdout, "\nok") {
			t.Errorf("%s answers %q", pragmas, b.Stdout)
		}
		const look = "pragma locking_mode = exclusive; select count(*), min(n), max(n) from u;" +
			"select * from words where words match 'name44';"
		a, b = w.theirs(w.uri(name), look), mine(w.uri(name), look)
		if a.Code != 0 || a.Stdout != b.Stdout || !strings.Contains(b.Stdout, "name44") {
			t.Errorf("%s then\nlibcephsqlite %s%s\nhere %s%s", pragmas, a.Stdout, a.Stderr,
				b.Stdout, b.Stderr)
		}
	}
}
