package faults_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"verneuil/spool/faultcall"
	"verneuil/test/e2e/harness"
)

// TestFailedRollback: a transaction has spilled, and its rollback fails as the journal
// cannot be read. What the database holds then was never committed: it is not sent,
// not even by a flush, before somebody has rolled it back.
func TestFailedRollback(t *testing.T) {
	for _, journal := range []string{"delete", "truncate", "persist"} {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			ask := "select count(*), count(distinct b) from t; pragma integrity_check;"
			calm(s).run(script(s, "a.db", []string{
				"pragma journal_mode=" + journal + ";", "create table t(a integer primary key, b);",
				"with recursive n(i) as (select 1 union all select i+1 from n limit 300) insert " +
					"into t(b) select printf('%.*c', 900, 'x') from n;",
				"pragma verneuil_flush_replication_data;",
			}, true), harness.SQLiteShell(t), "-batch")
			broken := &trial{s: s, at: 1, good: true, errno: syscall.ETIMEDOUT,
				ours: func(c faultcall.Call) bool {
					_, err := os.Stat(s.Path("spilled"))
					return err == nil && strings.HasSuffix(c.Path, "a.db-journal") &&
						(c.Name == "read" || c.Name == "pread64")
				}}
			r := broken.run(script(s, "a.db", []string{
				"pragma journal_mode=" + journal + ";", "pragma cache_size=5;",
				"begin; update t set b = a;", ".system touch " + s.Path("spilled"), "rollback;",
				"pragma verneuil_flush_replication_data;",
			}, true), harness.SQLiteShell(t), "-batch")
			if broken.calls == 0 {
				t.Fatalf("the journal was not read: %q, %q", r.Stdout, r.Stderr)
			}
			s.Ctl("-c", s.Config(), "restore", "--force", "-s", s.Path("a.db"), "-o",
				s.Path("copy.db"))
			if got := s.Stock("copy.db", ask); got != "300|1\nok" {
				t.Fatalf("what was sent is no committed state: %q\nthe shell said %q, %q", got,
					r.Stdout, r.Stderr)
			}
			recoversTo(s, ask, "300|1\nok\n")
		})
	}
}

// recoversTo checks that a shell which finds the database answers ask as it should, sends it,
// and that what was sent is the database.
func recoversTo(s *harness.Site, ask, want string) {
	s.T.Helper()
	r := calm(s).run(script(s, "a.db", []string{ask, "pragma verneuil_flush_replication_data;"},
		true), harness.SQLiteShell(s.T), "-batch")
	if r.Stdout != want+"1\n" || r.Code != 0 {
		s.T.Fatalf("afterwards: %q, %s; want %q and a flush", r.Stdout, r.Stderr, want)
	}
	s.MustEqual("a.db")
}

// TestInterruptedAllocation: a signal, such as a profiler's, interrupts the allocation of
// the state and of a segment, as tmpfs has it. Neither is a reason not to record.
func TestInterruptedAllocation(t *testing.T) {
	s := harness.DirSite(t)
	seen := make(map[string]int)
	r := &trial{s: s, at: 1, good: true, errno: syscall.EINTR, log: "error",
		ours: func(c faultcall.Call) bool {
			if c.Name != "fallocate" || !strings.HasPrefix(c.Path, s.Path("spool")) {
				return false
			}
			seen[c.Path]++
			return seen[c.Path] <= 3
		}}
	got := r.run(script(s, "a.db", []string{"create table t(b);",
		"insert into t values(zeroblob(3000000));",
		"pragma verneuil_flush_replication_data;"}, true), harness.SQLiteShell(t), "-batch")
	if got.Stdout != "1\n" || got.Stderr != "" || len(seen) < 4 {
		t.Fatalf("%q, %q; interrupted: %v", got.Stdout, got.Stderr, seen)
	}
	s.MustEqual("a.db")
}

// TestTruncatedSegment: somebody truncates a segment that is mapped, or a file system that copies
// on write has no block for it. It is no SIGBUS: the transaction is not in the log, and is found in
// the database.
func TestTruncatedSegment(t *testing.T) {
	s := harness.DirSite(t)
	cut := false
	r := calm(s)
	r.log = "off"
	r.ours = func(c faultcall.Call) bool {
		if c.Name == "mmap" && strings.Contains(c.Path, "/log.") && !cut {
			cut = true
			if err := syscall.Truncate(c.Path, 0); err != nil {
				panic(fmt.Sprint(c.Path, ": ", err))
			}
		}
		return false
	}
	got := r.run(script(s, "a.db", []string{"create table t(b);",
		"insert into t values(zeroblob(3000000));",
		"select length(b) from t;", "pragma verneuil_flush_replication_data;"}, true),
		harness.SQLiteShell(t), "-batch")
	if got.Stdout != "3000000\n1\n" || got.Code != 0 || !cut {
		t.Fatalf("%q, %q, exit code %d", got.Stdout, got.Stderr, got.Code)
	}
	s.MustEqual("a.db")
}

// TestFailedCommitOfWAL: with the wal-index on the heap, a commit fails as the WAL cannot be
// synced. Its frames are valid, but nothing says that they are committed: not a transaction
// that writes nothing, nor a flush. The next commit writes over them.
func TestFailedCommitOfWAL(t *testing.T) {
	const flush = "pragma verneuil_flush_replication_data;"
	for name, between := range map[string][]string{
		"at once": nil, "nothing": {"begin immediate; commit;"}, "flushed": {flush},
		"nothing, flushed": {"begin immediate; commit;", flush},
	} {
		for _, next := range []string{"update t set b = 'second';",
			"begin; create table u(a); update t set b = 'second'; commit;"} {
			t.Run(name, func(t *testing.T) {
				s := harness.DirSite(t)
				failing := &trial{s: s, at: 1, good: true, errno: syscall.EIO,
					ours: func(c faultcall.Call) bool {
						_, err := os.Stat(s.Path("failing"))
						return err == nil && strings.HasSuffix(c.Path, "a.db-wal") &&
							strings.HasSuffix(c.Name, "sync")
					}}
				lines := []string{
					"pragma locking_mode=exclusive;", "pragma journal_mode=wal;",
					"pragma synchronous=full;",
					"create table t(a integer primary key, b);",
					"insert into t(b) values('first');", flush,
					".system touch " + s.Path("failing"), "update t set b = 'undone';",
					".system rm " + s.Path("failing"),
				}
				lines = append(lines, between...)
				lines = append(lines, ".system "+restoring(s, "between.db"), next, flush,
					".system "+restoring(s, "after.db"))
				r := failing.run(script(s, "a.db", lines, true), harness.SQLiteShell(t), "-batch")
				if failing.strikes != 1 || !strings.Contains(r.Stderr, "I/O error") {
					t.Fatalf("%d syncs failed: %q, %q", failing.strikes, r.Stdout, r.Stderr)
				}
				for copied, want := range map[string]string{"between.db": "first",
					"after.db": "second"} {
					if got := s.Stock(copied,
						"select b from t; pragma integrity_check;"); got != want+"\nok" {
						t.Errorf("%s: what was sent says %q: %q, %q", copied, got, r.Stdout,
							r.Stderr)
					}
				}
				recoversTo(s, "select b from t;", "second\n")
			})
		}
	}
}

// restoring is the command that restores what was sent of the site's database.
func restoring(s *harness.Site, to string) string {
	return fmt.Sprintf("%s -c %s restore --force -s %s -o %s", harness.Built(s.T, "VERNEUIL_CTL"),
		s.Config(), s.Path("a.db"), s.Path(to))
}
