package ceph_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// vfsCase is a case of Ceph's own tests of its VFS: ceph_test_libcephsqlite, and the script that
// runs beside it. Each is done here on both of our VFSes.
type vfsCase struct {
	name string
	// what is otherwise here, and why; empty: nothing
	here string
	do   func(u *user)
}

// rows and blobs say how much is written where there it is a million rows, or 1,024 blobs of 1 MiB:
// that takes too long here.
const (
	rows  = 100000
	blobs = 24
)

var hundredRows = strings.Repeat("insert into foo values(random());", 100)

// noSizes is what is otherwise here of counters of the striper.
const noSizes = "there is no striper, and no attribute with a size: the counter is 0"

var vfsCases = []vfsCase{
	{"Create", "", func(u *user) {
		u.Must("create table foo(a int);")
		u.Want("select count(*) from foo;", "0")
	}},
	{"InsertBulk4096", "", func(u *user) {
		u.Must("pragma page_size = 4096; create table foo(a int);")
		u.Must(bulk("random()", rows))
		u.Want("pragma page_size; select count(*) from foo;", "4096\n100000")
	}},
	{"InsertBulk", "", func(u *user) {
		u.Must("create table foo(a int);" + bulk("random()", rows))
		u.Want("pragma page_size; select count(*) from foo;", "65536\n100000")
	}},
	{"UpdateBulk", "", func(u *user) {
		u.Must("create table foo(a int);" + bulk("x", rows))
		u.Want("select sum(a) from foo;", "5000050000")
		u.Must("update foo set a = a + a;")
		u.Want("select sum(a) from foo;", "10000100000")
	}},
	{"InsertRate", "the rate is measured by make bench, part rados", func(u *user) {
		u.Must("create table foo(a int);" + hundredRows)
		u.Want("select count(*) from foo;", "100")
	}},
	{"DatabaseShrink", "the size is that of the version, not of striped objects", func(u *user) {
		u.Must("create table foo(a int);" + bulk("x", rows))
		u.Must("delete from foo where a % 4 < 3;")
		before := u.number("pragma page_count;")
		u.Must("vacuum;")
		if after := u.number("pragma page_count;"); after >= before/2 {
			u.T.Errorf("%d pages, and %d after VACUUM", before, after)
		}
	}},
	{"InsertExclusiveRate", "as InsertRate", func(u *user) {
		u.Want("pragma locking_mode = exclusive;", "exclusive")
		u.Must("create table foo(a int);" + hundredRows)
		u.Want("select count(*) from foo;", "100")
	}},
	{"InsertExclusiveWALRate", "as InsertRate", func(u *user) {
		u.Want("pragma locking_mode = exclusive; pragma journal_mode = wal;", "exclusive\nwal")
		u.Must("create table foo(a int);" + hundredRows)
		u.Want("select count(*) from foo;", "100")
	}},
	{"WALTransactionSync", "none, and not one: in WAL mode a commit is durable when its last " +
		"frame is written, before SQLite asks for it", func(u *user) {
		u.Want("pragma locking_mode = exclusive; pragma journal_mode = wal;", "exclusive\nwal")
		u.Must("create table foo(a int);")
		u.counts("libcephsqlite_vfs.opf_sync.avgcount", 0, "begin;"+
			strings.Repeat("insert into foo values(random());", 10)+"end;")
	}},
	{"PersistTransactionSync", "one, and not three: a commit is one object", func(u *user) {
		u.counts("libcephsqlite_vfs.opf_sync.avgcount", 1,
			"begin; create table foo(a int); insert into foo values(random()); end;")
	}},
	{"InsertExclusiveLock", "", func(u *user) {
		u.Want("pragma locking_mode = exclusive;", "exclusive")
		u.counts("libcephsqlite_vfs.opf_lock.avgcount", 3,
			"create table foo(a int); insert into foo values(random());")
	}},
	{"InsertExclusiveLock, of the striper", "", func(u *user) {
		u.Want("pragma locking_mode = exclusive;", "exclusive")
		u.counts("libcephsqlite_striper.lock", 1,
			"create table foo(a int); insert into foo values(random());")
	}},
	{"TransactionSizeUpdate", noSizes, func(u *user) {
		u.counts("libcephsqlite_striper.update_size", 0,
			"begin; create table foo(a int); insert into foo values(random()); end;")
	}},
	{"AllocatedGrowth", noSizes, func(u *user) {
		u.counts("libcephsqlite_striper.update_allocated", 0,
			"create table foo(a blob);"+bulk("randomblob(1 << 20)", blobs))
		u.Want("select sum(length(a)) from foo;", strconv.Itoa(blobs<<20))
	}},
	{"DeleteBulk", "", func(u *user) {
		u.Must("create table foo(a int);" + bulk("x", rows))
		u.Must("delete from foo where a % 2 = 0;")
		u.Want("select count(*), sum(a) from foo;", "50000|2500000000")
	}},
	{"DropMassive", noSizes, func(u *user) {
		u.Must("create table foo(a blob);" + bulk("randomblob(1 << 20)", blobs))
		before := u.number("pragma page_count;")
		u.Must("drop table foo; vacuum;")
		if after := u.number("pragma page_count;"); before < blobs<<4 || after > 2 {
			u.T.Errorf("%d pages, and %d after DROP TABLE and VACUUM", before, after)
		}
	}},
	{"InsertMassiveVerify", "", func(u *user) {
		u.Must("create table foo(a blob); create temporary table bar(a blob);" +
			strings.Replace(bulk("randomblob(1 << 20)", blobs), "into foo", "into bar", 1) +
			"insert into foo(a) select a from bar;")
		u.Must(".open " + u.uri) // without what SQLite's cache has, and without bar
		u.Want("select count(*), sum(length(a)), count(distinct a) from foo;",
			fmt.Sprintf("%d|%d|%[1]d", blobs, blobs<<20))
	}},
	{"PerfValid", "", func(u *user) { u.Want("select json_valid(ceph_perf());", "1") }},
	{"StatusValid", "", func(u *user) { u.Want("select json_valid(ceph_status());", "1") }},
	{"CurrentTime", "", func(u *user) {
		first := time.Now().Unix()
		now := int64(u.number("select strftime('%s', 'now');"))
		if last := time.Now().Unix(); now < first || now > last {
			u.T.Errorf("%d is not between %d and %d", now, first, last)
		}
	}},
	{"StatusFields", "", func(u *user) {
		address := u.Ask("select json_extract(ceph_status(), '$.addr');")
		if !regexp.MustCompile(`^127\.0\.0\.1:0/\d+$`).MatchString(address) {
			u.T.Errorf("address %q", address)
		}
		if u.number("select json_extract(ceph_status(), '$.id');") <= 0 {
			u.T.Error("no number")
		}
	}},
	{"script: create, insert, drop", "", func(u *user) {
		u.Must("create table if not exists foo(a int); insert into foo values(random());" +
			"drop table foo;")
	}},
	{"script: ten transactions, and one of a hundred rows", "", func(u *user) {
		const insert = "insert into rand values(randomblob(4096));"
		u.Must("create table if not exists rand(text blob not null);" + strings.Repeat(insert, 10))
		u.Want("select count(*), sum(length(text)) from rand;", "10|40960")
		u.Must("drop table rand; begin; create table if not exists rand(text blob not null);" +
			strings.Repeat(insert, 100) + "commit;")
		u.Want("select count(*), sum(length(text)) from rand;", "100|409600")
		u.Must("drop table rand;")
	}},
	{"script: a connection that dies", "the next one waits for lease_timeout_ms, on another " +
		"machine, and not at all on this one", func(u *user) {
		u.chew()
		u.Kill()
		next := u.w.shell(u.uri)
		next.Must(".timeout 60000")
		next.Must("insert into foo values(randomblob(1));")
		next.Want("select count(*) from foo; pragma integrity_check;", "2\nok")
	}},
	{"script: a connection that hangs", "", func(u *user) {
		u.chew()
		harness.Must(u.T, u.Command.Process.Signal(syscall.SIGSTOP))
		u.w.configure(map[string]any{"lease_timeout_ms": 500, "lease_renewal_ms": 100,
			"tempdir": u.T.TempDir()}) // of another machine
		next := u.w.shell(u.uri)
		next.Must(".timeout 60000")
		next.Must("insert into foo values(randomblob(1));")
		harness.Must(u.T, u.Command.Process.Signal(syscall.SIGCONT))
		before := len(u.Stderr())
		u.Ask("commit;") // it has lost the database
		if said := u.Stderr()[before:]; !strings.Contains(said, "rror") {
			u.T.Errorf("commit: %q", said)
		}
		next.Want("select count(*) from foo; pragma integrity_check;", "2\nok")
	}},
}

// bulk inserts n rows into foo.
func bulk(value string, n int) string {
	return fmt.Sprintf("with recursive c(x) as (values(1) union all select x + 1 from c) "+
		"insert into foo(a) select %s from c limit %d;", value, n)
}

// user is a shell with the database of a case.
type user struct {
	*harness.Process
	w   *world
	uri string
}

func (u *user) number(sql string) int {
	u.T.Helper()
	answer := u.Ask(sql)
	n, err := strconv.Atoi(answer)
	if err != nil {
		u.T.Fatalf("%s: %q: %s", sql, answer, u.Stderr())
	}
	return n
}

// counts checks by how much a member of ceph_perf() grows.
func (u *user) counts(member string, by int, sql string) {
	u.T.Helper()
	read := "select json_extract(ceph_perf(), '$." + member + "');"
	before := u.number(read)
	u.Must(sql)
	if got := u.number(read) - before; got != by {
		u.T.Errorf("%s: %s grows by %d, not by %d", sql, member, got, by)
	}
}

// chew has the shell commit one row, and be in the middle of a transaction that has written more
// than any cache holds.
func (u *user) chew() {
	u.T.Helper()
	u.Must("create table foo(a blob); insert into foo values(randomblob(1 << 20));")
	u.Must("pragma cache_size = 10; begin;")
	u.Must(bulk("randomblob(1 << 20)", 20))
	path := fmt.Sprintf("/proc/%d/io", u.Command.Process.Pid)
	harness.Until(u.T, "it has written", func() bool {
		text, err := os.ReadFile(path)
		harness.Must(u.T, err)
		var read, written int64
		fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written)
		return written > 10<<20
	})
}

// TestCephsCases: the cases of Ceph's own tests, by either name of the VFS, each in a database of
// its own, which their name for the VFS finds without slashes before the pool, as their program has
// it. What a case leaves is whole for another process.
func TestCephsCases(t *testing.T) {
	for _, vfs := range []string{"ceph", "verneuil_remote"} {
		w := newWorld(t)
		for i, c := range vfsCases {
			t.Run(vfs+"/"+c.name, func(t *testing.T) {
				w := &world{t, w.cluster, w.namespace, w.site}
				w.configure(map[string]any{"lease_timeout_ms": 500, "lease_renewal_ms": 100})
				slashes := ""
				if vfs != "ceph" {
					slashes = "///"
				}
				uri := fmt.Sprintf("file:%s%s:%s/%d.db?vfs=%s", slashes, cephtest.Pool,
					w.namespace, i, vfs)
				u := &user{w.shell(uri), w, uri}
				u.Want("pragma journal_mode = persist;", "persist")
				u.Must("pragma page_size = 65536; pragma cache_size = 32768;" +
					"pragma temp_store = memory;")
				c.do(u)
				if c.here != "" {
					t.Log("here: " + c.here)
				}
				w.shell(uri).Want("pragma integrity_check;", "ok")
			})
		}
	}
}
