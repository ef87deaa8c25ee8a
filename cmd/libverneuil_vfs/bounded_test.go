package main_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// number is a knob: how much of something a test does.
func number(t *testing.T, variable string, byDefault int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s", variable, text)
	}
	return n
}

// TestBounded: with the store out of reach, the spool stays within its bound whatever is
// committed; when the store is back, everything arrives. VERNEUIL_COMMITS (5,000) is the
// number of commits in each mode.
func TestBounded(t *testing.T) {
	commits := number(t, "VERNEUIL_COMMITS", 5000)
	for _, journal := range []string{"delete", "wal", "delete+exclusive", "wal+exclusive"} {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			s.write("store", []byte("in its way: no directory can be made here"))
			shell, most := s.bounded(journal), int64(0)
			for done := 0; done < commits; {
				if done%50000 == 49500 { // another process goes on: none may run for long
					shell.endsWith(0)
					shell = s.bounded(journal)
				}
				shell.must(batch(done))
				done += batchCommits
				used, database := s.blocks("spool"), s.blocks("a.db")
				most = max(most, used)
				if bound := 2*database + 64<<20 + 8<<20; used > bound {
					t.Fatalf("after %d commits the spool takes %d bytes, more than %d: the database %d", done, used, bound, database)
				}
			}
			t.Logf("%d commits, spool at most %d bytes, database %d", commits, most, s.blocks("a.db"))
			if err := os.Remove(s.path("store")); err != nil {
				t.Fatal(err)
			}
			shell.flush()
			shell.endsWith(0)
			s.mustEqual("a.db")
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
	b.WriteString("begin; with recursive n(i) as (select 5000 union all select i+1 from n limit 2000)" +
		" insert or replace into t select i, printf('%.*c', 1000, 's') from n; commit;")
	return b.String()
}

// bounded starts a shell that has a.db open in a journal mode, and spills soon.
func (s *site) bounded(journal string) *session {
	s.t.Helper()
	shell := s.shell("a.db")
	mode, locking, _ := strings.Cut(journal, "+")
	if locking != "" {
		shell.ask("pragma locking_mode=exclusive;")
	}
	shell.want("pragma journal_mode="+mode+";", mode)
	shell.must("pragma synchronous=off; pragma cache_size=5; create table if not exists t(a integer primary key, b);")
	return shell
}

// blocks returns how much disk a file or directory takes.
func (s *site) blocks(name string) (sum int64) {
	s.t.Helper()
	err := filepath.WalkDir(s.path(name), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // the replicator deletes meanwhile
		}
		if info, err := e.Info(); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return sum
}

// TestManyDatabases: a process with many databases open and idle stays small, makes no
// requests, and has descriptors left; where they do not suffice, it can open what it
// could without us. VERNEUIL_DATABASES (100) is their number.
func TestManyDatabases(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	n := number(t, "VERNEUIL_DATABASES", 100)
	s := dirSite(t)
	r := run(t, []string{s.env(), "VERNEUIL_LOG=off"}, python, inHosts("many.py"), library(t), s.dir, strconv.Itoa(n), "0")
	if r.code != 0 {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	t.Log(strings.TrimSpace(r.stdout))
}

// TestFewDescriptors: with RLIMIT_NOFILE at 256 a process can open 200 databases, as it
// could without us, and is told which are not replicated, and why.
func TestFewDescriptors(t *testing.T) {
	pythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	s := dirSite(t)
	r := run(t, []string{s.env(), "VERNEUIL_LOG=off"}, python, inHosts("many.py"), library(t), s.dir, "120", "256")
	if r.code != 0 || !strings.Contains(r.stdout, "RLIMIT_NOFILE") {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	t.Log(strings.TrimSpace(r.stdout))
}

// TestReplicaMemory: a process that reads a row of a replica has a few MiB more for it.
func TestReplicaMemory(t *testing.T) {
	s := dirSite(t)
	s.stock("a.db", "create table t(a integer primary key, b); insert into t(b) values(randomblob(3000000)), ('small');")
	s.ctl("sync", s.path("a.db"))
	for range 4 { // what one process touches may depend on what its heap looks like
		shell := s.shell("")
		before := shell.anonymous()
		shell.must(".open 'file:verneuil://" + hostname + s.path("a.db") + "?vfs=verneuil_snapshot'")
		shell.want("select b from t where a=2;", "small")
		if more := shell.anonymous() - before; more > 16<<20 {
			t.Errorf("it has %d bytes more", more)
		}
		shell.endsWith(0)
	}
}

// anonymous returns how many bytes of the program's memory are no file's.
func (s *session) anonymous() (bytes int64) {
	s.t.Helper()
	return s.memory("RssAnon:")
}

// memory returns what /proc says of the program's memory in that field.
func (s *session) memory(field string) (bytes int64) {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), field)
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		s.t.Fatalf("%v: %s", err, status)
	}
	return bytes << 10
}
