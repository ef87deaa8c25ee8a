package hosts_test

import (
	"testing"

	"verneuil/test/e2e/harness"
)

// guarded starts a shell in which the VFS of test/hosts/guardvfs.c stands above the VFS called
// over; where says on which side of a name nothing can be read.
func guarded(s *harness.Site, db, over, where string, env ...string) *harness.Process {
	env = append(env, "GUARD="+where, "GUARD_OVER="+over)
	return stacked(s, db, env, harness.Library(s.T), extension(s, harness.InHosts("guardvfs.c")))
}

// TestNamesOfAnotherShim: a shim above ours opens files by names of its own making. Nothing of
// ours looks before or behind them, as SQLite's functions do for the names that it has made.
func TestNamesOfAnotherShim(t *testing.T) {
	for _, where := range []string{"before", "after"} {
		for _, journal := range harness.Journals {
			t.Run(where+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				var env []string
				if journal == "wal" {
					env = []string{"GUARD_DATABASES=no"}
				}
				shell := guarded(s, s.Path("a.db"), "verneuil", where, env...)
				shell.Want("pragma journal_mode="+journal+";", journal)
				for _, sql := range stackedWork {
					shell.Must(sql)
					shell.Flush()
				}
				shell.Must("attach '" + s.Path("b.db") + "' as b;")
				shell.Must("create table b.t(a);")
				want := shell.Ask("select count(*) from t;")
				shell.EndsWith(0)
				s.Ctl("flush", s.Path("spool"))
				s.MustEqual("a.db")

				name := "file:verneuil://" + harness.Hostname + s.Path("a.db") + "?vfs=guard"
				replica := guarded(s, name, "verneuil_snapshot", where)
				replica.Want("select count(*) from t;", want)
				replica.EndsWith(0)
				plain := guarded(s, s.Path("a.db"), "verneuil_snapshot", where, env...)
				plain.Want("select count(*) from t;", want) // SQLite's own VFS has opened it
				plain.EndsWith(0)
			})
		}
	}
}
