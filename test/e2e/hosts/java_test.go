package hosts_test

import (
	"syscall"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestJava: in a JVM, threads write to one database, of either kind. The JVM has handlers for the
// signals that Go has handlers for, and needs them; and it ends as it does without us.
func TestJava(t *testing.T) {
	lib := harness.Library(t)
	jdbc, err := harness.JDBC()
	if err != nil {
		t.Skipf("no Java with SQLite ('make deps'): %v", err)
	}
	classes := t.TempDir()
	r := harness.Run(t, nil, "javac", "-d", classes, harness.InHosts("Threads.java"))
	if r.Code != 0 {
		t.Fatalf("javac: %s", r.Stderr)
	}
	for _, mode := range append([]string{"remote"}, harness.Journals...) {
		t.Run(mode, func(t *testing.T) {
			s := harness.DirSite(t)
			name := s.Path("a.db")
			if mode == "remote" {
				s, name = remoteSite(t, "dir")
			}
			h := harness.Start(t, []string{s.Env()}, "java", "-cp", jdbc+":"+classes, "Threads",
				lib, "jdbc:sqlite:"+name, mode)
			says := func(want string) {
				t.Helper()
				if h.Output.Scan(); h.Output.Text() != want {
					t.Fatalf("it says %q, want %q; %s", h.Output.Text(), want, h.Stderr())
				}
			}
			says("80 rows, 40080 caught")
			says("flush 1")
			harness.Must(t, h.Command.Process.Signal(syscall.SIGTERM))
			says("ended")   // its shutdown hook
			h.EndsWith(143) // as a JVM does that is asked to end
			if mode == "remote" {
				s.Ctl("export", "file:///hosts/a.db", s.Path("a.db"))
			} else {
				s.Stock("a.db", "pragma wal_checkpoint(truncate)")
				s.MustEqual("a.db")
			}
			if ok := s.Stock("a.db", "pragma integrity_check",
				"select count(distinct b) from t"); ok != "ok\n80" {
				t.Errorf("the database says %q", ok)
			}
		})
	}
}
