package limits_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestBounded: with the store out of reach, the spool stays within its bound whatever is
// committed; when the store is back, everything arrives. VERNEUIL_COMMITS (5,000) is the
// number of commits in each mode.
func TestBounded(t *testing.T) {
	commits := harness.Number(t, "VERNEUIL_COMMITS", 5000)
	for _, journal := range []string{"delete", "wal", "delete+exclusive", "wal+exclusive"} {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Write("store", []byte("in its way: no directory can be made here"))
			shell, most := bounded(s, journal), int64(0)
			for done := 0; done < commits; {
				if done%50000 == 49500 { // another process goes on: none may run for long
					shell.EndsWith(0)
					shell = bounded(s, journal)
				}
				shell.Must(batch(done))
				done += batchCommits
				used, database := s.Blocks("spool"), s.Blocks("a.db")
				most = max(most, used)
				if bound := 2*database + 64<<20 + 8<<20; used > bound {
					t.Fatalf("after %d commits the spool takes %d bytes, "+
						"more than %d: the database %d", done, used, bound, database)
				}
			}
			t.Logf("%d commits, spool at most %d bytes, database %d", commits, most,
				s.Blocks("a.db"))
			if err := os.Remove(s.Path("store")); err != nil {
				t.Fatal(err)
			}
			shell.Flush()
			shell.EndsWith(0)
			s.MustEqual("a.db")
		})
	}
}

// batchCommits is how many small transactions a batch has, besides one that spills.
const batchCommits = 500

func batch(first int) string {
	var b strings.Builder
	for i := first; i < first+batchCommits; i++ {
		fmt.Fprintf(&b, "insert or replace into t values(%d, printf('%%.*c', 100, 'c'));", i%3000)
	}
	b.WriteString("begin; with recursive n(i) as (select 5000 union all select i+1 from n limit " +
		"2000)" +
		" insert or replace into t select i, printf('%.*c', 1000, 's') from n; commit;")
	return b.String()
}

// bounded starts a shell that has a.db open in a journal mode, and spills soon.
func bounded(s *harness.Site, journal string) *harness.Process {
	s.T.Helper()
	shell := s.Shell("a.db")
	mode, locking, _ := strings.Cut(journal, "+")
	if locking != "" {
		shell.Ask("pragma locking_mode=exclusive;")
	}
	shell.Want("pragma journal_mode="+mode+";", mode)
	shell.Must("pragma synchronous=off; pragma cache_size=5; " +
		"create table if not exists t(a integer primary key, b);")
	return shell
}

// TestManyDatabases: a process with many databases open and idle stays small, makes no
// requests, and has descriptors left; where they do not suffice, it can open what it
// could without us. VERNEUIL_DATABASES (100) is their number.
func TestManyDatabases(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	n := harness.Number(t, "VERNEUIL_DATABASES", 100)
	s := harness.DirSite(t)
	r := harness.Run(t, []string{s.Env(), "VERNEUIL_LOG=off"}, harness.Python,
		harness.InHosts("many.py"), harness.Library(t), s.Dir, strconv.Itoa(n), "0")
	if r.Code != 0 {
		t.Fatalf("%s%s", r.Stdout, r.Stderr)
	}
	t.Log(strings.TrimSpace(r.Stdout))
}

// TestFewDescriptors: with RLIMIT_NOFILE at 256 a process can open 200 databases, as it
// could without us, and is told which are not replicated, and why.
func TestFewDescriptors(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	s := harness.DirSite(t)
	r := harness.Run(t, []string{s.Env(), "VERNEUIL_LOG=off"}, harness.Python,
		harness.InHosts("many.py"), harness.Library(t), s.Dir, "120", "256")
	if r.Code != 0 || !strings.Contains(r.Stdout, "RLIMIT_NOFILE") {
		t.Fatalf("%s%s", r.Stdout, r.Stderr)
	}
	t.Log(strings.TrimSpace(r.Stdout))
}

// TestReplicaMemory: a process that reads a row of a replica has a few MiB more for it.
func TestReplicaMemory(t *testing.T) {
	s := harness.DirSite(t)
	s.Stock("a.db",
		"create table t(a integer primary key, b); "+
			"insert into t(b) values(randomblob(3000000)), ('small');")
	s.Ctl("sync", s.Path("a.db"))
	for range 4 { // what one process touches may depend on what its heap looks like
		shell := s.Shell("")
		before := anonymous(shell)
		shell.Must(".open 'file:verneuil://" + harness.Hostname + s.Path("a.db") +
			"?vfs=verneuil_snapshot'")
		shell.Want("select b from t where a=2;", "small")
		if more := anonymous(shell) - before; more > 16<<20 {
			t.Errorf("it has %d bytes more", more)
		}
		shell.EndsWith(0)
	}
}

// anonymous returns how many bytes of the program's memory are no file's.
func anonymous(s *harness.Process) (bytes int64) {
	s.T.Helper()
	return memory(s, "RssAnon:")
}

// memory returns what /proc says of the program's memory in that field.
func memory(s *harness.Process, field string) (bytes int64) {
	s.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Command.Process.Pid))
	if err != nil {
		s.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), field)
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		s.T.Fatalf("%v: %s", err, status)
	}
	return bytes << 10
}
