package stores_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// rarely is a configuration by which nothing is sent in time but what somebody waits for.
var rarely = map[string]any{"manifest_interval_ms": 86400000, "durable_timeout_ms": 1200000}

// TestDurable: once COMMIT has returned, the process, the database and the spool may be gone.
func TestDurable(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Configure(rarely)
			const rows = 20
			shell := s.Shell("")
			shell.Must(".open file:" + s.Path("a.db") + "?verneuil_durable=1")
			shell.Want("pragma journal_mode="+journal+";", journal)
			shell.Must("create table t(a integer primary key, b);")
			for range rows {
				shell.Must("insert into t(b) values(randomblob(10000));")
				shell.Want("pragma verneuil_durable_outcome;", "stored")
			}
			shell.Kill()
			for _, gone := range []string{"a.db", "a.db-wal", "a.db-shm", "a.db-journal", "spool"} {
				harness.Must(t, os.RemoveAll(s.Path(gone)))
			}
			s.Ctl("restore", "-s", s.Path("a.db"), "-o", s.Path("restored.db"))
			if got := s.Stock("restored.db", "select count(*) from t",
				"pragma integrity_check"); got != fmt.Sprintf("%d\nok", rows) {
				t.Errorf("of %d durable rows the target has: %s", rows, got)
			}
		})
	}
}

// TestDurableWays: however a connection commits, and whoever it is.
func TestDurableWays(t *testing.T) {
	harness.PythonCan(t, "import sqlite3; sqlite3.Connection.enable_load_extension")
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Configure(rarely)
			r := harness.Run(t, []string{s.Env()}, harness.Python,
				filepath.Join("..", "..", "hosts", "durable.py"), harness.Library(t),
				s.Path("a.db"), journal)
			first := map[string]string{ // to change into WAL mode is a commit
				"delete": "none: no commit of this connection has waited", "wal": "stored",
			}[journal]
			want := "opened: " + first + `
created: stored
transaction: stored
while it reads: stored
of two: stored
the other: stored
mode: off any off on
by pragma: stored
exclusive: stored
exclusive again: stored
forked: stored
wrong: verneuil_durable: "perhaps" is none of on, off, all and any
wrong: []
wrong: unable to open database file
`
			if r.Stdout != want || r.Code != 0 {
				t.Fatalf("exit code %d: %s\nwant: %s\n%s", r.Code, r.Stdout, want, r.Stderr)
			}
			complaint := regexp.MustCompile(`level=(ERROR|WARN) .*`).FindAllString(r.Stderr, -1)
			if len(complaint) != 1 || !strings.Contains(complaint[0], "verneuil_durable=2") {
				t.Errorf("the log has %q", complaint)
			}
		})
	}
}

// TestDurableBlocksNobody: while a commit waits for a store that does not answer, others read what
// it has committed, and commit themselves; and it ends when the store answers.
func TestDurableBlocksNobody(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			proxy := faultproxy.Start(t, miniotest.Start(t))
			s := harness.S3Site(t, proxy.URL)
			s.Configure(rarely)
			other := s.Written("a.db", journal)
			shell := s.Shell("a.db")
			// A commit is seen a moment before its lock is given back, and waits for who reads.
			other.Must(".timeout 1200000")
			shell.Must(".timeout 1200000")
			shell.Want("pragma verneuil_durable=on;", "on")
			shell.Must("insert into t(b) values('before');")
			shell.Want("pragma verneuil_durable_outcome;", "stored")
			held := make(chan struct{})
			proxy.Set(func(int, *http.Request) faultproxy.Fault {
				return faultproxy.Fault{Hold: held}
			})
			shell.Send("insert into t(b) values('waits');")
			harness.Until(t, "the commit is visible", func() bool {
				return other.Ask("select count(*) from t where b='waits';") == "1"
			})
			other.Must("insert into t(b) values('meanwhile');")
			close(held)
			shell.Want("pragma verneuil_durable_outcome;", "stored")
			shell.Want("select count(*) from t where b in ('waits', 'meanwhile');", "2")
		})
	}
}

// TestDurableDeadline: COMMIT does not wait for ever, does not fail, and what has become of it is
// said: by the pragma, by the log, and by verneuil_status(). One of two targets is enough for any.
func TestDurableDeadline(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			proxy := faultproxy.Start(t, miniotest.Start(t))
			s := harness.S3Site(t, proxy.URL)
			s.Targets = append(s.Targets, map[string]any{
				"dir": map[string]any{"path": s.Path("store")}})
			s.Configure(map[string]any{"durable_timeout_ms": 100})
			shell := s.Written("a.db", journal)
			shell.Flush()
			proxy.Set(func(int, *http.Request) faultproxy.Fault {
				return faultproxy.Fault{Status: http.StatusForbidden}
			})
			shell.Want("pragma verneuil_durable=on;", "on")
			shell.Must("insert into t(b) values('late');")
			const late = "not stored: not every target had it within 100 ms " +
				"(durable_timeout_ms)"
			shell.Want("pragma verneuil_durable_outcome;", late)
			if said := shell.Stderr(); !strings.Contains(said, late) {
				t.Errorf("the log does not say so: %s", said)
			}
			shell.Want("select b from t where b='late';", "late")
			s.Configure(map[string]any{"durable_timeout_ms": 1200000})
			patient := s.Shell("a.db")
			patient.Want("pragma verneuil_durable=any;", "any")
			patient.Must("insert into t(b) values('any');")
			patient.Want("pragma verneuil_durable_outcome;", "stored")
			proxy.Set(nil)
			shell.Flush()
			shell.Want("pragma verneuil_durable_outcome;", "stored, but after COMMIT had returned")
			var status struct {
				Durable struct{ Stored, Unconfirmed int }
			}
			shell.Status(&status)
			if status.Durable.Unconfirmed != 1 || status.Durable.Stored != 0 {
				t.Errorf("verneuil_status() counts %+v", status.Durable)
			}
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.MustEqual("a.db")
		})
	}
}
