package ceph_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// TestUsage: our library, by the name of libcephsqlite, without any configuration, loaded and
// opened by the very commands; the pool by its name or its number, with and without a namespace;
// and the user from CEPH_ARGS.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	lib := t.TempDir()
	harness.Must(t, os.Symlink(harness.Library(t), filepath.Join(lib, "libcephsqlite.so")))
	w.cluster.User(t, "usage", "mon", "allow r", "osd", "allow rwx")
	id := poolNumber(w)
	for i, place := range []string{
		cephtest.Pool + ":" + w.namespace + "/baz.db", "*" + id + ":" + w.namespace + "/baz.db",
		cephtest.Pool + ":/usage.db", "*" + id + ":/usage.db",
	} {
		user := []string{"", "usage"}[i%2]
		env := append(w.cluster.Env(user), "VERNEUIL_CONFIG=",
			"LD_LIBRARY_PATH="+lib+":"+os.Getenv("LD_LIBRARY_PATH"))
		r := harness.Run(t, env, harness.SQLiteShell(t), "-batch",
			"-cmd", ".load libcephsqlite.so", "-cmd", ".open file:///"+place+"?vfs=ceph",
			":memory:", "-cmd", "create table if not exists t(x); insert into t values(1);"+
				"select count(*) from t;")
		if want := fmt.Sprintf("%d\n", 1+i%2); r.Code != 0 || r.Stdout != want || r.Stderr != "" {
			t.Errorf("%s as %q: %q, want %q; %s", place, user, r.Stdout, want, r.Stderr)
		}
	}
}

func poolNumber(w *world) string {
	w.Helper()
	var pools []struct {
		Number int    `json:"poolnum"`
		Name   string `json:"poolname"`
	}
	out := w.cluster.Run(w.T, "ceph", "osd", "lspools", "--format", "json")
	harness.Must(w.T, json.Unmarshal([]byte(out), &pools))
	for _, p := range pools {
		if p.Name == cephtest.Pool {
			return strconv.Itoa(p.Number)
		}
	}
	w.Fatalf("no pool %s in %s", cephtest.Pool, out)
	return ""
}

// TestUser: a client that may read the monitors, and read and write one namespace of one pool,
// needs no right to blocklist, also to take the database over from one that died. Others are told
// what they lack.
func TestUser(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]any{"lease_timeout_ms": 500, "lease_renewal_ms": 100})
	narrow := "allow rwx pool=" + cephtest.Pool + " namespace=" + w.namespace
	w.cluster.User(t, "narrow", "mon", "allow r", "osd", narrow)
	w.cluster.User(t, "reads", "mon", "allow r", "osd", strings.Replace(narrow, "rwx", "r", 1))
	w.cluster.User(t, "none", "mon", "allow r")
	holder := w.shell(w.uri("a.db"), w.cluster.Env("narrow")...)
	holder.Must("create table t(x); insert into t values('kept'); begin immediate;")
	holder.Must("insert into t values('lost');")
	holder.Kill()
	next := w.shell(w.uri("a.db"), w.cluster.Env("narrow")...)
	next.Must(".timeout 60000")
	next.Must("insert into t values('next');")
	next.Want("select group_concat(x) from t;", "kept,next")
	reader := w.shell(w.uri("a.db")+"&mode=ro", w.cluster.Env("reads")...)
	reader.Want("select group_concat(x) from t;", "kept,next")
	none := w.shell(w.uri("a.db"), w.cluster.Env("none")...)
	fails(none, "select * from t;", "capabilities", cephtest.Pool)
	w.configure(map[string]any{"remote_deadline_ms": 500})
	writes := w.shell(w.uri("a.db"), w.cluster.Env("reads")...)
	fails(writes, "insert into t values('no');", "capabilities")
	next.Want("select group_concat(x) from t;", "kept,next")
}

// TestPageSize: 65536, as advised, and any other.
func TestPageSize(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{512, 4096, 65536} {
		name := fmt.Sprintf("page%d.db", size)
		s := w.shell(w.uri(name))
		s.Must(fmt.Sprintf("pragma page_size = %d; create table t(x); "+
			"insert into t values(zeroblob(300000));", size))
		s.Want("pragma page_size; pragma integrity_check;", fmt.Sprintf("%d\nok", size))
		s.EndsWith(0)
		s = w.shell(w.uri(name))
		s.Want("pragma page_size; select length(x) from t;", fmt.Sprintf("%d\n300000", size))
	}
}

// TestCache: SQLite's cache may have any size. Ours has what was read before: no request for it
// goes to the cluster when SQLite's has dropped it.
func TestCache(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Want("pragma cache_size = 4096; pragma cache_size;", "4096")
	s.Must("create table t(k integer primary key, v blob); with n(i) as (select 1 union all " +
		"select i + 1 from n where i < 3000) insert into t select i, randomblob(1000) from n;")
	s.EndsWith(0)
	s = w.shell(w.uri("a.db"))
	s.Must("pragma cache_size = 10;")
	s.Want("begin; select count(*), sum(length(v)) from t;", "3000|3000000")
	const requests = "select json_extract(verneuil_status(), '$.api_calls');"
	before := s.Ask(requests)
	s.Want("select count(*), sum(length(v)) from t;", "3000|3000000")
	if after := s.Ask(requests); after != before || before == "" || before == "0" {
		t.Errorf("%s requests, then %s", before, after)
	}
}

// TestJournalPersistence: each journal mode is what it is in a local file, and none leaves an
// object: nothing uncommitted is in the cluster. A rollback drops what was written.
func TestJournalPersistence(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Must("create table t(x);")
	for i, mode := range []string{"delete", "truncate", "persist", "memory", "off"} {
		s.Want("pragma journal_mode = "+mode+";", mode)
		s.Must("insert into t values('" + mode + "');")
		if mode != "off" {
			s.Must("begin; insert into t values('no'); update t set x = 'no'; rollback;")
		}
		s.Want("select count(*), sum(x = 'no') from t;", fmt.Sprintf("%d|0", i+1))
	}
	if objects := w.objects(); strings.Contains(objects, "journal") {
		t.Errorf("the namespace has %s", objects)
	}
}

// TestExclusiveLockMode: the database is locked for as long as the connection wants. Others are
// told that it is busy after their busy_timeout, and do not wait for ever; and they read.
func TestExclusiveLockMode(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Must("create table t(x); insert into t values(1);")
	s.Want("pragma locking_mode = exclusive; insert into t values(2);", "exclusive")
	other := w.shell(w.uri("a.db"))
	other.Must(".timeout 300")
	fails(other, "insert into t values(3);", "locked")
	other.Want("select count(*) from t;", "2")
	for range 20 {
		s.Must("insert into t values(4);")
	}
	other.Want("select count(*) from t;", "22")
	s.Want("pragma locking_mode = normal; select count(*) from t;", "normal\n22")
	other.Must(".timeout 60000")
	other.Must("insert into t values(3);")
}

// TestWALJournal: it works under exclusive locking, as there; without that SQLite says so, and
// nothing is lost by it.
func TestWALJournal(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Want("pragma journal_mode = wal;", "delete")
	s.Want("pragma locking_mode = exclusive; pragma journal_mode = wal;", "exclusive\nwal")
	s.Must("create table t(x); insert into t values(1); insert into t values(2);")
	other := w.shell(w.uri("a.db"))
	other.Want("select count(*) from t;", "2")
	s.Must("insert into t values(3);")
	s.Kill() // what was committed is there, though it was never checkpointed
	other.Want("select count(*) from t; pragma integrity_check;", "3\nok")
	if objects := w.objects(); strings.Contains(objects, "wal") {
		t.Errorf("the namespace has %s", objects)
	}
}

// TestParallelAccess: readers read beside the writer, and beside each other; each transaction
// reads one version.
func TestParallelAccess(t *testing.T) {
	w := newWorld(t)
	writer := w.shell(w.uri("a.db"))
	writer.Must("create table t(x); insert into t values(0), (0);")
	var readers []*harness.Process
	for range 3 {
		readers = append(readers, w.shell(w.uri("a.db")))
	}
	readers[0].Want("begin; select sum(x) from t;", "0")
	for i := range 30 {
		writer.Must("begin; update t set x = x + 1;")
		for _, r := range readers[1:] { // the transaction is open meanwhile
			r.Want("select min(x), max(x) from t;", fmt.Sprintf("%d|%d", i, i))
		}
		writer.Must("commit;")
	}
	readers[0].Want("select sum(x) from t; commit;", "0")
	readers[0].Want("select sum(x) from t;", "60")
}

// TestExport: by verneuilctl, by SQLite's backup and by VACUUM INTO, beside a writer in the middle
// of a transaction.
func TestExport(t *testing.T) {
	w := newWorld(t)
	writer := w.shell(w.uri("a.db"))
	writer.Must("create table t(x); with n(i) as (select 1 union all select i + 1 from n " +
		"where i < 3000) insert into t select randomblob(1000) from n;")
	want := writer.Ask("select count(*), sum(length(x)) from t;")
	writer.Must("begin immediate; delete from t;")
	w.ctl("export", w.database("a.db"), w.site.Path("export.db"))
	s := w.shell(w.uri("a.db"))
	s.Must(".backup " + w.site.Path("backup.db"))
	s.Must("vacuum into 'file:" + w.site.Path("vacuum.db") + "?vfs=unix';")
	writer.Must("rollback;")
	for _, name := range []string{"export.db", "backup.db", "vacuum.db"} {
		got := w.site.Stock(name, "select count(*), sum(length(x)) from t; pragma integrity_check")
		if got != want+"\nok" {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

// TestTemporaryTables: those that do not fit into memory work, and so does VACUUM, without
// temp_store.
func TestTemporaryTables(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Must("pragma temp.cache_size = 10; pragma temp_store = file;")
	s.Must("create temp table big(x); with n(i) as (select 1 union all select i + 1 from n " +
		"where i < 5000) insert into big select randomblob(1000) from n;")
	s.Must("create table t as select * from big; delete from t where rowid % 2; vacuum;")
	s.Want("select count(*) from t; select count(*) from temp.big; pragma integrity_check;",
		"2500\n5000\nok")
}

// TestBreakingLocks: who holds the database is told, and it can be taken from him when he died,
// without waiting until he is taken for dead.
func TestBreakingLocks(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]any{"lease_timeout_ms": 3600000})
	holder := w.shell(w.uri("a.db"))
	holder.Must("create table t(x); begin immediate; insert into t values('lost');")
	pid := holder.Command.Process.Pid
	if info := w.ctl("lock", "info", w.database("a.db")); !strings.Contains(info,
		fmt.Sprintf("pid %d", pid)) {
		t.Errorf("lock info does not name process %d: %s", pid, info)
	}
	holder.Kill()
	w.configure(map[string]any{"lease_timeout_ms": 3600000, "tempdir": t.TempDir()})
	next := w.shell(w.uri("a.db")) // of another machine, as far as it knows
	fails(next, "insert into t values('next');", "locked")
	w.ctl("lock", "break", w.database("a.db"), "--force")
	next.Must("insert into t values('next');")
	next.Want("select group_concat(x) from t;", "next")
}

// TestHowToCorrupt: a process that was away, and was replaced, cannot write when it comes back:
// its transaction fails, and it goes on with the next. Nobody was put on a blocklist.
func TestHowToCorrupt(t *testing.T) {
	w := newWorld(t)
	lease := map[string]any{"lease_timeout_ms": 500, "lease_renewal_ms": 100}
	w.configure(lease)
	before := w.cluster.Run(t, "ceph", "osd", "blocklist", "ls")
	rogue := w.shell(w.uri("a.db"))
	rogue.Must("create table t(x); insert into t values('first');")
	rogue.Must("begin immediate; insert into t values('rogue');")
	harness.Must(t, rogue.Command.Process.Signal(syscall.SIGSTOP))
	lease["tempdir"] = t.TempDir() // of another machine
	w.configure(lease)
	next := w.shell(w.uri("a.db"))
	next.Must(".timeout 60000")
	next.Must("insert into t values('next');")
	harness.Must(t, rogue.Command.Process.Signal(syscall.SIGCONT))
	fails(rogue, "commit;")
	next.Want("select group_concat(x) from t; pragma integrity_check;", "first,next\nok")
	rogue.Ask("rollback;")
	rogue.Must(".timeout 60000")
	rogue.Must("insert into t values('back');")
	next.Want("select group_concat(x) from t;", "first,next,back")
	if after := w.cluster.Run(t, "ceph", "osd", "blocklist", "ls"); after != before {
		t.Errorf("the blocklist was %q, and is %q", before, after)
	}
}

// TestStatusFunction: it has libcephsqlite's members. Its address is that of this process: with
// that on the blocklist, what was committed stays, and the process goes on as another client.
func TestStatusFunction(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Must("create table t(x); insert into t values(1);")
	theirs := w.theirs(w.uri("b.db"), "select ceph_status();").Stdout
	mine := s.Ask("select ceph_status();")
	if a, b := members(t, theirs), members(t, mine); !slices.Equal(a, b) {
		t.Errorf("libcephsqlite has %v, we %v", a, b)
	}
	address := s.Ask("select json_extract(ceph_status(), '$.addr');")
	w.cluster.Run(t, "ceph", "osd", "blocklist", "add", address)
	s.Must("insert into t values(2);")
	s.Want("select count(*) from t;", "2")
	if now := s.Ask("select json_extract(ceph_status(), '$.addr');"); now == address {
		t.Errorf("still the client at %s", now)
	}
}

// TestPerformanceFunction: it has libcephsqlite's members, and counts.
func TestPerformanceFunction(t *testing.T) {
	w := newWorld(t)
	s := w.shell(w.uri("a.db"))
	s.Must("create table t(x); insert into t values(1);")
	theirs := w.theirs(w.uri("b.db"), "create table t(x); select ceph_perf();").Stdout
	if a, b := members(t, theirs), members(t, s.Ask("select ceph_perf();")); !slices.Equal(a, b) {
		t.Errorf("libcephsqlite has %v, we %v", a, b)
	}
	count := func(member string) string {
		return s.Ask("select json_extract(ceph_perf(), '$." + member + "');")
	}
	for member, sql := range map[string]string{
		"libcephsqlite_vfs.opf_sync.avgcount":       "insert into t values(2);",
		"libcephsqlite_vfs.opf_write.avgcount":      "insert into t values(3);",
		"libcephsqlite_vfs.opf_lock.avgcount":       "insert into t values(4);",
		"libcephsqlite_vfs.op_currenttime.avgcount": "update t set x = datetime('now');",
		"libcephsqlite_striper.lock":                "insert into t values(5);",
	} {
		before := count(member)
		s.Must(sql)
		if after := count(member); after == before || before == "" {
			t.Errorf("%s was %q, and is %q after %s", member, before, after, sql)
		}
	}
}

// members returns the paths of all members of a JSON object, but for what follows numbers.
func members(t *testing.T, text string) (all []string) {
	t.Helper()
	var walk func(at string, v any)
	walk = func(at string, v any) {
		all = append(all, fmt.Sprintf("%s %T", at, v))
		if m, ok := v.(map[string]any); ok {
			for _, key := range slices.Sorted(maps.Keys(m)) {
				walk(at+"."+key, m[key])
			}
		}
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	walk("", v)
	return all
}
