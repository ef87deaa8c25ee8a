package hosts_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestRemoteSQL: a database in a store does what a stock one does, in Python: see
// test/hosts/remotesql.py. VERNEUIL_SEED sets the seed of the random workloads.
func TestRemoteSQL(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	all := []string{"workloads", "journals", "attach", "copies", "spill", "locks", "names",
		"forked", "interrupted", "unsynced", "threads", "keptlock"}
	for _, store := range []struct {
		name  string
		site  func(t *testing.T) *harness.Site
		cases []string
	}{
		{"dir", harness.DirSite, all},
		{"s3", harness.MinioSite,
			[]string{"workloads", "attach", "copies", "locks", "unsynced", "threads"}},
	} {
		t.Run(store.name, func(t *testing.T) {
			s := store.site(t)
			inStore(s, nil)
			seed := harness.Number(t, "VERNEUIL_SEED", rand.IntN(1<<30))
			t.Logf("VERNEUIL_SEED=%d", seed)
			for _, name := range store.cases {
				t.Run(name, func(t *testing.T) {
					r := harness.Run(t, []string{s.Env()}, harness.Python,
						harness.InHosts("remotesql.py"), harness.Library(t), "st", s.Path(name),
						name, fmt.Sprint(seed))
					if r.Stdout != "ok\n" || r.Code != 0 || strings.Contains(r.Stderr, "panic") {
						t.Errorf("exit code %d, %q: %.9000s", r.Code, r.Stdout, r.Stderr)
					}
				})
			}
		})
	}
}

// inStore configures the site for databases in the store "st", which is its target.
func inStore(s *harness.Site, more map[string]any) {
	s.T.Helper()
	config := map[string]any{
		"make_default": false, "replication_spooling_dir": nil, "replication_targets": nil,
		"tempdir": s.Dir, "stores": map[string]any{"st": s.Targets[0]},
	}
	maps.Copy(config, more)
	s.Configure(config)
}

// remoteShell starts a shell with a database in the store, as on a machine of its own: with another
// tempdir.
func remoteShell(s *harness.Site, tempdir string) *harness.Process {
	s.T.Helper()
	harness.Must(s.T, os.MkdirAll(s.Path(tempdir), 0o700))
	inStore(s, map[string]any{"tempdir": s.Path(tempdir), "lease_timeout_ms": 1000,
		"lease_renewal_ms": 200, "lease_linger_ms": 200})
	shell := s.Shell("")
	shell.Must(".open file:///st/a.db?vfs=verneuil_remote")
	shell.Must(".timeout 600000")
	return shell
}

// TestRemoteExclusiveIsTakenOver: who keeps an EXCLUSIVE lock, sleeps, and was taken for dead, gets
// an error, and nothing that he was told is stored is lost, nor is anything stored that failed. In
// a rollback mode he goes on, once the other one lets him; a WAL is to be opened anew.
func TestRemoteExclusiveIsTakenOver(t *testing.T) {
	for _, journal := range []string{"delete", "persist", "memory", "off", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			a := remoteShell(s, "a")
			a.Ask("pragma locking_mode=exclusive;")
			a.Want("pragma journal_mode="+journal+";", journal)
			a.Must("create table t(a); insert into t values(1);")
			harness.Must(t, a.Command.Process.Signal(syscall.SIGSTOP))
			b := remoteShell(s, "b")
			b.Must("insert into t values(2);")
			harness.Must(t, a.Command.Process.Signal(syscall.SIGCONT))
			insert := func(value int) bool {
				before := a.Stderr()
				a.Ask(fmt.Sprintf("insert into t values(%d);", value))
				return !strings.Contains(a.Stderr()[len(before):], "rror near line")
			}
			if insert(3) {
				t.Fatalf("who was taken for dead goes on: %s", a.Stderr())
			}
			if journal == "wal" {
				if a.Want("select a from t;", "1"); insert(4) {
					t.Fatalf("a WAL that was taken over goes on: %s", a.Stderr())
				}
				a.Must(".open file:///st/a.db?vfs=verneuil_remote")
			}
			value := 10
			harness.Until(t, "the first one writes again", func() bool {
				value++
				return insert(value)
			})
			want := fmt.Sprintf("1,2,%d", value)
			a.Want("select group_concat(a) from t;", want)
			b.Want("select group_concat(a) from t;", want)
			b.Want("pragma integrity_check;", "ok")
		})
	}
}
